//! Operations on images below a folder: PNG, JPEG, WebP, GIF (the first frame) and BMP.
//!
//! Each reads an image and writes another one, whose path it tells, so that calls can follow each other. An image
//! is measured before it is decoded: one with more pixels than allowed costs nothing but its head.
//!
//! ```
//! use internlm_agent::tool::ToolSet;
//! use internlm_agent::tools::{Root, images};
//!
//! let mut tools = ToolSet::new();
//! for tool in images::tools(&Root::open(".")?, &images::ImageConfig::default()) {
//!     tools = tools.with(tool)?;
//! }
//! assert_eq!(tools.names().count(), 7);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod boxes;
mod edges;
mod file;
mod letters;
mod shape;

use super::Root;
use super::catalog::CatalogEntry;
use crate::tool::{ToolError, TypedTool};

pub use boxes::{DrawBoxes, LabelledBox, image_draw_boxes};
pub use edges::{DetectEdges, canny, image_edges};
pub use shape::{
    ConvertImage, CropImage, Fit, ImageInfo, ResizeImage, RotateImage, image_convert, image_crop,
    image_info, image_resize, image_rotate,
};

/// Limits of the tools for images.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ImageConfig {
    /// Most bytes of a file that is read.
    pub max_bytes: u64,
    /// Most pixels of an image, read or made.
    pub max_pixels: u64,
    /// Most pixels of a side.
    pub max_side: u32,
    /// Most boxes that a call draws.
    pub max_boxes: usize,
}

impl Default for ImageConfig {
    /// A photo of 40 megapixels; decoded it has up to 320 MB.
    fn default() -> Self {
        Self {
            max_bytes: 32 << 20,
            max_pixels: 40_000_000,
            max_side: 16_384,
            max_boxes: 200,
        }
    }
}

impl ImageConfig {
    /// Sets the most bytes of a file.
    #[must_use]
    pub fn with_max_bytes(mut self, max_bytes: u64) -> Self {
        self.max_bytes = max_bytes;
        self
    }

    /// Sets the most pixels of an image.
    #[must_use]
    pub fn with_max_pixels(mut self, max_pixels: u64) -> Self {
        self.max_pixels = max_pixels;
        self
    }

    /// Sets the most pixels of a side.
    #[must_use]
    pub fn with_max_side(mut self, max_side: u32) -> Self {
        self.max_side = max_side;
        self
    }

    /// Sets the most boxes that a call draws.
    #[must_use]
    pub fn with_max_boxes(mut self, max_boxes: usize) -> Self {
        self.max_boxes = max_boxes;
        self
    }

    /// Whether an image of these sides may be made.
    fn check(&self, width: u32, height: u32) -> Result<(), ToolError> {
        let pixels = u64::from(width) * u64::from(height);
        if pixels > self.max_pixels || width > self.max_side || height > self.max_side {
            return Err(ToolError::Limit {
                what: format!(
                    "an image of {width} x {height} pixels; allowed are {} pixels and {} a side",
                    self.max_pixels, self.max_side
                ),
            });
        }
        Ok(())
    }
}

/// All tools of this module, on files below a folder.
pub fn tools(root: &Root, config: &ImageConfig) -> Vec<TypedTool> {
    vec![
        image_info(root, config),
        image_crop(root, config),
        image_resize(root, config),
        image_rotate(root, config),
        image_convert(root, config),
        image_edges(root, config),
        image_draw_boxes(root, config),
    ]
}

/// What the catalog says of these tools.
pub(super) fn entries() -> Vec<CatalogEntry> {
    let config = ImageConfig::default();
    let limits = format!(
        "files of {} MiB, images of {} million pixels and {} a side, read or made.",
        config.max_bytes >> 20,
        config.max_pixels / 1_000_000,
        config.max_side
    );
    let boxes = format!("{} boxes a call; {limits}", config.max_boxes);
    let entries = [
        CatalogEntry::of::<ImageInfo>("image_info", "tools::images::image_info", &limits),
        CatalogEntry::of::<CropImage>("image_crop", "tools::images::image_crop", &limits),
        CatalogEntry::of::<ResizeImage>("image_resize", "tools::images::image_resize", &limits),
        CatalogEntry::of::<RotateImage>("image_rotate", "tools::images::image_rotate", &limits),
        CatalogEntry::of::<ConvertImage>("image_convert", "tools::images::image_convert", &limits),
        CatalogEntry::of::<DetectEdges>("image_edges", "tools::images::image_edges", &limits),
        CatalogEntry::of::<DrawBoxes>("image_draw_boxes", "tools::images::image_draw_boxes", boxes),
    ];
    entries.map(|entry| entry.with_feature("images")).into()
}
