//! Reads SentencePiece models (`tokenizer.model`) and checks them.
//!
//! Field numbers and defaults: `src/sentencepiece_model.proto` of google/sentencepiece.

use std::collections::HashMap;
use std::path::Path;

use crate::error::{Error, Result};
use crate::proto::{Broken, Field, Fields};

/// Most pieces that a vocabulary may have.
pub(crate) const MAX_PIECES: usize = 1 << 20;
/// Most bytes of one piece. The longest of InternLM's has 384.
pub(crate) const MAX_PIECE_BYTES: usize = 4096;

/// What a piece stands for. The numbers are SentencePiece's, and GGUF's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Normal,
    Unknown,
    Control,
    UserDefined,
    Unused,
    Byte,
}

impl Kind {
    pub(crate) fn from_number(number: u64) -> Option<Self> {
        Some(match number {
            1 => Kind::Normal,
            2 => Kind::Unknown,
            3 => Kind::Control,
            4 => Kind::UserDefined,
            5 => Kind::Unused,
            6 => Kind::Byte,
            _ => return None,
        })
    }
}

/// One entry of the vocabulary.
#[derive(Clone, Debug)]
pub(crate) struct Piece {
    pub(crate) text: String,
    pub(crate) score: f32,
    pub(crate) kind: Kind,
}

/// A vocabulary with the flags that change how text is split.
#[derive(Clone, Debug)]
pub(crate) struct PieceModel {
    pub(crate) pieces: Vec<Piece>,
    /// Characters without a piece become their bytes rather than the unknown token.
    pub(crate) byte_fallback: bool,
    /// A space is put before the text.
    pub(crate) add_dummy_prefix: bool,
    /// Spaces at both ends are dropped and runs of them collapse.
    pub(crate) remove_extra_whitespaces: bool,
    /// Spaces are written U+2581 in pieces.
    pub(crate) escape_whitespaces: bool,
    /// Names of the control pieces; those that the vocabulary lacks do not exist.
    pub(crate) bos_piece: String,
    pub(crate) eos_piece: String,
    pub(crate) pad_piece: String,
}

impl PieceModel {
    /// No pieces, and the defaults of the format.
    pub(crate) fn empty() -> Self {
        Self {
            pieces: Vec::new(),
            byte_fallback: false,
            add_dummy_prefix: true,
            remove_extra_whitespaces: true,
            escape_whitespaces: true,
            bos_piece: "<s>".into(),
            eos_piece: "</s>".into(),
            pad_piece: "<pad>".into(),
        }
    }

    /// Reads a serialized `ModelProto`; `file` only names it in errors.
    pub(crate) fn read(bytes: &[u8], file: &Path) -> Result<Self> {
        let mut model = Self::empty();
        let mut model_type = 1; // the format's default: unigram
        let mut unsupported = None;
        model
            .read_fields(bytes, &mut model_type, &mut unsupported)
            .map_err(|Broken { offset, what }| Error::SentencePiece {
                file: file.to_path_buf(),
                offset,
                what,
            })?;
        let refuse = |what, name: String, supported| {
            Err(Error::Unsupported {
                file: file.to_path_buf(),
                what,
                name,
                supported,
            })
        };
        if model_type != 2 {
            let name = match model_type {
                1 => "unigram".into(),
                3 => "word".into(),
                4 => "char".into(),
                other => other.to_string(),
            };
            return refuse("trainer_spec.model_type", name, "bpe");
        }
        if let Some((what, name, supported)) = unsupported {
            return refuse(what, name, supported);
        }
        model.check(file)?;
        Ok(model)
    }

    fn read_fields(
        &mut self,
        bytes: &[u8],
        model_type: &mut u64,
        unsupported: &mut Option<(&'static str, String, &'static str)>,
    ) -> Result<(), Broken> {
        let mut fields = Fields::new(bytes, 0);
        while let Some(field) = fields.next()? {
            match field.number {
                1 => {
                    if self.pieces.len() == MAX_PIECES {
                        return Err(field.broken(format!("more than {MAX_PIECES} pieces")));
                    }
                    self.pieces.push(read_piece(&field)?);
                }
                2 => {
                    let mut spec = Fields::new(field.bytes("trainer_spec")?, field.offset);
                    while let Some(field) = spec.next()? {
                        match field.number {
                            3 => *model_type = field.varint("model_type")?,
                            24 if field.bool("treat_whitespace_as_suffix")? => {
                                *unsupported = Some((
                                    "trainer_spec.treat_whitespace_as_suffix",
                                    "true".into(),
                                    "false",
                                ));
                            }
                            35 => self.byte_fallback = field.bool("byte_fallback")?,
                            46 => self.bos_piece = field.string("bos_piece")?.into(),
                            47 => self.eos_piece = field.string("eos_piece")?.into(),
                            48 => self.pad_piece = field.string("pad_piece")?.into(),
                            _ => {}
                        }
                    }
                }
                3 => {
                    let mut name = String::new();
                    let mut charsmap = false;
                    let mut spec = Fields::new(field.bytes("normalizer_spec")?, field.offset);
                    while let Some(field) = spec.next()? {
                        match field.number {
                            1 => name = field.string("name")?.into(),
                            2 => charsmap = !field.bytes("precompiled_charsmap")?.is_empty(),
                            3 => self.add_dummy_prefix = field.bool("add_dummy_prefix")?,
                            4 => {
                                self.remove_extra_whitespaces =
                                    field.bool("remove_extra_whitespaces")?;
                            }
                            5 => self.escape_whitespaces = field.bool("escape_whitespaces")?,
                            _ => {}
                        }
                    }
                    if charsmap {
                        *unsupported =
                            Some(("normalizer_spec.precompiled_charsmap", name, "identity"));
                    }
                }
                5 => {
                    let mut spec = Fields::new(field.bytes("denormalizer_spec")?, field.offset);
                    while let Some(field) = spec.next()? {
                        if field.number == 2 && !field.bytes("precompiled_charsmap")?.is_empty() {
                            *unsupported = Some((
                                "denormalizer_spec.precompiled_charsmap",
                                String::new(),
                                "identity",
                            ));
                        }
                    }
                }
                _ => {} // self_test_data and extensions
            }
        }
        Ok(())
    }

    /// Checks what every user of the vocabulary relies on: no empty, over-long or duplicate piece,
    /// one unknown piece, finite scores, byte pieces that spell a byte, all 256 of them if there
    /// is byte fallback.
    pub(crate) fn check(&self, file: &Path) -> Result<()> {
        let wrong = |id: usize, what: String| Error::Vocabulary {
            file: file.to_path_buf(),
            id: id as u32,
            what,
        };
        if self.pieces.len() > MAX_PIECES {
            return Err(wrong(MAX_PIECES, format!("more than {MAX_PIECES} pieces")));
        }
        let mut seen = HashMap::with_capacity(self.pieces.len());
        let mut bytes = [false; 256];
        let mut unknown = None;
        for (id, piece) in self.pieces.iter().enumerate() {
            let len = piece.text.len();
            if len == 0 {
                return Err(wrong(id, "it is empty".into()));
            }
            if len > MAX_PIECE_BYTES {
                let what = format!("it has {len} bytes, at most {MAX_PIECE_BYTES} are read");
                return Err(wrong(id, what));
            }
            if !piece.score.is_finite() {
                return Err(wrong(id, format!("its score is {}", piece.score)));
            }
            if let Some(first) = seen.insert(piece.text.as_str(), id) {
                let what = format!("`{}` is piece {first} already", piece.text);
                return Err(wrong(id, what));
            }
            match piece.kind {
                Kind::Unknown => {
                    if let Some(first) = unknown.replace(id) {
                        let what = format!("a second unknown piece; piece {first} is one already");
                        return Err(wrong(id, what));
                    }
                }
                Kind::Byte => match byte_value(&piece.text) {
                    Some(byte) => bytes[usize::from(byte)] = true,
                    None => {
                        let what = format!("byte piece `{}`, expected `<0x00>`", piece.text);
                        return Err(wrong(id, what));
                    }
                },
                _ => {}
            }
        }
        if unknown.is_none() {
            let what = "there is no piece of the type `unknown`".into();
            return Err(wrong(self.pieces.len(), what));
        }
        if self.byte_fallback
            && let Some(byte) = bytes.iter().position(|&there| !there)
        {
            let what = format!("byte fallback without the byte piece `<0x{byte:02X}>`");
            return Err(wrong(self.pieces.len(), what));
        }
        Ok(())
    }
}

fn read_piece(field: &Field<'_>) -> Result<Piece, Broken> {
    let mut piece = Piece {
        text: String::new(),
        score: 0.0,
        kind: Kind::Normal,
    };
    let mut fields = Fields::new(field.bytes("pieces")?, field.offset);
    while let Some(field) = fields.next()? {
        match field.number {
            1 => piece.text = field.string("piece")?.into(),
            2 => piece.score = field.f32("score")?,
            3 => {
                let number = field.varint("type")?;
                piece.kind = Kind::from_number(number)
                    .ok_or_else(|| field.broken(format!("piece type {number}, expected 1 to 6")))?;
            }
            _ => {}
        }
    }
    Ok(piece)
}

/// The byte that a piece such as `<0x0A>` stands for.
pub(crate) fn byte_value(piece: &str) -> Option<u8> {
    let hex = piece.strip_prefix("<0x")?.strip_suffix('>')?;
    if hex.len() != 2 || !hex.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    u8::from_str_radix(hex, 16).ok()
}
