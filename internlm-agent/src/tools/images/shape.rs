//! Size, part, turn and format of an image.

use image::imageops::FilterType;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::ImageConfig;
use super::file::{by_ending, load, name, save};
use crate::tool::{ToolError, TypedTool, tool};
use crate::tools::Root;

fn wrong(tool: &str, what: impl Into<String>) -> ToolError {
    ToolError::Arguments {
        tool: tool.to_owned(),
        what: what.into(),
    }
}

/// Tells the width, height, format and colors of an image.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct ImageInfo {
    /// The path of the image.
    pub path: String,
}

/// The tool `image_info`.
pub fn image_info(root: &Root, config: &ImageConfig) -> TypedTool {
    let (root, config) = (root.clone(), config.clone());
    tool("image_info", move |arguments: ImageInfo| {
        let loaded = load(&root, &arguments.path, &config)?;
        let color = loaded.image.color();
        Ok(json!({
            "width": loaded.image.width(),
            "height": loaded.image.height(),
            "format": name(loaded.format),
            "bytes": loaded.bytes,
            "color": if color.has_color() { "color" } else { "gray" },
            "transparency": color.has_alpha(),
            "bits_per_channel": color.bits_per_pixel() / u16::from(color.channel_count()),
        }))
    })
}

/// Cuts a rectangle out of an image. Pixels count from the upper left corner, from 0.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct CropImage {
    /// The path of the image.
    pub path: String,
    /// The first column.
    pub x: u32,
    /// The first row.
    pub y: u32,
    /// How many columns.
    pub width: u32,
    /// How many rows.
    pub height: u32,
    /// Where to write the result; without it, beside the image.
    #[serde(default)]
    pub output: Option<String>,
}

/// The tool `image_crop`.
pub fn image_crop(root: &Root, config: &ImageConfig) -> TypedTool {
    const NAME: &str = "image_crop";
    let (root, config) = (root.clone(), config.clone());
    tool(NAME, move |crop: CropImage| {
        let loaded = load(&root, &crop.path, &config)?;
        let (width, height) = (loaded.image.width(), loaded.image.height());
        let within = |start: u32, length: u32, side: u32| {
            length > 0 && start.checked_add(length).is_some_and(|end| end <= side)
        };
        if !within(crop.x, crop.width, width) || !within(crop.y, crop.height, height) {
            let what = format!(
                "the rectangle must have pixels and lie within the image of {width} x {height} pixels"
            );
            return Err(wrong(NAME, what));
        }
        let part = loaded
            .image
            .crop_imm(crop.x, crop.y, crop.width, crop.height);
        save(
            &root,
            &crop.path,
            "crop",
            crop.output.as_deref(),
            &part,
            loaded.format,
        )
    })
}

/// What happens when the sides have another ratio than the image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum Fit {
    /// The image keeps its ratio and is as large as it can be within the sides.
    #[default]
    Within,
    /// The image keeps its ratio and fills the sides; what is too much is cut off.
    Fill,
    /// The image is stretched.
    Stretch,
}

/// Makes an image larger or smaller.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct ResizeImage {
    /// The path of the image.
    pub path: String,
    /// The new width; without it, what the height and the ratio make it.
    #[serde(default)]
    pub width: Option<u32>,
    /// The new height; without it, what the width and the ratio make it.
    #[serde(default)]
    pub height: Option<u32>,
    /// What happens when width and height have another ratio than the image.
    #[serde(default)]
    pub fit: Fit,
    /// Where to write the result; without it, beside the image.
    #[serde(default)]
    pub output: Option<String>,
}

/// The tool `image_resize`.
pub fn image_resize(root: &Root, config: &ImageConfig) -> TypedTool {
    const NAME: &str = "image_resize";
    let (root, config) = (root.clone(), config.clone());
    tool(NAME, move |resize: ResizeImage| {
        if resize.width == Some(0) || resize.height == Some(0) {
            return Err(wrong(NAME, "a side must be at least 1"));
        }
        let loaded = load(&root, &resize.path, &config)?;
        let image = &loaded.image;
        let (width, height) = (image.width(), image.height());
        let ratio = |given: u32, own: u32, other: u32| {
            let side = u64::from(given) * u64::from(other) / u64::from(own.max(1));
            u32::try_from(side).unwrap_or(u32::MAX).max(1)
        };
        let (new_width, new_height) = match (resize.width, resize.height) {
            (None, None) => return Err(wrong(NAME, "`width` or `height` is needed")),
            (Some(new), None) => (new, ratio(new, width, height)),
            (None, Some(new)) => (ratio(new, height, width), new),
            (Some(new_width), Some(new_height)) => (new_width, new_height),
        };
        config.check(new_width, new_height)?;
        // Filling makes the whole image first, then cuts.
        if resize.fit == Fit::Fill {
            let taller =
                u64::from(new_width) * u64::from(height) > u64::from(new_height) * u64::from(width);
            match taller {
                true => config.check(new_width, ratio(new_width, width, height))?,
                false => config.check(ratio(new_height, height, width), new_height)?,
            }
        }
        let filter = FilterType::Lanczos3;
        let resized = match resize.fit {
            Fit::Within => image.resize(new_width, new_height, filter),
            Fit::Fill => image.resize_to_fill(new_width, new_height, filter),
            Fit::Stretch => image.resize_exact(new_width, new_height, filter),
        };
        save(
            &root,
            &resize.path,
            "resize",
            resize.output.as_deref(),
            &resized,
            loaded.format,
        )
    })
}

/// Turns an image by quarters, or mirrors it.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct RotateImage {
    /// The path of the image.
    pub path: String,
    /// By how many degrees, clockwise: a multiple of 90.
    #[serde(default)]
    pub degrees: i32,
    /// Whether to exchange left and right, after turning.
    #[serde(default)]
    pub mirror: bool,
    /// Where to write the result; without it, beside the image.
    #[serde(default)]
    pub output: Option<String>,
}

/// The tool `image_rotate`.
pub fn image_rotate(root: &Root, config: &ImageConfig) -> TypedTool {
    const NAME: &str = "image_rotate";
    let (root, config) = (root.clone(), config.clone());
    tool(NAME, move |rotate: RotateImage| {
        if rotate.degrees % 90 != 0 {
            return Err(wrong(NAME, "`degrees` must be a multiple of 90"));
        }
        let loaded = load(&root, &rotate.path, &config)?;
        let turned = match rotate.degrees.rem_euclid(360) {
            90 => loaded.image.rotate90(),
            180 => loaded.image.rotate180(),
            270 => loaded.image.rotate270(),
            _ => loaded.image,
        };
        let turned = match rotate.mirror {
            true => turned.fliph(),
            false => turned,
        };
        save(
            &root,
            &rotate.path,
            "rotate",
            rotate.output.as_deref(),
            &turned,
            loaded.format,
        )
    })
}

/// Writes an image in another format, which the ending of the new path says: png, jpg, webp, gif or bmp.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct ConvertImage {
    /// The path of the image.
    pub path: String,
    /// Where to write the result.
    pub output: String,
    /// Whether to make it gray.
    #[serde(default)]
    pub gray: bool,
}

/// The tool `image_convert`.
pub fn image_convert(root: &Root, config: &ImageConfig) -> TypedTool {
    let (root, config) = (root.clone(), config.clone());
    tool("image_convert", move |convert: ConvertImage| {
        let format = by_ending(&convert.output)?;
        let loaded = load(&root, &convert.path, &config)?;
        let image = match convert.gray {
            true => loaded.image.grayscale(),
            false => loaded.image,
        };
        save(
            &root,
            &convert.path,
            "convert",
            Some(&convert.output),
            &image,
            format,
        )
    })
}
