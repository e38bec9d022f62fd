//! Characters as symbols, and which of them may stand next to each other in a piece.

use rustc_hash::FxHashMap;

use crate::sentencepiece::{Kind, Piece};

/// A class with this bit is a character that no piece contains; the low bits are the character.
const UNKNOWN: u32 = 1 << 28;
/// The character may begin a user-defined piece.
const STARTS_ANY: u32 = 1 << 31;
/// The character may begin a user-defined piece that does not look like markup.
const STARTS_PLAIN: u32 = 1 << 30;
const FLAGS: u32 = STARTS_ANY | STARTS_PLAIN;
/// The same flags in the table of ASCII pairs, whose lowest bit says that the pair may be joined.
const PAIR_STARTS_ANY: u8 = 4;
const PAIR_STARTS_PLAIN: u8 = 2;
/// Bits of the filter of pairs: 32 KiB, which stay in the first-level cache.
const FILTER_BITS: u32 = 18;

/// What is known of single characters and of pairs.
#[derive(Debug)]
pub(super) struct Symbols {
    /// Number of pieces. Lower symbols are piece ids, higher ones are characters that occur in
    /// pieces and are none themselves.
    pub(super) pieces: u32,
    inner: Vec<char>,
    /// Classes of the basic plane.
    basic: Box<[u32; 1 << 16]>,
    /// Classes of known characters above it.
    astral: FxHashMap<u32, u32>,
    ascii: Box<[u8; 1 << 14]>,
    /// A set of hashes of pairs. A false answer "joined" makes a longer run, not a wrong one.
    filter: Box<[u64; 1 << (FILTER_BITS - 6)]>,
}

impl Symbols {
    /// `inner` are the characters that occur in pieces and are none, in the order of their symbols.
    pub(super) fn new<'a>(
        pieces: &[Piece],
        inner: Vec<char>,
        space: char,
        user_defined: impl Iterator<Item = &'a str>,
        plain: impl Iterator<Item = &'a str>,
    ) -> Self {
        let mut symbols = Self {
            pieces: pieces.len() as u32,
            inner: Vec::new(),
            basic: vec![0; 1 << 16]
                .into_boxed_slice()
                .try_into()
                .expect("the length is the array's"),
            astral: FxHashMap::default(),
            ascii: Box::new([0; 1 << 14]),
            filter: Box::new([0; 1 << (FILTER_BITS - 6)]),
        };
        for (cp, class) in symbols.basic.iter_mut().enumerate() {
            *class = UNKNOWN | cp as u32;
        }
        for (piece, id) in pieces.iter().zip(0..) {
            let mut chars = piece.text.chars();
            if let (true, Some(c), None) = (mergeable(piece), chars.next(), chars.next()) {
                symbols.set(c, id);
            }
        }
        for (&c, symbol) in inner.iter().zip(symbols.pieces..) {
            symbols.set(c, symbol);
        }
        symbols.inner = inner;
        for (tokens, flag) in [
            (user_defined.collect::<Vec<_>>(), STARTS_ANY),
            (plain.collect(), STARTS_PLAIN),
        ] {
            for c in tokens.iter().filter_map(|token| token.chars().next()) {
                let class = symbols.class(c);
                symbols.set(c, class | flag);
            }
        }
        // Spaces are read as the character that pieces write for them.
        symbols.basic[usize::from(b' ')] = symbols.class(space);
        for piece in pieces.iter().filter(|piece| mergeable(piece)) {
            let mut before = None;
            for c in piece.text.chars() {
                if let Some(before) = before.replace(c) {
                    symbols.join(before, c, space);
                }
            }
        }
        for cell in 0..symbols.ascii.len() {
            let class = symbols.basic[cell & 0x7f];
            if class & STARTS_ANY != 0 {
                symbols.ascii[cell] |= PAIR_STARTS_ANY;
            }
            if class & STARTS_PLAIN != 0 {
                symbols.ascii[cell] |= PAIR_STARTS_PLAIN;
            }
        }
        symbols
    }

    fn class(&self, c: char) -> u32 {
        match self.basic.get(c as usize) {
            Some(&class) => class,
            None => *self
                .astral
                .get(&(c as u32))
                .unwrap_or(&(UNKNOWN | c as u32)),
        }
    }

    fn set(&mut self, c: char, class: u32) {
        match self.basic.get_mut(c as usize) {
            Some(cell) => *cell = class,
            None => {
                self.astral.insert(c as u32, class);
            }
        }
    }

    fn join(&mut self, a: char, b: char, space: char) {
        let bit = filter_bit(self.class(a), self.class(b));
        self.filter[bit >> 6] |= 1 << (bit & 63);
        let ascii = |c: char| {
            let mut spellings = vec![c];
            if c == space {
                spellings.push(' ');
            }
            spellings.retain(char::is_ascii);
            spellings
        };
        for a in ascii(a) {
            for b in ascii(b) {
                self.ascii[(a as usize) << 7 | b as usize] |= 1;
            }
        }
    }

    /// Bits of a class, and bits of an ASCII pair to compare with 1, that depend on whether pieces
    /// that look like markup are matched.
    pub(super) fn masks(&self, markers: bool) -> (u32, u8) {
        if markers {
            (STARTS_ANY, 1 | PAIR_STARTS_ANY)
        } else {
            (STARTS_PLAIN, 1 | PAIR_STARTS_PLAIN)
        }
    }

    /// The class of the character at a byte of valid UTF-8, and where the next one begins.
    #[inline(always)]
    pub(super) fn at(&self, text: &[u8], at: usize) -> (u32, usize) {
        let bits = |i: usize| u32::from(text[at + i] & 0x3f);
        let lead = text[at];
        match lead {
            0..0x80 => (self.basic[usize::from(lead)], at + 1),
            0x80..0xe0 => {
                let cp = u32::from(lead & 0x1f) << 6 | bits(1);
                (self.basic[cp as usize & 0xffff], at + 2)
            }
            0xe0..0xf0 => {
                let cp = u32::from(lead & 0xf) << 12 | bits(1) << 6 | bits(2);
                (self.basic[cp as usize & 0xffff], at + 3)
            }
            _ => {
                let cp = u32::from(lead & 7) << 18 | bits(1) << 12 | bits(2) << 6 | bits(3);
                (*self.astral.get(&cp).unwrap_or(&(UNKNOWN | cp)), at + 4)
            }
        }
    }

    /// The symbol of a class.
    pub(super) fn symbol(class: u32) -> u32 {
        class & !FLAGS
    }

    /// Whether two neighbours may stand in one piece.
    #[inline(always)]
    pub(super) fn joined(&self, a: u32, b: u32) -> bool {
        let bit = filter_bit(a, b);
        self.filter[bit >> 6] >> (bit & 63) & 1 != 0
    }

    #[inline(always)]
    pub(super) fn ascii_pair(&self, a: u8, b: u8) -> u8 {
        self.ascii[usize::from(a & 0x7f) << 7 | usize::from(b & 0x7f)]
    }

    /// The character of a symbol that is not a piece.
    pub(super) fn character(&self, symbol: u32) -> char {
        let inner = symbol.wrapping_sub(self.pieces) as usize;
        match self.inner.get(inner) {
            Some(&c) => c,
            None => char::from_u32(symbol & !UNKNOWN).unwrap_or(char::REPLACEMENT_CHARACTER),
        }
    }
}

/// Whether a piece can come out of merges or is a character that can go into them.
pub(super) fn mergeable(piece: &Piece) -> bool {
    matches!(piece.kind, Kind::Normal | Kind::Unused)
}

#[inline(always)]
fn filter_bit(a: u32, b: u32) -> usize {
    let pair = u64::from(a & !FLAGS) << 32 | u64::from(b & !FLAGS);
    (pair.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (64 - FILTER_BITS)) as usize
}
