//! Writes presentations, with the interface of Lagent's `PPT`: `create_file`, then pages, then `submit_file`.
//!
//! The tools share one presentation, which is in memory until it is submitted. Paths are below a folder, also the one
//! that Lagent calls `abs_location`. Lagent's `get_image`, which it only describes, is left out.
//!
//! ```
//! use internlm_agent::tool::{ToolContext, ToolSet};
//! use internlm_agent::tools::{Root, ppt};
//! # let folder = std::env::temp_dir().join(format!("ppt-{}", std::process::id()));
//! # std::fs::create_dir_all(&folder)?;
//!
//! let mut tools = ToolSet::new();
//! for tool in ppt::tools(&Root::open(&folder)?, &ppt::PptConfig::default()) {
//!     tools = tools.with(tool)?;
//! }
//! let call = |name, arguments| tools.call(name, &arguments, &ToolContext::default());
//! call("ppt_create_file", serde_json::json!({"theme": "Default", "abs_location": "talk.pptx"}))?;
//! call("ppt_add_first_page", serde_json::json!({"title": "Quantization", "subtitle": "An overview"}))?;
//! call("ppt_add_text_page", serde_json::json!({"title": "Why", "bullet_items": "small[SPAN]fast"}))?;
//! call("ppt_submit_file", serde_json::json!({}))?;
//! assert!(folder.join("talk.pptx").is_file());
//! # std::fs::remove_dir_all(&folder)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod package;
mod parts;
mod picture;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};

use super::Root;
use super::catalog::{CatalogEntry, bytes};
use crate::tool::{Media, MediaSource, OutputPart, ToolError, ToolOutput, TypedTool, tool};
use package::{Deck, Slide};
use picture::Picture;

/// Limits of a presentation.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PptConfig {
    /// Most slides.
    pub max_slides: usize,
    /// Most characters of a title, a subtitle or all items of a slide.
    pub max_chars: usize,
    /// Most bytes of an image.
    pub max_image: u64,
    /// Most bytes of all images.
    pub max_images: usize,
    /// Most bytes of the file's path.
    pub max_path: usize,
    /// Most bytes of the file that is written.
    pub max_file: usize,
}

impl Default for PptConfig {
    fn default() -> Self {
        Self {
            max_slides: 100,
            max_chars: 5_000,
            max_image: 16 << 20,
            max_images: 64 << 20,
            max_path: 1 << 10,
            max_file: 80 << 20,
        }
    }
}

impl PptConfig {
    /// Sets the most slides.
    #[must_use]
    pub fn with_max_slides(mut self, max_slides: usize) -> Self {
        self.max_slides = max_slides;
        self
    }

    /// Sets the most characters of a text.
    #[must_use]
    pub fn with_max_chars(mut self, max_chars: usize) -> Self {
        self.max_chars = max_chars;
        self
    }

    /// Sets the most bytes of an image.
    #[must_use]
    pub fn with_max_image(mut self, max_image: u64) -> Self {
        self.max_image = max_image;
        self
    }

    /// Sets the most bytes of all images.
    #[must_use]
    pub fn with_max_images(mut self, max_images: usize) -> Self {
        self.max_images = max_images;
        self
    }

    /// Sets the most bytes of the file's path.
    #[must_use]
    pub fn with_max_path(mut self, max_path: usize) -> Self {
        self.max_path = max_path;
        self
    }

    /// Sets the most bytes of the file.
    #[must_use]
    pub fn with_max_file(mut self, max_file: usize) -> Self {
        self.max_file = max_file;
        self
    }
}

/// Begins a new presentation (pptx). Add pages to it next, and submit it when it is done.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct CreateFile {
    /// The theme: Default.
    pub theme: String,
    /// The path of the file, which ends with .pptx.
    pub abs_location: String,
}

/// Adds the first page, with the title of the presentation.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct AddFirstPage {
    /// The title of the presentation.
    pub title: String,
    /// The line below the title; may be empty.
    pub subtitle: String,
}

/// Adds a page with a title and a list.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct AddTextPage {
    /// The title of the page.
    pub title: String,
    /// The items of the list, with `[SPAN]` between them.
    pub bullet_items: String,
}

/// Adds a page with a title, a list on the left and an image on the right.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct AddTextImagePage {
    /// The title of the page.
    pub title: String,
    /// The items of the list, with `[SPAN]` between them.
    pub bullet_items: String,
    /// The path of the image: PNG, JPEG, GIF or BMP.
    pub image: String,
}

/// Writes the presentation to its file. Without this call there is none.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SubmitFile {}

/// What the tools share.
#[derive(Clone)]
struct Shared {
    root: Root,
    config: PptConfig,
    deck: Arc<Mutex<Option<Deck>>>,
}

impl Shared {
    fn deck(&self) -> MutexGuard<'_, Option<Deck>> {
        // Slides are added whole, so a panic elsewhere leaves none half done.
        self.deck.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn text(&self, tool: &str, name: &str, text: &str) -> Result<String, ToolError> {
        let (count, most) = (text.chars().count(), self.config.max_chars);
        match count > most {
            true => Err(ToolError::Limit {
                what: format!("`{name}` of `{tool}` has {count} characters; {most} are allowed"),
            }),
            false => Ok(text.trim().to_owned()),
        }
    }

    /// The items between `[SPAN]`; empty ones are none.
    fn items(&self, tool: &str, text: &str) -> Result<Vec<String>, ToolError> {
        let text = self.text(tool, "bullet_items", text)?;
        let items = text.split("[SPAN]").map(str::trim);
        Ok(items
            .filter(|item| !item.is_empty())
            .map(str::to_owned)
            .collect())
    }

    fn add(&self, slide: Slide) -> Result<Value, ToolError> {
        let mut deck = self.deck();
        let deck = deck.as_mut().ok_or_else(none_open)?;
        let most = self.config.max_slides;
        if deck.slides.len() >= most {
            return Err(ToolError::Limit {
                what: format!("a presentation has at most {most} pages"),
            });
        }
        let new = slide.picture().map_or(0, |picture| picture.bytes.len());
        let images: usize = deck
            .slides
            .iter()
            .filter_map(Slide::picture)
            .map(|p| p.bytes.len())
            .sum();
        if images.saturating_add(new) > self.config.max_images {
            return Err(ToolError::Limit {
                what: format!(
                    "all images together have more than {} bytes",
                    self.config.max_images
                ),
            });
        }
        deck.slides.push(slide);
        Ok(json!({"status": "added page", "pages": deck.slides.len()}))
    }
}

fn none_open() -> ToolError {
    ToolError::failed("there is no presentation yet; begin one with ppt_create_file")
}

/// All tools of this module, which share one presentation: make them anew for each conversation.
pub fn tools(root: &Root, config: &PptConfig) -> Vec<TypedTool> {
    let shared = Shared {
        root: root.clone(),
        config: config.clone(),
        deck: Arc::default(),
    };
    let (first, text, image) = (shared.clone(), shared.clone(), shared.clone());
    let (create, submit) = (shared.clone(), shared);
    vec![
        tool("ppt_create_file", move |arguments: CreateFile| {
            let wrong = |what: &str| ToolError::Arguments {
                tool: "ppt_create_file".to_owned(),
                what: what.to_owned(),
            };
            if arguments.theme != "Default" {
                return Err(wrong("`theme` must be Default"));
            }
            let location = arguments.abs_location.trim();
            let most = create.config.max_path;
            if location.len() > most {
                return Err(ToolError::Limit {
                    what: format!("`abs_location` is longer than {most} bytes"),
                });
            }
            if !location.to_lowercase().ends_with(".pptx") {
                return Err(wrong("`abs_location` must end with .pptx"));
            }
            *create.deck() = Some(Deck {
                location: location.to_owned(),
                slides: Vec::new(),
            });
            Ok(json!({"status": "created a ppt file."}))
        }),
        tool("ppt_add_first_page", move |page: AddFirstPage| {
            const NAME: &str = "ppt_add_first_page";
            first.add(Slide::Title {
                title: first.text(NAME, "title", &page.title)?,
                subtitle: first.text(NAME, "subtitle", &page.subtitle)?,
            })
        }),
        tool("ppt_add_text_page", move |page: AddTextPage| {
            const NAME: &str = "ppt_add_text_page";
            text.add(Slide::Text {
                title: text.text(NAME, "title", &page.title)?,
                items: text.items(NAME, &page.bullet_items)?,
            })
        }),
        tool("ppt_add_text_image_page", move |page: AddTextImagePage| {
            const NAME: &str = "ppt_add_text_image_page";
            let bytes = image.root.read(&page.image, image.config.max_image)?;
            let picture = Picture::new(bytes).ok_or_else(|| {
                ToolError::failed(format!(
                    "`{}` is no image in PNG, JPEG, GIF or BMP",
                    page.image
                ))
            })?;
            image.add(Slide::Picture {
                title: image.text(NAME, "title", &page.title)?,
                items: image.items(NAME, &page.bullet_items)?,
                picture,
            })
        }),
        tool("ppt_submit_file", move |_: SubmitFile| {
            let deck = submit.deck();
            let deck = deck.as_ref().ok_or_else(none_open)?;
            if deck.slides.is_empty() {
                return Err(ToolError::failed("the presentation has no pages yet"));
            }
            let file = package::write(deck)?;
            let most = submit.config.max_file;
            if file.len() > most {
                return Err(ToolError::Limit {
                    what: format!(
                        "the presentation has {} bytes; {most} are allowed",
                        file.len()
                    ),
                });
            }
            submit.root.write(&deck.location, &file)?;
            let status = format!("submitted. view ppt at {}", deck.location);
            Ok(ToolOutput::json(json!({"status": status})).with(OutputPart::File {
                file: Media {
                    mime: "application/vnd.openxmlformats-officedocument.presentationml.presentation".to_owned(),
                    source: MediaSource::Path(deck.location.clone().into()),
                },
            }))
        }),
    ]
}

/// What the catalog says of these tools.
pub(super) fn entries() -> Vec<CatalogEntry> {
    let config = PptConfig::default();
    let limits = format!(
        "{} pages with {} characters of a title or a list, images of {} MiB, and {} MiB of them; a path of {}, a file \
         of {}.",
        config.max_slides,
        config.max_chars,
        config.max_image >> 20,
        config.max_images >> 20,
        bytes(config.max_path as u64),
        bytes(config.max_file as u64)
    );
    let made_by = "tools::ppt::tools";
    let entries = [
        CatalogEntry::of::<CreateFile>("ppt_create_file", made_by, &limits),
        CatalogEntry::of::<AddFirstPage>("ppt_add_first_page", made_by, &limits),
        CatalogEntry::of::<AddTextPage>("ppt_add_text_page", made_by, &limits),
        CatalogEntry::of::<AddTextImagePage>("ppt_add_text_image_page", made_by, &limits),
        CatalogEntry::of::<SubmitFile>("ppt_submit_file", made_by, &limits),
    ];
    entries.map(|entry| entry.with_feature("documents")).into()
}
