//! Rectangles with labels, as detectors of objects want them shown.

use image::{DynamicImage, ImageFormat, Rgba, RgbaImage};
use schemars::JsonSchema;
use serde::Deserialize;

use super::ImageConfig;
use super::file::{load, save};
use super::letters;
use crate::tool::{ToolError, TypedTool, tool};
use crate::tools::Root;

/// Draws rectangles into an image, with labels if they have some.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct DrawBoxes {
    /// The path of the image.
    pub path: String,
    /// The rectangles.
    pub boxes: Vec<LabelledBox>,
    /// How many pixels their lines are thick; without it, as the image's size suggests.
    #[serde(default)]
    pub thickness: Option<u32>,
    /// Where to write the result; without it, beside the image.
    #[serde(default)]
    pub output: Option<String>,
}

/// A rectangle by two corners. Pixels count from the upper left corner of the image, from 0.
#[derive(Debug, Deserialize, JsonSchema)]
#[schemars(inline)]
pub struct LabelledBox {
    /// The left column.
    pub x1: i32,
    /// The upper row.
    pub y1: i32,
    /// The right column.
    pub x2: i32,
    /// The lower row.
    pub y2: i32,
    /// A label: letters A to Z, digits and a few signs are drawn.
    #[serde(default)]
    pub label: Option<String>,
    /// The color, such as `#ff0000`; without it, each box has another one.
    #[serde(default)]
    pub color: Option<String>,
}

/// Colors that differ for most eyes, on most images.
const COLORS: [[u8; 3]; 8] = [
    [230, 25, 75],
    [60, 180, 75],
    [0, 130, 200],
    [245, 130, 48],
    [145, 30, 180],
    [70, 240, 240],
    [240, 50, 230],
    [210, 245, 60],
];

/// Most letters of a label.
const LABEL: usize = 60;

/// The tool `image_draw_boxes`.
pub fn image_draw_boxes(root: &Root, config: &ImageConfig) -> TypedTool {
    const NAME: &str = "image_draw_boxes";
    let (root, config) = (root.clone(), config.clone());
    tool(NAME, move |draw: DrawBoxes| {
        let wrong = |what: String| ToolError::Arguments {
            tool: NAME.to_owned(),
            what,
        };
        if draw.boxes.len() > config.max_boxes {
            return Err(ToolError::Limit {
                what: format!(
                    "{} boxes; {} are allowed",
                    draw.boxes.len(),
                    config.max_boxes
                ),
            });
        }
        let mut colors = Vec::new();
        for (number, item) in draw.boxes.iter().enumerate() {
            if item.x1 > item.x2 || item.y1 > item.y2 {
                let what = format!("`boxes[{number}]` must have x1 <= x2 and y1 <= y2");
                return Err(wrong(what));
            }
            let usual = COLORS[number % COLORS.len()];
            colors.push(match &item.color {
                None => usual,
                Some(text) => color(text).ok_or_else(|| {
                    wrong(format!("`boxes[{number}].color` must be like `#ff0000`"))
                })?,
            });
        }
        let loaded = load(&root, &draw.path, &config)?;
        let mut image = loaded.image.to_rgba8();
        let usual = (image.width().max(image.height()) / 400).clamp(1, 8);
        let thickness = draw.thickness.unwrap_or(usual).clamp(1, 64);
        for (item, color) in draw.boxes.iter().zip(colors) {
            rectangle(&mut image, item, thickness, color);
        }
        for (item, color) in draw.boxes.iter().zip(COLORS.iter().cycle()) {
            let color = item
                .color
                .as_deref()
                .and_then(self::color)
                .unwrap_or(*color);
            if let Some(text) = item.label.as_deref().filter(|text| !text.trim().is_empty()) {
                label(&mut image, item, text, thickness, color);
            }
        }
        let format = match loaded.format {
            // Lines and letters would lose their colors.
            ImageFormat::Gif => ImageFormat::Png,
            format => format,
        };
        let drawn = DynamicImage::ImageRgba8(image);
        save(
            &root,
            &draw.path,
            "boxes",
            draw.output.as_deref(),
            &drawn,
            format,
        )
    })
}

fn color(text: &str) -> Option<[u8; 3]> {
    let digits = text.strip_prefix('#')?;
    if digits.len() != 6 || !digits.is_ascii() {
        return None;
    }
    let channel = |at: usize| u8::from_str_radix(&digits[at..at + 2], 16).ok();
    Some([channel(0)?, channel(2)?, channel(4)?])
}

/// Fills columns and rows, both ends included, as far as the image has them.
fn fill(image: &mut RgbaImage, x: [i64; 2], y: [i64; 2], color: [u8; 3]) {
    let [red, green, blue] = color;
    let (width, height) = (i64::from(image.width()), i64::from(image.height()));
    for row in y[0].max(0)..=y[1].min(height - 1) {
        for column in x[0].max(0)..=x[1].min(width - 1) {
            // Both are within the image, so they fit.
            image.put_pixel(column as u32, row as u32, Rgba([red, green, blue, 255]));
        }
    }
}

/// Lines within the rectangle.
fn rectangle(image: &mut RgbaImage, item: &LabelledBox, thickness: u32, color: [u8; 3]) {
    let thick = i64::from(thickness) - 1;
    let [x1, y1, x2, y2] = [item.x1, item.y1, item.x2, item.y2].map(i64::from);
    fill(image, [x1, x2], [y1, (y1 + thick).min(y2)], color);
    fill(image, [x1, x2], [(y2 - thick).max(y1), y2], color);
    fill(image, [x1, (x1 + thick).min(x2)], [y1, y2], color);
    fill(image, [(x2 - thick).max(x1), x2], [y1, y2], color);
}

/// A label above the rectangle, or within if there is no place.
fn label(image: &mut RgbaImage, item: &LabelledBox, text: &str, thickness: u32, color: [u8; 3]) {
    let scale = i64::from(thickness.clamp(1, 8)) + 1;
    let text: String = text.chars().take(LABEL).collect();
    let (width, height) = letters::size(&text, scale);
    let (width, height) = (width + 2 * scale, height + 2 * scale);
    let x = i64::from(item.x1).max(0);
    let y = match i64::from(item.y1) - height {
        above if above >= 0 => above,
        _ => i64::from(item.y1).max(0),
    };
    fill(image, [x, x + width - 1], [y, y + height - 1], color);
    let [red, green, blue] = color.map(u32::from);
    // What is readable on the color, by its luma (BT.601).
    let ink = match red * 299 + green * 587 + blue * 114 > 140_000 {
        true => [0; 3],
        false => [255; 3],
    };
    letters::draw(&text, x + scale, y + scale, scale, &mut |x, y| {
        fill(image, [x, x + scale - 1], [y, y + scale - 1], ink);
    });
}
