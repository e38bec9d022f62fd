//! Images from files and to files.

use std::io::Cursor;

use image::{
    DynamicImage, ImageDecoder, ImageError, ImageFormat, ImageReader, Limits, Rgba, RgbaImage,
};
use serde_json::json;

use super::ImageConfig;
use crate::tool::{Media, MediaSource, OutputPart, ToolError, ToolOutput};
use crate::tools::Root;

/// An image, upright, with the format that it had.
pub(super) struct Loaded {
    pub(super) image: DynamicImage,
    pub(super) format: ImageFormat,
    /// Bytes of the file.
    pub(super) bytes: usize,
}

/// Formats that are read and written, with the endings of their files.
const FORMATS: [(ImageFormat, &str, &[&str]); 5] = [
    (ImageFormat::Png, "png", &["png"]),
    (ImageFormat::Jpeg, "jpeg", &["jpg", "jpeg"]),
    (ImageFormat::WebP, "webp", &["webp"]),
    (ImageFormat::Gif, "gif", &["gif"]),
    (ImageFormat::Bmp, "bmp", &["bmp"]),
];

/// The name of a format.
pub(super) fn name(format: ImageFormat) -> &'static str {
    let found = FORMATS.iter().find(|(known, ..)| *known == format);
    found.map_or("unknown", |(_, name, _)| name)
}

/// Reads an image. Its size is checked before its pixels are decoded.
pub(super) fn load(root: &Root, path: &str, config: &ImageConfig) -> Result<Loaded, ToolError> {
    let bytes = root.read(path, config.max_bytes)?;
    let failed = |error: ImageError| match error {
        ImageError::Limits(_) => ToolError::Limit {
            what: format!("`{path}` takes more memory than allowed"),
        },
        error => ToolError::failed(format!("`{path}` can't be read as an image: {error}")),
    };
    let mut reader = ImageReader::new(Cursor::new(bytes.as_slice())).with_guessed_format()?;
    let format = reader.format().filter(|format| name(*format) != "unknown");
    let Some(format) = format else {
        return Err(ToolError::failed(format!(
            "`{path}` is no image in PNG, JPEG, WebP, GIF or BMP"
        )));
    };
    let mut limits = Limits::default();
    limits.max_image_width = Some(config.max_side);
    limits.max_image_height = Some(config.max_side);
    // Four channels of 16 bits.
    limits.max_alloc = Some(config.max_pixels.saturating_mul(8).max(1 << 20));
    reader.limits(limits);
    let mut decoder = reader.into_decoder().map_err(failed)?;
    let (width, height) = decoder.dimensions();
    config.check(width, height)?;
    let orientation = decoder.orientation().map_err(failed)?;
    let mut image = DynamicImage::from_decoder(decoder).map_err(failed)?;
    image.apply_orientation(orientation);
    Ok(Loaded {
        image,
        format,
        bytes: bytes.len(),
    })
}

/// Writes an image and tells of it. Without a path it gets a name beside its source, and never one that is taken.
pub(super) fn save(
    root: &Root,
    source: &str,
    what: &str,
    output: Option<&str>,
    image: &DynamicImage,
    format: ImageFormat,
) -> Result<ToolOutput, ToolError> {
    let (path, format) = match output {
        Some(path) => (path.to_owned(), by_ending(path)?),
        None => (free_name(root, source, what, format), format),
    };
    let bytes = encode(image, format)?;
    root.write(&path, &bytes)?;
    let facts = json!({"path": path, "width": image.width(), "height": image.height()});
    Ok(ToolOutput::json(facts).with(OutputPart::Image {
        image: Media {
            mime: format.to_mime_type().to_owned(),
            source: MediaSource::Path(path.into()),
        },
    }))
}

/// The format that the ending of a path says.
pub(super) fn by_ending(path: &str) -> Result<ImageFormat, ToolError> {
    let ending = path
        .rsplit_once('.')
        .map_or("", |(_, ending)| ending)
        .to_lowercase();
    let found = FORMATS
        .iter()
        .find(|(_, _, endings)| endings.contains(&ending.as_str()));
    found.map(|(format, ..)| *format).ok_or_else(|| {
        ToolError::failed(format!(
            "`{path}` must end with .png, .jpg, .webp, .gif or .bmp"
        ))
    })
}

/// `photo.jpg` cropped becomes `photo-crop.jpg`, the next one `photo-crop-2.jpg`.
fn free_name(root: &Root, source: &str, what: &str, format: ImageFormat) -> String {
    let name_at = source.rfind('/').map_or(0, |at| at + 1);
    let stem = match source[name_at..].rfind('.') {
        Some(at) if at > 0 => &source[..name_at + at],
        _ => source,
    };
    let endings = FORMATS.iter().find(|(known, ..)| *known == format);
    let ending = endings.map_or("png", |(_, _, endings)| endings[0]);
    let first = format!("{stem}-{what}.{ending}");
    if root.file(&first).is_err() {
        return first;
    }
    let names = (2..10_000).map(|number| format!("{stem}-{what}-{number}.{ending}"));
    let mut free = names.filter(|name| root.file(name).is_err());
    free.next().unwrap_or(first)
}

fn encode(image: &DynamicImage, format: ImageFormat) -> Result<Vec<u8>, ToolError> {
    let mut bytes = Cursor::new(Vec::new());
    let written = match format {
        ImageFormat::Jpeg => {
            DynamicImage::ImageRgb8(on_white(image).to_rgb8()).write_to(&mut bytes, format)
        }
        // What these can hold: eight bits a channel.
        ImageFormat::WebP | ImageFormat::Gif | ImageFormat::Bmp => {
            DynamicImage::ImageRgba8(image.to_rgba8()).write_to(&mut bytes, format)
        }
        _ => image.write_to(&mut bytes, format),
    };
    written.map_err(|error| ToolError::failed(format!("the image can't be written: {error}")))?;
    Ok(bytes.into_inner())
}

/// A format without transparency shows what is behind: white.
fn on_white(image: &DynamicImage) -> DynamicImage {
    if !image.color().has_alpha() {
        return image.clone();
    }
    let mut flat: RgbaImage = image.to_rgba8();
    for Rgba([red, green, blue, alpha]) in flat.pixels_mut() {
        let over = |channel: u8| {
            let (channel, alpha) = (u16::from(channel), u16::from(*alpha));
            // At most 255 * 255, so it fits.
            ((channel * alpha + 255 * (255 - alpha)) / 255) as u8
        };
        (*red, *green, *blue) = (over(*red), over(*green), over(*blue));
        *alpha = 255;
    }
    DynamicImage::ImageRgba8(flat)
}
