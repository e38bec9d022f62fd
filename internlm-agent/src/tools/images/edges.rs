//! Edges by Canny's method (IEEE PAMI 8, 1986), in the form that OpenCV's `Canny` made usual: Sobel's derivatives,
//! the sum of their absolute values as the strength of an edge, the strongest of three across an edge, and two
//! thresholds, of which the lower one holds for what touches an edge above the higher one.

use image::{DynamicImage, GrayImage, ImageFormat, Luma};
use schemars::JsonSchema;
use serde::Deserialize;

use super::ImageConfig;
use super::file::{load, save};
use crate::tool::{ToolError, TypedTool, tool};
use crate::tools::Root;

/// Finds the edges in an image with Canny's method, and draws them white on black.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct DetectEdges {
    /// The path of the image.
    pub path: String,
    /// Edges weaker than this are dropped; 100 without it.
    #[serde(default)]
    pub low: Option<u32>,
    /// Edges stronger than this are kept, with weaker ones that touch them; 200 without it.
    #[serde(default)]
    pub high: Option<u32>,
    /// How far to blur first, in pixels, against noise; 0 is not at all, 10 the most.
    #[serde(default)]
    pub blur: f32,
    /// Where to write the result; without it, beside the image.
    #[serde(default)]
    pub output: Option<String>,
}

/// The tool `image_edges`.
pub fn image_edges(root: &Root, config: &ImageConfig) -> TypedTool {
    const NAME: &str = "image_edges";
    let (root, config) = (root.clone(), config.clone());
    tool(NAME, move |edges: DetectEdges| {
        let (low, high) = (edges.low.unwrap_or(100), edges.high.unwrap_or(200));
        let wrong = |what: &str| ToolError::Arguments {
            tool: NAME.to_owned(),
            what: what.to_owned(),
        };
        if low > high {
            return Err(wrong("`low` must not be above `high`"));
        }
        if !(0.0..=10.0).contains(&edges.blur) {
            return Err(wrong("`blur` must be from 0 to 10"));
        }
        let mut luma = load(&root, &edges.path, &config)?.image.to_luma8();
        if edges.blur > 0.0 {
            luma = image::imageops::blur(&luma, edges.blur);
        }
        let found = DynamicImage::ImageLuma8(canny(&luma, low, high));
        save(
            &root,
            &edges.path,
            "edges",
            edges.output.as_deref(),
            &found,
            ImageFormat::Png,
        )
    })
}

/// What a pixel may be.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    None,
    /// An edge if it touches one.
    Weak,
    Edge,
}

/// The edges of an image: 255 where there is one, else 0.
///
/// The strength of an edge is the sum of the absolute values of both derivatives, so a step from black to white is
/// 1020. Those above `high` are edges, and those above `low` that touch edges, corners included.
pub fn canny(image: &GrayImage, low: u32, high: u32) -> GrayImage {
    let (width, height) = image.dimensions();
    let (columns, rows) = (width as usize, height as usize);
    let (across, down) = sobel(image);
    let at = |x: usize, y: usize| y * columns + x;
    let strength: Vec<u32> = across
        .iter()
        .zip(&down)
        .map(|(a, d)| u32::from(a.unsigned_abs()) + u32::from(d.unsigned_abs()))
        .collect();
    // Outside there is nothing.
    let of = |x: isize, y: isize| match (usize::try_from(x), usize::try_from(y)) {
        (Ok(x), Ok(y)) if x < columns && y < rows => strength[at(x, y)],
        _ => 0,
    };
    let mut kinds = vec![Kind::None; strength.len()];
    let mut open = Vec::new();
    for y in 0..rows {
        for x in 0..columns {
            let here = strength[at(x, y)];
            if here <= low {
                continue;
            }
            let (a, d) = (i32::from(across[at(x, y)]), i32::from(down[at(x, y)]));
            let (dx, dy) = direction(a, d);
            let (x_at, y_at) = (x as isize, y as isize);
            let before = of(x_at - dx, y_at - dy);
            let after = of(x_at + dx, y_at + dy);
            // Of equal ones in a row the first counts, so that a line is thin; in diagonals both sides must be less.
            let thin = match dx != 0 && dy != 0 {
                true => here > before && here > after,
                false => here > before && here >= after,
            };
            if thin {
                kinds[at(x, y)] = Kind::Weak;
                if here > high {
                    kinds[at(x, y)] = Kind::Edge;
                    open.push((x, y));
                }
            }
        }
    }
    while let Some((x, y)) = open.pop() {
        for near_y in y.saturating_sub(1)..=(y + 1).min(rows - 1) {
            for near_x in x.saturating_sub(1)..=(x + 1).min(columns - 1) {
                let near = &mut kinds[at(near_x, near_y)];
                if *near == Kind::Weak {
                    *near = Kind::Edge;
                    open.push((near_x, near_y));
                }
            }
        }
    }
    GrayImage::from_fn(width, height, |x, y| {
        let kind = kinds[at(x as usize, y as usize)];
        Luma([if kind == Kind::Edge { 255 } else { 0 }])
    })
}

/// The step across an edge: along its derivative, in one of eight directions.
fn direction(across: i32, down: i32) -> (isize, isize) {
    let (a, d) = (across.abs(), down.abs());
    // tan(22.5°) = 0.4142, tan(67.5°) = 2.4142.
    if d * 10_000 < a * 4_142 {
        (1, 0)
    } else if d * 10_000 > a * 24_142 {
        (0, 1)
    } else if (across < 0) == (down < 0) {
        (1, 1)
    } else {
        (1, -1)
    }
}

/// Both derivatives by Sobel's masks of 3 x 3; beyond the border the image goes on as its last pixel.
fn sobel(image: &GrayImage) -> (Vec<i16>, Vec<i16>) {
    let (width, height) = image.dimensions();
    let (columns, rows) = (width as usize, height as usize);
    let pixels = image.as_raw();
    let mut across = Vec::with_capacity(pixels.len());
    let mut down = Vec::with_capacity(pixels.len());
    for y in 0..rows {
        let (above, below) = (y.saturating_sub(1), (y + 1).min(rows - 1));
        for x in 0..columns {
            let (left, right) = (x.saturating_sub(1), (x + 1).min(columns - 1));
            let pixel = |x: usize, y: usize| i16::from(pixels[y * columns + x]);
            across.push(
                pixel(right, above) - pixel(left, above)
                    + 2 * (pixel(right, y) - pixel(left, y))
                    + pixel(right, below)
                    - pixel(left, below),
            );
            down.push(
                pixel(left, below) - pixel(left, above)
                    + 2 * (pixel(x, below) - pixel(x, above))
                    + pixel(right, below)
                    - pixel(right, above),
            );
        }
    }
    (across, down)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawn(rows: &[&str]) -> GrayImage {
        GrayImage::from_fn(rows[0].len() as u32, rows.len() as u32, |x, y| {
            let sign = rows[y as usize].as_bytes()[x as usize];
            Luma([if sign == b'#' { 255 } else { 0 }])
        })
    }

    fn shown(image: &GrayImage) -> Vec<String> {
        let show = |pixel: &Luma<u8>| if pixel.0[0] == 255 { '#' } else { '.' };
        image.rows().map(|row| row.map(show).collect()).collect()
    }

    #[test]
    fn a_step_is_one_line() {
        let step = drawn(&["....####"; 6]);
        assert_eq!(shown(&canny(&step, 100, 200)), ["...#...."; 6]);
        let step = drawn(&["######", "######", "######", "......", "......", "......"]);
        let want = ["......", "......", "######", "......", "......", "......"];
        assert_eq!(shown(&canny(&step, 100, 200)), want);
    }

    #[test]
    fn a_square_has_a_closed_outline() {
        let rows: Vec<String> = (0..20)
            .map(|y| {
                (0..20)
                    .map(|x| {
                        if (5..15).contains(&x) && (5..15).contains(&y) {
                            '#'
                        } else {
                            '.'
                        }
                    })
                    .collect()
            })
            .collect();
        let rows: Vec<&str> = rows.iter().map(String::as_str).collect();
        let edges = canny(&drawn(&rows), 100, 200);
        // The middle of each side is one pixel thick, just at the step.
        for i in 7..13 {
            let across: Vec<u32> = (0..20)
                .filter(|&x| edges.get_pixel(x, i).0[0] > 0)
                .collect();
            let down: Vec<u32> = (0..20)
                .filter(|&y| edges.get_pixel(i, y).0[0] > 0)
                .collect();
            assert_eq!((across, down), (vec![4, 14], vec![4, 14]), "{i}");
        }
        // Nothing inside and outside.
        assert!((7..13).all(|x| (7..13).all(|y| edges.get_pixel(x, y).0[0] == 0)));
        assert!((0..20).all(|i| edges.get_pixel(i, 1).0[0] == 0));
    }

    #[test]
    fn weak_edges_count_where_they_touch_strong_ones() {
        // A step that fades from top to bottom: 4 times the difference is its strength.
        let image = GrayImage::from_fn(8, 12, |x, y| {
            let gray = 120 - 10 * y as u8;
            Luma([if x < 4 { 0 } else { gray }])
        });
        let rows = |low, high| {
            let edges = canny(&image, low, high);
            (0..12)
                .filter(|&y| (2..6).any(|x| edges.get_pixel(x, y).0[0] > 0))
                .count()
        };
        let (strict, kept, none) = (rows(300, 300), rows(100, 300), rows(100, 2_000));
        assert!(strict < kept && kept <= 12 && strict > 0, "{strict} {kept}");
        assert_eq!(none, 0);
    }

    #[test]
    fn flat_and_tiny_images_have_none() {
        for (width, height) in [(1, 1), (1, 9), (9, 1), (2, 2), (30, 30)] {
            let flat = GrayImage::from_pixel(width, height, Luma([77]));
            assert!(
                canny(&flat, 0, 0).pixels().all(|pixel| pixel.0[0] == 0),
                "{width} {height}"
            );
        }
        assert_eq!(canny(&GrayImage::new(0, 0), 1, 2).dimensions(), (0, 0));
    }
}
