//! Fonts: from codes to text and widths (ISO 32000-1, sections 9.6 to 9.10).

use std::collections::BTreeMap;

use super::encoding::Base;
use super::lexer::{Dict, Object};
use super::map::{Map, code};
use super::{Pdf, glyphs};
use crate::tool::ToolError;

/// How the codes of a composite font are read.
#[derive(Debug)]
enum Codes {
    /// Two bytes each; only a map says what they are.
    Pairs,
    /// UTF-16.
    Unicode,
    /// In an encoding of East Asia.
    Legacy(&'static encoding_rs::Encoding),
    /// As a map says.
    Mapped(Map),
}

#[derive(Debug)]
enum Kind {
    /// One byte a code, with its text.
    Simple(Vec<Option<String>>),
    Composite(Codes),
}

/// A font.
#[derive(Debug)]
pub(super) struct Font {
    kind: Kind,
    to_unicode: Option<Map>,
    widths: BTreeMap<u32, f64>,
    usual_width: f64,
    /// Width of a unit in thousandths of the size: 1, but for fonts that are drawn.
    unit: f64,
}

/// A code that was read.
pub(super) struct Glyph {
    /// Its text, if anything says what it is.
    pub(super) text: Option<String>,
    /// Its width, in thousandths of the size.
    pub(super) width: f64,
    /// Whether it is the one-byte code 32, to which word spacing applies.
    pub(super) is_space: bool,
}

/// Most widths of a font.
const MAX_WIDTHS: usize = 70_000;

/// Widths of Helvetica's printable ASCII, for fonts that every reader has and that say no widths.
const HELVETICA: [u16; 95] = [
    278, 278, 355, 556, 556, 889, 667, 191, 333, 333, 389, 584, 278, 333, 278, 278, 556, 556, 556,
    556, 556, 556, 556, 556, 556, 556, 278, 278, 584, 584, 584, 556, 1015, 667, 667, 722, 722, 667,
    611, 778, 722, 278, 500, 667, 556, 833, 722, 778, 667, 778, 722, 667, 611, 722, 667, 944, 667,
    667, 611, 278, 278, 278, 469, 556, 333, 556, 556, 500, 556, 556, 278, 556, 556, 222, 222, 500,
    222, 833, 556, 556, 556, 556, 333, 500, 278, 556, 500, 722, 500, 500, 500, 334, 260, 334, 584,
];

impl Font {
    pub(super) fn load(pdf: &Pdf<'_>, dict: &Dict) -> Result<Self, ToolError> {
        let subtype = pdf.value(dict, "Subtype")?;
        let to_unicode = map(pdf, &pdf.value(dict, "ToUnicode")?)?;
        match subtype.name() {
            Some("Type0") => Self::composite(pdf, dict, to_unicode),
            subtype => Self::simple(pdf, dict, to_unicode, subtype == Some("Type3")),
        }
    }

    fn simple(
        pdf: &Pdf<'_>,
        dict: &Dict,
        to_unicode: Option<Map>,
        is_drawn: bool,
    ) -> Result<Self, ToolError> {
        let encoding = pdf.value(dict, "Encoding")?;
        let base = match &encoding {
            Object::Name(name) => Base::of(name),
            Object::Dict(inner) => pdf.value(inner, "BaseEncoding")?.name().and_then(Base::of),
            _ => None,
        };
        // Without a word on it a font has its own encoding, which is the standard one for most.
        let base = base.unwrap_or(Base::Standard);
        let mut texts: Vec<Option<String>> = (0..=255).map(|code| base.text(code)).collect();
        if let Object::Dict(inner) = &encoding
            && let Object::Array(differences) = pdf.value(inner, "Differences")?
        {
            let mut at = 0;
            for object in &differences {
                match object {
                    Object::Number(number) => at = number.clamp(0.0, 256.0) as usize,
                    Object::Name(name) => {
                        if let Some(text) = texts.get_mut(at) {
                            *text = glyphs::text(name);
                        }
                        at += 1;
                    }
                    _ => {}
                }
            }
        }
        let mut widths = BTreeMap::new();
        let first = pdf
            .number(dict, "FirstChar")
            .unwrap_or(0.0)
            .clamp(0.0, 255.0) as u32;
        let mut usual_width = 500.0;
        match pdf.value(dict, "Widths")? {
            Object::Array(all) => {
                for (code, width) in (first..256).zip(&all) {
                    if let Object::Number(width) = pdf.resolve(width)? {
                        widths.insert(code, width);
                    }
                }
            }
            _ => {
                let name = pdf.value(dict, "BaseFont")?;
                let name = name.name().unwrap_or_default();
                match name.contains("Courier") {
                    true => usual_width = 600.0,
                    false => {
                        let narrow = if name.contains("Times") { 0.9 } else { 1.0 };
                        let all = (32_u32..).zip(HELVETICA);
                        widths.extend(all.map(|(code, width)| (code, f64::from(width) * narrow)));
                    }
                }
            }
        }
        let mut unit = 1.0;
        if is_drawn
            && let Object::Array(matrix) = pdf.value(dict, "FontMatrix")?
            && let Some(scale) = matrix.first().and_then(Object::number)
        {
            unit = (scale * 1000.0).clamp(0.0, 1000.0);
        }
        Ok(Self {
            kind: Kind::Simple(texts),
            to_unicode,
            widths,
            usual_width,
            unit,
        })
    }

    fn composite(pdf: &Pdf<'_>, dict: &Dict, to_unicode: Option<Map>) -> Result<Self, ToolError> {
        let encoding = pdf.value(dict, "Encoding")?;
        let codes = match &encoding {
            Object::Name(name) => codes(name),
            other => map(pdf, other)?.map_or(Codes::Pairs, Codes::Mapped),
        };
        let descendants = pdf.value(dict, "DescendantFonts")?;
        let inner = match descendants {
            Object::Array(all) => all.first().map(|first| pdf.resolve(first)).transpose()?,
            _ => None,
        };
        let mut font = Self {
            kind: Kind::Composite(codes),
            to_unicode,
            widths: BTreeMap::new(),
            usual_width: 1000.0,
            unit: 1.0,
        };
        if let Some(Object::Dict(inner)) = inner {
            font.usual_width = pdf.number(&inner, "DW").unwrap_or(1000.0);
            if let Object::Array(all) = pdf.value(&inner, "W")? {
                font.widths = composite_widths(pdf, &all)?;
            }
        }
        Ok(font)
    }

    /// Reads the codes of a text.
    pub(super) fn glyphs(&self, bytes: &[u8], each: &mut dyn FnMut(Glyph)) {
        let mut rest = bytes;
        while !rest.is_empty() {
            let length = self.code_length(rest);
            let (own, after) = rest.split_at(length);
            rest = after;
            let mapped = self.to_unicode.as_ref().and_then(|map| map.text(own));
            let text = mapped.or_else(|| match &self.kind {
                Kind::Simple(texts) => texts[usize::from(own[0])].clone(),
                Kind::Composite(Codes::Unicode) => {
                    let units: Vec<u16> = own
                        .chunks_exact(2)
                        .map(|pair| u16::from_be_bytes([pair[0], pair[1]]))
                        .collect();
                    String::from_utf16(&units).ok()
                }
                Kind::Composite(Codes::Legacy(encoding)) => {
                    let text = encoding.decode_without_bom_handling_and_without_replacement(own);
                    text.map(|text| text.into_owned())
                }
                Kind::Composite(Codes::Pairs | Codes::Mapped(_)) => None,
            });
            let width = self.widths.get(&code(own)).copied();
            each(Glyph {
                text,
                width: width.unwrap_or(self.usual_width) * self.unit,
                is_space: own == [32],
            });
        }
    }

    fn code_length(&self, rest: &[u8]) -> usize {
        match &self.kind {
            Kind::Simple(_) => 1,
            Kind::Composite(Codes::Mapped(map)) => map.length(rest, 2),
            Kind::Composite(Codes::Unicode) => {
                let pair = (0xd8..=0xdb).contains(&rest[0]);
                rest.len().min(if pair { 4 } else { 2 })
            }
            // All of them begin a pair above ASCII; half-width katakana are single.
            Kind::Composite(Codes::Legacy(encoding)) => {
                let single = rest[0] < 0x81
                    || *encoding == encoding_rs::SHIFT_JIS && (0xa0..=0xdf).contains(&rest[0]);
                rest.len().min(if single { 1 } else { 2 })
            }
            Kind::Composite(Codes::Pairs) => rest.len().min(2),
        }
    }
}

/// The predefined maps (ISO 32000-1, table 118), by what their codes are.
fn codes(name: &str) -> Codes {
    let begins = |starts: &[&str]| starts.iter().any(|start| name.starts_with(start));
    if name.contains("UCS2") || name.contains("UTF16") {
        Codes::Unicode
    } else if begins(&["GBK", "GB-EUC", "GBpc"]) {
        Codes::Legacy(encoding_rs::GBK)
    } else if begins(&["B5pc", "HKscs", "ETen", "ETHK"]) {
        Codes::Legacy(encoding_rs::BIG5)
    } else if begins(&["83pv", "90ms", "90pv", "Add", "Ext"]) {
        Codes::Legacy(encoding_rs::SHIFT_JIS)
    } else if begins(&["EUC"]) {
        Codes::Legacy(encoding_rs::EUC_JP)
    } else if begins(&["KSC"]) {
        Codes::Legacy(encoding_rs::EUC_KR)
    } else {
        Codes::Pairs
    }
}

fn map(pdf: &Pdf<'_>, object: &Object) -> Result<Option<Map>, ToolError> {
    match object {
        Object::Stream(dict, start) => {
            let bytes = pdf.decoded(dict, *start)?;
            Ok(bytes.map(|bytes| Map::read(&bytes)))
        }
        _ => Ok(None),
    }
}

/// `[first [w w w] first last w …]` (section 9.7.4.3).
fn composite_widths(pdf: &Pdf<'_>, all: &[Object]) -> Result<BTreeMap<u32, f64>, ToolError> {
    let mut widths = BTreeMap::new();
    let mut rest = all;
    while let [Object::Number(first), second, after @ ..] = rest {
        let first = first.clamp(0.0, 65_535.0) as u32;
        match (pdf.resolve(second)?, after) {
            (Object::Array(own), _) => {
                for (code, width) in (first..=65_535).zip(&own) {
                    if let Object::Number(width) = width {
                        widths.insert(code, *width);
                    }
                }
                rest = after;
            }
            (Object::Number(last), [Object::Number(width), after @ ..]) => {
                let last = last.clamp(0.0, 65_535.0) as u32;
                pdf.spend(last.saturating_sub(first) as usize)?;
                for code in first..=last {
                    widths.insert(code, *width);
                }
                rest = after;
            }
            _ => break,
        }
        if widths.len() > MAX_WIDTHS {
            break;
        }
    }
    Ok(widths)
}
