//! SentencePiece's byte-pair encoding, exactly and fast.
//!
//! SentencePiece merges, over the whole text, the pair of neighbours whose joined piece has the
//! highest score, the leftmost of equals, until no pair joins to a piece (`src/bpe_model.cc` of
//! google/sentencepiece). Two facts make that cheap here:
//!
//! - A merge result is a piece, so two neighbouring characters that stand next to each other in no
//!   piece are never merged over. Text is cut at such borders into short runs (words, single
//!   ideographs) that are merged alone. The borders come from the vocabulary, not from a rule on
//!   languages, and the result is the same for every vocabulary.
//! - Runs repeat. A direct-mapped cache of fixed size maps the bytes of a run to its ids.
//!
//! Long runs without a border are merged with a heap, in `O(n log n)`.

mod cache;
mod merge;
mod symbols;

use std::borrow::Cow;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use rustc_hash::FxHashMap;

use self::cache::{Cache, MAX_KEY_BYTES};
use self::merge::{Heap, MAX_SHORT, Merges};
use self::symbols::Symbols;
use crate::error::{Error, Result};
use crate::matcher::{Matcher, is_marker};
use crate::sentencepiece::{Kind, PieceModel, byte_value};

/// A symbol that is a token already and takes part in no merge.
const FROZEN: u32 = 1 << 29;
/// Most scratch spaces kept for reuse; more threads than that allocate anew.
const MAX_POOLED: usize = 64;

/// An encoder for one vocabulary. Encoding needs `&self` only.
#[derive(Debug)]
pub(crate) struct Spm {
    symbols: Symbols,
    merges: Merges,
    unknown: u32,
    /// The id of each byte piece, with byte fallback.
    byte_ids: Option<Box<[u32; 256]>>,
    /// Pieces that are matched before merging: all of them, and those that do not look like markup.
    user_defined: Matcher,
    plain_user_defined: Matcher,
    /// Pieces that are split again after merging; empty for nearly all vocabularies.
    unused: Vec<bool>,
    add_dummy_prefix: bool,
    remove_extra_whitespaces: bool,
    space: char,
    /// Spaces must be escaped before matching: a user-defined piece contains an escaped one.
    escape_first: bool,
    pool: Mutex<Vec<Scratch>>,
}

/// Memory of one running encoder.
#[derive(Debug, Default)]
struct Scratch {
    cache: Cache,
    heap: Heap,
}

impl Spm {
    /// Builds the tables of a vocabulary that [`PieceModel::check`] has passed.
    pub(crate) fn new(model: &PieceModel, file: &Path) -> Result<Self> {
        let space = if model.escape_whitespaces {
            '\u{2581}'
        } else {
            ' '
        };
        let user_defined = || {
            model
                .pieces
                .iter()
                .zip(0u32..)
                .filter(|(piece, _)| piece.kind == Kind::UserDefined)
                .map(|(piece, id)| (piece.text.as_str(), id))
        };
        let plain = || user_defined().filter(|(text, _)| !is_marker(text));
        let merges = Merges::new(&model.pieces, file)?;
        let symbols = Symbols::new(
            &model.pieces,
            merges.inner_characters(),
            space,
            user_defined().map(|(text, _)| text),
            plain().map(|(text, _)| text),
        );
        let mut byte_ids = Box::new([0; 256]);
        for (piece, id) in model.pieces.iter().zip(0u32..) {
            if let (Kind::Byte, Some(byte)) = (piece.kind, byte_value(&piece.text)) {
                byte_ids[usize::from(byte)] = id;
            }
        }
        let unknown = model.pieces.iter().position(|p| p.kind == Kind::Unknown);
        let unused = model.pieces.iter().map(|p| p.kind == Kind::Unused);
        let any_unused = unused.clone().any(|unused| unused);
        Ok(Self {
            symbols,
            merges,
            unknown: unknown.unwrap_or(0) as u32,
            byte_ids: model.byte_fallback.then_some(byte_ids),
            user_defined: Matcher::new(user_defined()),
            plain_user_defined: Matcher::new(plain()),
            unused: if any_unused {
                unused.collect()
            } else {
                Vec::new()
            },
            add_dummy_prefix: model.add_dummy_prefix,
            remove_extra_whitespaces: model.remove_extra_whitespaces,
            space,
            escape_first: space != ' ' && user_defined().any(|(text, _)| text.contains(space)),
            pool: Mutex::new(Vec::new()),
        })
    }

    /// Appends the ids of a text. With `markers`, user-defined pieces that look like markup are
    /// matched as well; control pieces never are.
    pub(crate) fn encode(&self, text: &str, markers: bool, out: &mut Vec<u32>) -> Result<()> {
        let text = self.normalize(text);
        if text.len() > FROZEN as usize {
            return Err(Error::TextTooLong {
                bytes: text.len(),
                most: FROZEN as usize,
            });
        }
        let pooled = self.pool().pop();
        let mut scratch = pooled.unwrap_or_default();
        let mut run = Run {
            spm: self,
            text: text.as_bytes(),
            matcher: if markers {
                &self.user_defined
            } else {
                &self.plain_user_defined
            },
            markers,
            out,
            unknown_at: usize::MAX,
        };
        if self.unused.is_empty() {
            run.by_runs(&mut scratch);
        } else {
            run.whole(&mut scratch);
        }
        scratch.heap.shrink();
        let mut pool = self.pool();
        if pool.len() < MAX_POOLED {
            pool.push(scratch);
        }
        Ok(())
    }

    fn pool(&self) -> std::sync::MutexGuard<'_, Vec<Scratch>> {
        // A panic elsewhere can't leave a half-made scratch space in the pool.
        self.pool.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The normalizer of SentencePiece (`src/normalizer.cc`) for its identity rule. The table of
    /// symbols escapes those spaces that are left.
    fn normalize<'a>(&self, text: &'a str) -> Cow<'a, str> {
        let text = self.trim_and_prefix(text);
        if self.escape_first && text.contains(' ') {
            return Cow::Owned(text.replace(' ', self.space.encode_utf8(&mut [0; 4])));
        }
        text
    }

    fn trim_and_prefix<'a>(&self, text: &'a str) -> Cow<'a, str> {
        if !(self.add_dummy_prefix || self.remove_extra_whitespaces) {
            return Cow::Borrowed(text);
        }
        let trimmed = if self.remove_extra_whitespaces {
            text.trim_start_matches(' ')
        } else {
            text
        };
        if trimmed.is_empty() {
            return Cow::Borrowed(trimmed);
        }
        let mut out = String::with_capacity(trimmed.len() + 3);
        if self.add_dummy_prefix {
            out.push(self.space);
        }
        if self.remove_extra_whitespaces {
            let mut after_space = true;
            for c in trimmed.chars() {
                match (c, after_space) {
                    (' ', true) => {}
                    (' ', false) => out.push(self.space),
                    _ => out.push(c),
                }
                after_space = c == ' ';
            }
            out.truncate(out.trim_end_matches(self.space).len());
        } else {
            out.push_str(trimmed);
        }
        Cow::Owned(out)
    }
}

/// One text on its way to ids.
struct Run<'a> {
    spm: &'a Spm,
    text: &'a [u8],
    matcher: &'a Matcher,
    markers: bool,
    out: &'a mut Vec<u32>,
    /// Length of `out` after the last unknown token; neighbours become one.
    unknown_at: usize,
}

impl Run<'_> {
    /// Cuts the text into runs and encodes each alone.
    fn by_runs(&mut self, scratch: &mut Scratch) {
        let symbols = &self.spm.symbols;
        let (starts, pair_mask) = symbols.masks(self.markers);
        let text = self.text;
        let mut at = 0;
        while at < text.len() {
            let start = at;
            let (first, next) = symbols.at(text, at);
            if first & starts != 0
                && let Some((id, len)) = self.matcher.longest(&text[at..])
            {
                self.out.push(id);
                at += len;
                continue;
            }
            at = next;
            let mut last = first;
            let mut count = 1;
            while at < text.len() {
                let (before, byte) = (text[at - 1], text[at]);
                if (before | byte) < 0x80 {
                    let pair = symbols.ascii_pair(before, byte);
                    let joined = if pair & pair_mask == 1 {
                        true
                    } else {
                        pair & 1 != 0 && self.matcher.longest(&text[at..]).is_none()
                    };
                    if !joined {
                        break;
                    }
                    at += 1;
                    count += 1;
                    continue;
                }
                if before < 0x80 {
                    last = symbols.at(text, at - 1).0;
                }
                let (class, next) = symbols.at(text, at);
                if !symbols.joined(last, class)
                    || (class & starts != 0 && self.matcher.longest(&text[at..]).is_some())
                {
                    break;
                }
                last = class;
                at = next;
                count += 1;
            }
            match count {
                1 => self.emit(Symbols::symbol(first)),
                2 => {
                    if text[at - 1] < 0x80 {
                        last = symbols.at(text, at - 1).0;
                    }
                    let (left, right) = (Symbols::symbol(first), Symbols::symbol(last));
                    match self.spm.merges.get(left, right) {
                        Some(id) => self.out.push(id),
                        None => {
                            self.emit(left);
                            self.emit(right);
                        }
                    }
                }
                _ => self.run(start, at, count, scratch),
            }
        }
    }

    /// Encodes a run of three or more characters.
    fn run(&mut self, start: usize, end: usize, count: usize, scratch: &mut Scratch) {
        let key = (end - start <= MAX_KEY_BYTES).then(|| cache::key(self.text, start, end));
        if let Some(key) = &key
            && let Some(ids) = scratch.cache.get(key)
        {
            self.out.extend_from_slice(ids);
            return;
        }
        let from = self.out.len();
        if count <= MAX_SHORT {
            let mut run = [0; MAX_SHORT];
            let mut at = start;
            for symbol in &mut run[..count] {
                let (class, next) = self.spm.symbols.at(self.text, at);
                *symbol = Symbols::symbol(class);
                at = next;
            }
            let left = self.spm.merges.merge_short(&mut run, count);
            for &symbol in &run[..left] {
                self.emit(symbol);
            }
        } else {
            let mut at = start;
            scratch.heap.clear(count);
            while at < end {
                let (class, next) = self.spm.symbols.at(self.text, at);
                scratch.heap.push(Symbols::symbol(class));
                at = next;
            }
            self.spm.merges.merge_heap(&mut scratch.heap, |_, _, _| {});
            for symbol in scratch.heap.symbols() {
                self.emit(symbol);
            }
        }
        // A run that begins with the unknown token depends on what came before it.
        if let Some(key) = key
            && (self.unknown_at == usize::MAX || self.unknown_at < from)
        {
            scratch.cache.put(key, &self.out[from..]);
        }
    }

    /// Merges the whole text at once. A vocabulary with unused pieces needs that: they are split
    /// again along the merge that was tried last anywhere in the text.
    fn whole(&mut self, scratch: &mut Scratch) {
        let (starts, _) = self.spm.symbols.masks(self.markers);
        scratch.heap.clear(self.text.len());
        let mut at = 0;
        while at < self.text.len() {
            let (class, next) = self.spm.symbols.at(self.text, at);
            if class & starts != 0
                && let Some((id, len)) = self.matcher.longest(&self.text[at..])
            {
                scratch.heap.push(FROZEN | id);
                at += len;
                continue;
            }
            scratch.heap.push(Symbols::symbol(class));
            at = next;
        }
        let mut parts = FxHashMap::default();
        let unused = &self.spm.unused;
        self.spm
            .merges
            .merge_heap(&mut scratch.heap, |id, left, right| {
                if unused[id as usize] {
                    parts.insert(id, (left, right));
                }
            });
        let mut stack = Vec::new();
        for symbol in scratch.heap.symbols() {
            stack.push(symbol);
            while let Some(symbol) = stack.pop() {
                match parts.get(&symbol) {
                    Some(&(left, right)) => stack.extend([right, left]),
                    None if symbol & FROZEN != 0 => self.out.push(symbol & !FROZEN),
                    None => self.emit(symbol),
                }
            }
        }
    }

    /// Appends the ids of a symbol that no merge has taken.
    fn emit(&mut self, symbol: u32) {
        if symbol < self.spm.symbols.pieces {
            self.out.push(symbol);
        } else {
            self.emit_unknown(self.spm.symbols.character(symbol));
        }
    }

    #[cold]
    fn emit_unknown(&mut self, character: char) {
        match &self.spm.byte_ids {
            Some(ids) => {
                let mut utf8 = [0; 4];
                let utf8 = character.encode_utf8(&mut utf8).bytes();
                self.out.extend(utf8.map(|byte| ids[usize::from(byte)]));
            }
            None => {
                if self.unknown_at != self.out.len() {
                    self.out.push(self.spm.unknown);
                }
                self.unknown_at = self.out.len();
            }
        }
    }
}
