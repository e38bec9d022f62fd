//! Filters of streams (ISO 32000-1, section 7.4), as far as they hold text.

use std::io::Read;

use flate2::read::ZlibDecoder;

/// The bytes without a filter; `None` if it is one for images, an error if there would be more bytes than allowed.
/// Of broken data what was readable is given.
pub(super) fn decode(
    name: &str,
    bytes: &[u8],
    max: usize,
    parameter: &dyn Fn(&str) -> Option<usize>,
) -> Result<Option<Vec<u8>>, ()> {
    let decoded = match name {
        "FlateDecode" | "Fl" => predicted(flate(bytes, max)?, parameter),
        "LZWDecode" | "LZW" => {
            let early = parameter("EarlyChange").unwrap_or(1) != 0;
            predicted(lzw(bytes, max, early)?, parameter)
        }
        "ASCIIHexDecode" | "AHx" => hex(bytes),
        "ASCII85Decode" | "A85" => ascii85(bytes),
        "RunLengthDecode" | "RL" => run_length(bytes, max)?,
        "Crypt" => bytes.to_vec(),
        _ => return Ok(None),
    };
    match decoded.len() > max {
        true => Err(()),
        false => Ok(Some(decoded)),
    }
}

fn flate(bytes: &[u8], max: usize) -> Result<Vec<u8>, ()> {
    let mut decoded = Vec::new();
    let limit = (max as u64).saturating_add(1);
    // An error leaves what was read before it.
    ZlibDecoder::new(bytes)
        .take(limit)
        .read_to_end(&mut decoded)
        .ok();
    match decoded.len() > max {
        true => Err(()),
        false => Ok(decoded),
    }
}

/// Codes of 9 to 12 bits (section 7.4.4.2).
fn lzw(bytes: &[u8], max: usize, early: bool) -> Result<Vec<u8>, ()> {
    const CLEAR: usize = 256;
    const END: usize = 257;
    let mut decoded: Vec<u8> = Vec::new();
    // An entry is a part of what was decoded already: where it begins, and its length.
    let mut table: Vec<(usize, usize)> = Vec::new();
    let (mut width, mut buffer, mut bits) = (9, 0_u32, 0);
    let mut before: Option<(usize, usize)> = None;
    for byte in bytes {
        buffer = buffer << 8 | u32::from(*byte);
        bits += 8;
        if bits < width {
            continue;
        }
        bits -= width;
        let code = (buffer >> bits) as usize & ((1 << width) - 1);
        buffer &= (1 << bits) - 1;
        match code {
            CLEAR => {
                table.clear();
                width = 9;
                before = None;
                continue;
            }
            END => break,
            _ => {}
        }
        let start = decoded.len();
        match (code, before) {
            (0..=255, _) => decoded.push(code as u8),
            (_, before) => match (table.get(code - 258).copied(), before) {
                (Some((at, length)), _) => decoded.extend_from_within(at..at + length),
                // The entry that is just being made.
                (None, Some((at, length))) if code - 258 == table.len() => {
                    decoded.extend_from_within(at..at + length);
                    let first = decoded[at];
                    decoded.push(first);
                }
                _ => return Ok(decoded),
            },
        }
        if decoded.len() > max {
            return Err(());
        }
        if let Some((at, length)) = before
            && table.len() < 4096 - 258
        {
            table.push((at, length + 1));
        }
        before = Some((start, decoded.len() - start));
        let next = table.len() + 258 + usize::from(early) + 1;
        width = match next {
            0..=512 => 9,
            513..=1024 => 10,
            1025..=2048 => 11,
            _ => 12,
        };
    }
    Ok(decoded)
}

fn hex(bytes: &[u8]) -> Vec<u8> {
    let ended = bytes.iter().take_while(|byte| **byte != b'>');
    let digits: Vec<u8> = ended
        .filter_map(|byte| char::from(*byte).to_digit(16))
        .map(|digit| digit as u8)
        .collect();
    let pairs = digits.chunks(2);
    pairs
        .map(|pair| pair[0] << 4 | pair.get(1).copied().unwrap_or(0))
        .collect()
}

fn ascii85(bytes: &[u8]) -> Vec<u8> {
    let mut decoded = Vec::new();
    let mut group: Vec<u32> = Vec::with_capacity(5);
    for byte in bytes {
        match byte {
            b'~' => break,
            b'z' if group.is_empty() => decoded.extend([0; 4]),
            b'!'..=b'u' => {
                group.push(u32::from(byte - b'!'));
                if group.len() == 5 {
                    decoded.extend(number85(&group).to_be_bytes());
                    group.clear();
                }
            }
            _ => {}
        }
    }
    if group.len() > 1 {
        let count = group.len() - 1;
        group.resize(5, 84);
        decoded.extend(&number85(&group).to_be_bytes()[..count]);
    }
    decoded
}

fn number85(group: &[u32]) -> u32 {
    let add = |number: u32, digit: &u32| number.wrapping_mul(85).wrapping_add(*digit);
    group.iter().fold(0, add)
}

fn run_length(bytes: &[u8], max: usize) -> Result<Vec<u8>, ()> {
    let mut decoded = Vec::new();
    let mut rest = bytes;
    while let Some((&length, after)) = rest.split_first() {
        match length {
            0..=127 => {
                let count = (usize::from(length) + 1).min(after.len());
                decoded.extend(&after[..count]);
                rest = &after[count..];
            }
            128 => break,
            129..=255 => {
                let Some((&byte, after)) = after.split_first() else {
                    break;
                };
                decoded.extend(std::iter::repeat_n(byte, 257 - usize::from(length)));
                rest = after;
            }
        }
        if decoded.len() > max {
            return Err(());
        }
    }
    Ok(decoded)
}

/// Undoes the prediction of rows (section 7.4.4.4): PNG's, and TIFF's for bytes.
fn predicted(bytes: Vec<u8>, parameter: &dyn Fn(&str) -> Option<usize>) -> Vec<u8> {
    let predictor = parameter("Predictor").unwrap_or(1);
    if predictor < 2 {
        return bytes;
    }
    let colors = parameter("Colors").unwrap_or(1).clamp(1, 32);
    let depth = parameter("BitsPerComponent").unwrap_or(8).clamp(1, 16);
    let columns = parameter("Columns").unwrap_or(1).clamp(1, 1 << 20);
    let pixel = (colors * depth).div_ceil(8);
    let row = (colors * depth * columns).div_ceil(8);
    if predictor == 2 {
        let mut bytes = bytes;
        if depth == 8 {
            for row in bytes.chunks_mut(row) {
                for at in pixel..row.len() {
                    row[at] = row[at].wrapping_add(row[at - pixel]);
                }
            }
        }
        return bytes;
    }
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut above = vec![0; row];
    for chunk in bytes.chunks(row + 1) {
        let (kind, chunk) = (chunk[0], &chunk[1..]);
        let mut line = vec![0; row];
        for at in 0..chunk.len() {
            let left = if at >= pixel { line[at - pixel] } else { 0 };
            let corner = if at >= pixel { above[at - pixel] } else { 0 };
            let up = above[at];
            let guess = match kind {
                1 => left,
                2 => up,
                3 => ((u16::from(left) + u16::from(up)) / 2) as u8,
                4 => paeth(left, up, corner),
                _ => 0,
            };
            line[at] = chunk[at].wrapping_add(guess);
        }
        decoded.extend(&line[..chunk.len()]);
        above = line;
    }
    decoded
}

fn paeth(left: u8, up: u8, corner: u8) -> u8 {
    let guess = i16::from(left) + i16::from(up) - i16::from(corner);
    let far = |value: u8| (guess - i16::from(value)).abs();
    if far(left) <= far(up) && far(left) <= far(corner) {
        left
    } else if far(up) <= far(corner) {
        up
    } else {
        corner
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(name: &str, bytes: &[u8], want: &[u8]) {
        let decoded = decode(name, bytes, 1000, &|_| None);
        assert_eq!(decoded, Ok(Some(want.to_vec())), "{name}");
    }

    #[test]
    fn filters_are_undone() {
        check("ASCIIHexDecode", b"48 65 6C 6c 6F>", b"Hello");
        check("ASCII85Decode", b"87cURD]i,\"Ebo80~>", b"Hello World!");
        check(
            "RunLengthDecode",
            &[2, b'a', b'b', b'c', 254, b'x', 128],
            b"abcxxx",
        );
        // The example of the standard, section 7.4.4.2.
        let coded = [0x80, 0x0b, 0x60, 0x50, 0x22, 0x0c, 0x0c, 0x85, 0x01];
        check(
            "LZWDecode",
            &coded,
            &[45, 45, 45, 45, 45, 65, 45, 45, 45, 66],
        );
        assert_eq!(decode("DCTDecode", b"x", 1000, &|_| None), Ok(None));
    }

    #[test]
    fn rows_of_png_are_added_up() {
        let parameter = |name: &str| match name {
            "Predictor" => Some(12),
            "Columns" => Some(3),
            _ => None,
        };
        let rows = vec![1, 1, 1, 1, 2, 1, 1, 1, 0, 9, 9, 9];
        assert_eq!(predicted(rows, &parameter), [1, 2, 3, 2, 3, 4, 9, 9, 9]);
    }

    #[test]
    fn bombs_end_at_the_limit() {
        let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::best());
        std::io::Write::write_all(&mut encoder, &vec![0; 1 << 20]).unwrap();
        let bomb = encoder.finish().unwrap();
        assert_eq!(decode("FlateDecode", &bomb, 1000, &|_| None), Err(()));
        assert_eq!(
            decode("RunLengthDecode", &[129, 0].repeat(100), 1000, &|_| None),
            Err(())
        );
        let zeros = [0b1000_0000, 0, 0, 0].repeat(2000);
        decode("LZWDecode", &zeros, 1000, &|_| None).ok();
    }
}
