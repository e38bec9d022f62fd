//! Character maps: which text a code of a font is (ISO 32000-1, section 9.10.3).

use std::collections::BTreeMap;

use super::lexer::{Lexer, Object};

/// Most entries of a map.
const MAX_ENTRIES: usize = 200_000;

#[derive(Debug)]
enum Target {
    /// The text of the first code; its last character counts on.
    From(String),
    /// The texts one by one.
    Each(Vec<String>),
}

/// A map from codes to texts.
#[derive(Debug, Default)]
pub(super) struct Map {
    /// Lengths of codes in bytes, with their first and last codes.
    spaces: Vec<(usize, u32, u32)>,
    /// By length and first code: the last code, and what they are.
    ranges: BTreeMap<(usize, u32), (u32, Target)>,
}

impl Map {
    pub(super) fn read(bytes: &[u8]) -> Self {
        let mut map = Self::default();
        let mut lexer = Lexer::new(bytes, 0);
        let mut operands: Vec<Object> = Vec::new();
        let mut values = 0;
        while let Some(object) = lexer.object() {
            let Object::Operator(word) = object else {
                values += lexer.values();
                if values < MAX_ENTRIES {
                    operands.push(object);
                }
                continue;
            };
            match word.as_str() {
                "endcodespacerange" => {
                    for pair in operands.chunks_exact(2) {
                        if let (Object::Text(first), Object::Text(last)) = (&pair[0], &pair[1])
                            && (1..=4).contains(&first.len())
                            && map.spaces.len() < 256
                        {
                            map.spaces.push((first.len(), code(first), code(last)));
                        }
                    }
                }
                "endbfchar" => {
                    for pair in operands.chunks_exact(2) {
                        if let (Object::Text(from), Object::Text(to)) = (&pair[0], &pair[1]) {
                            map.insert(from, from, Target::From(text(to)));
                        }
                    }
                }
                "endbfrange" => {
                    for triple in operands.chunks_exact(3) {
                        let (Object::Text(first), Object::Text(last)) = (&triple[0], &triple[1])
                        else {
                            continue;
                        };
                        match &triple[2] {
                            Object::Text(to) => map.insert(first, last, Target::From(text(to))),
                            Object::Array(all) => {
                                let each = all.iter().map(|object| match object {
                                    Object::Text(to) => text(to),
                                    _ => String::new(),
                                });
                                map.insert(first, last, Target::Each(each.collect()));
                            }
                            _ => {}
                        }
                    }
                }
                _ => {}
            }
            operands.clear();
            values = 0;
        }
        map
    }

    fn insert(&mut self, first: &[u8], last: &[u8], target: Target) {
        if (1..=4).contains(&first.len()) && self.ranges.len() < MAX_ENTRIES {
            let key = (first.len(), code(first));
            self.ranges.insert(key, (code(last), target));
        }
    }

    /// How many bytes the next code has.
    pub(super) fn length(&self, bytes: &[u8], usual: usize) -> usize {
        for length in 1..=bytes.len().min(4) {
            let code = code(&bytes[..length]);
            let fits = |(of, first, last): &(usize, u32, u32)| {
                *of == length && (*first..=*last).contains(&code)
            };
            if self.spaces.iter().any(fits) {
                return length;
            }
        }
        usual.min(bytes.len()).max(1)
    }

    /// The text of a code.
    pub(super) fn text(&self, bytes: &[u8]) -> Option<String> {
        let code = code(bytes);
        let key = (bytes.len(), code);
        let ((length, first), (last, target)) = self.ranges.range(..=key).next_back()?;
        if *length != bytes.len() || code > *last {
            return None;
        }
        let offset = code - first;
        match target {
            Target::Each(texts) => texts.get(offset as usize).cloned(),
            Target::From(text) if offset == 0 => Some(text.clone()),
            Target::From(text) => {
                let last = text.chars().next_back()?;
                let next = char::from_u32(u32::from(last).checked_add(offset)?)?;
                let mut text = text[..text.len() - last.len_utf8()].to_owned();
                text.push(next);
                Some(text)
            }
        }
    }
}

/// A code as a number.
pub(super) fn code(bytes: &[u8]) -> u32 {
    bytes
        .iter()
        .take(4)
        .fold(0, |code, byte| code << 8 | u32::from(*byte))
}

/// Texts of maps are UTF-16, its high byte first.
fn text(bytes: &[u8]) -> String {
    let units: Vec<u16> = match bytes {
        [byte] => vec![u16::from(*byte)],
        bytes => bytes
            .chunks_exact(2)
            .take(64)
            .map(|pair| u16::from_be_bytes([pair[0], pair[1]]))
            .collect(),
    };
    String::from_utf16_lossy(&units)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_looked_up() {
        let map = Map::read(
            b"1 begincodespacerange <00> <7f> <8000> <ffff> endcodespacerange
            2 beginbfchar <41> <0061> <8001> <D835DC00> endbfchar
            2 beginbfrange <8100> <8102> <4e00> <8200> <8201> [<0066006c> <0078>] endbfrange",
        );
        let text = |bytes: &[u8]| map.text(bytes);
        assert_eq!(text(b"\x41").as_deref(), Some("a"));
        assert_eq!(text(b"\x80\x01").as_deref(), Some("\u{1d400}"));
        assert_eq!(text(b"\x81\x02").as_deref(), Some("丂"));
        assert_eq!(text(b"\x82\x00").as_deref(), Some("fl"));
        assert_eq!(text(b"\x82\x02"), None);
        assert_eq!(text(b"\x00\x41"), None);
        assert_eq!(map.length(b"\x41\x41", 2), 1);
        assert_eq!(map.length(b"\x81\x41", 1), 2);
    }
}
