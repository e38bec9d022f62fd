//! The structure of a PDF file (ISO 32000-1): its objects, found without trusting its tables.
//!
//! The places of objects are taken from the file itself: every `n g obj` is one, the last of a number counts, as it
//! does where a file was changed by appending. So a broken or hostile cross-reference table changes nothing.

mod content;
mod encoding;
mod filter;
mod font;
mod glyphs;
mod lexer;
mod map;
mod marks;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use crate::tool::ToolError;

pub(super) use content::PageText;
use lexer::Lexer;
pub(super) use lexer::{Dict, Object};
use marks::{Mark, find, next_mark};

/// Most objects of a file.
const MAX_OBJECTS: usize = 500_000;

/// Most references one after the other that lead to each other.
const CHAIN: usize = 16;

/// Most levels of a tree of pages.
const TREE: usize = 64;

/// Most pages of a file.
const MAX_PAGES: usize = 50_000;

#[derive(Clone, Copy, Debug)]
enum Place {
    /// At this byte of the file.
    File(usize),
    /// In the stream of this number, at this index of its list.
    Stream(u32, usize),
}

/// A file.
pub(super) struct Pdf<'a> {
    bytes: &'a [u8],
    places: BTreeMap<u32, Place>,
    trailer: Dict,
    /// Bytes that streams may still unpack to.
    left: Cell<usize>,
    /// Bytes that may still be read as objects or be unpacked.
    work: Cell<usize>,
    max_unpacked: usize,
    object_streams: RefCell<BTreeMap<u32, Rc<ObjectStream>>>,
}

struct ObjectStream {
    bytes: Vec<u8>,
    /// Where each object begins.
    starts: Vec<usize>,
}

/// A page with what it inherits.
pub(super) struct Page {
    pub(super) contents: Object,
    pub(super) resources: Object,
}

fn broken(what: &str) -> ToolError {
    ToolError::failed(format!("the PDF is broken: {what}"))
}

impl<'a> Pdf<'a> {
    /// Finds the objects of a file. Its streams may unpack to so many bytes, all together and each time they are read.
    pub(super) fn open(bytes: &'a [u8], max_unpacked: usize) -> Result<Self, ToolError> {
        let mut pdf = Self {
            bytes,
            places: BTreeMap::new(),
            trailer: Dict::new(),
            left: Cell::new(max_unpacked),
            work: Cell::new(max_unpacked.saturating_mul(4)),
            max_unpacked,
            object_streams: RefCell::default(),
        };
        pdf.scan()?;
        if pdf.trailer.contains_key("Encrypt") {
            return Err(ToolError::failed(
                "the PDF is encrypted, which this tool cannot read",
            ));
        }
        Ok(pdf)
    }

    fn scan(&mut self) -> Result<(), ToolError> {
        let mut at = 0;
        let mut streams = Vec::new();
        while let Some(found) = next_mark(self.bytes, at) {
            match found {
                Mark::Trailer(behind) => {
                    let mut lexer = Lexer::new(self.bytes, behind);
                    if let Some(Object::Dict(dict)) = lexer.object() {
                        self.trailer.extend(dict);
                    }
                    at = behind;
                }
                Mark::Object { number, behind } => {
                    if self.places.len() >= MAX_OBJECTS {
                        return Err(ToolError::Limit {
                            what: format!("the PDF has more than {MAX_OBJECTS} objects"),
                        });
                    }
                    self.places.insert(number, Place::File(behind));
                    at = behind;
                    let mut lexer = Lexer::new(self.bytes, behind);
                    let object = lexer.object();
                    // What is within an object is none of the file, nor is what is in a stream.
                    at = lexer.at().max(at);
                    let Some(Object::Dict(dict)) = object else {
                        continue;
                    };
                    let Some(start) = lexer.stream_start() else {
                        continue;
                    };
                    at = self.stream_end(&dict, start);
                    match dict.get("Type").and_then(Object::name) {
                        Some("XRef") => {
                            let kept = ["Root", "Encrypt", "Info"];
                            let own = dict.iter().filter(|(key, _)| kept.contains(&key.as_str()));
                            let own: Vec<_> = own.map(|(k, v)| (k.clone(), v.clone())).collect();
                            self.trailer.extend(own);
                        }
                        Some("ObjStm") => streams.push(number),
                        _ => {}
                    }
                }
            }
        }
        if self.trailer.contains_key("Encrypt") {
            return Ok(());
        }
        for number in streams {
            self.list(number)?;
        }
        Ok(())
    }

    /// Notes the objects of an object stream (section 7.5.7).
    fn list(&mut self, number: u32) -> Result<(), ToolError> {
        let Some(Object::Stream(dict, start)) = self.load(number)? else {
            return Ok(());
        };
        let bytes = self.decoded(&dict, start)?.unwrap_or_default();
        let count = self.number(&dict, "N").unwrap_or(0.0) as usize;
        let first = self.number(&dict, "First").unwrap_or(0.0) as usize;
        let mut lexer = Lexer::new(&bytes, 0);
        let mut starts = Vec::new();
        for index in 0..count.min(MAX_OBJECTS) {
            let (Some(Object::Number(inner)), Some(Object::Number(offset))) =
                (lexer.object(), lexer.object())
            else {
                break;
            };
            if self.places.len() >= MAX_OBJECTS {
                break;
            }
            let inner = inner as u32;
            // One in the file itself that is not older was put in its place.
            let older = match (self.places.get(&inner), self.places.get(&number)) {
                (Some(Place::File(own)), Some(Place::File(stream))) => own > stream,
                _ => false,
            };
            if !older {
                self.places.insert(inner, Place::Stream(number, index));
            }
            starts.push(first.saturating_add(offset as usize));
        }
        let stream = Rc::new(ObjectStream { bytes, starts });
        self.object_streams.borrow_mut().insert(number, stream);
        Ok(())
    }

    /// The object of a number.
    fn load(&self, number: u32) -> Result<Option<Object>, ToolError> {
        match self.places.get(&number) {
            None => Ok(None),
            Some(Place::File(at)) => {
                let mut lexer = Lexer::new(self.bytes, *at);
                let object = lexer.object();
                self.spend(lexer.at() - at)?;
                Ok(match object {
                    Some(Object::Dict(dict)) => Some(match lexer.stream_start() {
                        Some(start) => Object::Stream(dict, start),
                        None => Object::Dict(dict),
                    }),
                    other => other,
                })
            }
            Some(Place::Stream(stream, index)) => {
                let streams = self.object_streams.borrow();
                let stream = streams.get(stream).cloned();
                drop(streams);
                let Some(stream) = stream else {
                    return Ok(None);
                };
                let Some(&start) = stream.starts.get(*index) else {
                    return Ok(None);
                };
                let mut lexer = Lexer::new(&stream.bytes, start);
                let object = lexer.object();
                self.spend(lexer.at() - start)?;
                Ok(object)
            }
        }
    }

    /// Counts bytes that are worked on, so that what refers to the same again and again ends.
    pub(super) fn spend(&self, bytes: usize) -> Result<(), ToolError> {
        let left = self.work.get().checked_sub(bytes);
        self.work.set(left.ok_or_else(|| self.too_much())?);
        Ok(())
    }

    fn too_much(&self) -> ToolError {
        ToolError::Limit {
            what: format!("the PDF unpacks to more than {} bytes", self.max_unpacked),
        }
    }

    /// An object, or what it refers to.
    pub(super) fn resolve(&self, object: &Object) -> Result<Object, ToolError> {
        let mut object = object.clone();
        for _ in 0..CHAIN {
            let Object::Reference(number) = object else {
                return Ok(object);
            };
            object = self.load(number)?.unwrap_or(Object::Null);
        }
        Ok(Object::Null)
    }

    /// A value of a dictionary.
    fn value(&self, dict: &Dict, key: &str) -> Result<Object, ToolError> {
        match dict.get(key) {
            Some(object) => self.resolve(object),
            None => Ok(Object::Null),
        }
    }

    fn number(&self, dict: &Dict, key: &str) -> Option<f64> {
        match self.value(dict, key) {
            Ok(Object::Number(number)) => Some(number),
            _ => None,
        }
    }

    /// Where a stream's bytes end: where its length says, if that is true, else before the next `endstream`.
    fn stream_end(&self, dict: &Dict, start: usize) -> usize {
        let length = match dict.get("Length") {
            Some(Object::Number(length)) => Some(*length as usize),
            Some(Object::Reference(number)) => match self.places.get(number) {
                Some(Place::File(at)) => match Lexer::new(self.bytes, *at).object() {
                    Some(Object::Number(length)) => Some(length as usize),
                    _ => None,
                },
                _ => None,
            },
            _ => None,
        };
        if let Some(end) = length.and_then(|length| start.checked_add(length))
            && let Some(behind) = self.bytes.get(end..)
            && behind.trim_ascii_start().starts_with(b"endstream")
        {
            return end;
        }
        let rest = self.bytes.get(start..).unwrap_or_default();
        find(rest, b"endstream").map_or(self.bytes.len(), |at| start + at)
    }

    /// The bytes of a stream without its filters; `None` if one is for images.
    pub(super) fn decoded(&self, dict: &Dict, start: usize) -> Result<Option<Vec<u8>>, ToolError> {
        let end = self.stream_end(dict, start);
        let raw = self.bytes.get(start..end).unwrap_or_default();
        let filters = match self.value(dict, "Filter")? {
            Object::Name(name) => vec![Object::Name(name)],
            Object::Array(names) => names,
            _ => Vec::new(),
        };
        let parameters = match self.value(dict, "DecodeParms")? {
            Object::Array(all) => all,
            other => vec![other],
        };
        self.spend(raw.len())?;
        let mut bytes = raw.to_vec();
        for (index, name) in filters.iter().take(8).enumerate() {
            let Object::Name(name) = self.resolve(name)? else {
                return Ok(None);
            };
            let parameters = match parameters.get(index).map(|object| self.resolve(object)) {
                Some(Ok(Object::Dict(dict))) => dict,
                _ => Dict::new(),
            };
            let parameter = |key: &str| self.number(&parameters, key).map(|n| n.max(0.0) as usize);
            let decoded = filter::decode(&name, &bytes, self.left.get(), &parameter);
            match decoded.map_err(|()| self.too_much())? {
                Some(decoded) => bytes = decoded,
                None => return Ok(None),
            }
            self.left
                .set(self.left.get() - bytes.len().min(self.left.get()));
        }
        if filters.is_empty() {
            // It costs time whenever it is read, as unpacking does.
            let left = self.left.get().checked_sub(bytes.len());
            self.left.set(left.ok_or_else(|| self.too_much())?);
        }
        Ok(Some(bytes))
    }

    /// The pages, in order.
    pub(super) fn pages(&self) -> Result<Vec<Page>, ToolError> {
        let root = match self.value(&self.trailer, "Root")? {
            Object::Dict(root) => root,
            _ => self.catalog()?,
        };
        let mut pages = Vec::new();
        let mut seen = BTreeSet::new();
        // Nodes that wait, the next one last, with what they inherit and their depth.
        let mut open = vec![(
            root.get("Pages").cloned().unwrap_or(Object::Null),
            Object::Null,
            0,
        )];
        while let Some((node, inherited, depth)) = open.pop() {
            if let Object::Reference(number) = node
                && !seen.insert(number)
            {
                continue;
            }
            let Object::Dict(node) = self.resolve(&node)? else {
                continue;
            };
            let resources = match node.get("Resources") {
                Some(own) => own.clone(),
                None => inherited,
            };
            match self.value(&node, "Kids")? {
                Object::Array(kids) if depth < TREE => {
                    for kid in kids.into_iter().rev() {
                        open.push((kid, resources.clone(), depth + 1));
                    }
                }
                Object::Array(_) => {}
                _ => pages.push(Page {
                    contents: node.get("Contents").cloned().unwrap_or(Object::Null),
                    resources,
                }),
            }
            if pages.len() > MAX_PAGES || open.len() > MAX_OBJECTS {
                return Err(ToolError::Limit {
                    what: format!("the PDF has more than {MAX_PAGES} pages"),
                });
            }
        }
        match pages.is_empty() {
            true => Err(broken("it has no pages")),
            false => Ok(pages),
        }
    }

    /// The catalog of a file whose trailer is lost.
    fn catalog(&self) -> Result<Dict, ToolError> {
        for number in self.places.keys().rev() {
            if let Some(Object::Dict(dict)) = self.load(*number)?
                && dict.get("Type").and_then(Object::name) == Some("Catalog")
            {
                return Ok(dict);
            }
        }
        Err(broken("it has no catalog"))
    }
}
