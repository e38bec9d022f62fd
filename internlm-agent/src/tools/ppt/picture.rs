//! The kind and size of an image, from its head.

/// An image of a slide.
#[derive(Clone, Debug)]
pub(super) struct Picture {
    pub(super) bytes: Vec<u8>,
    /// The ending of its file, which says its type.
    pub(super) ending: &'static str,
    pub(super) width: u32,
    pub(super) height: u32,
}

impl Picture {
    /// An image in PNG, JPEG, GIF or BMP with a size.
    pub(super) fn new(bytes: Vec<u8>) -> Option<Self> {
        let (ending, width, height) = head(&bytes)?;
        (width > 0 && height > 0).then_some(Self {
            bytes,
            ending,
            width,
            height,
        })
    }
}

fn head(bytes: &[u8]) -> Option<(&'static str, u32, u32)> {
    let part = |at: usize, length: usize| bytes.get(at..at + length);
    let small = |at: usize| Some(u16::from_le_bytes(part(at, 2)?.try_into().ok()?));
    if bytes.starts_with(b"\x89PNG\r\n\x1a\n") {
        let side = |at: usize| Some(u32::from_be_bytes(part(at, 4)?.try_into().ok()?));
        return Some(("png", side(16)?, side(20)?));
    }
    if bytes.starts_with(b"GIF8") {
        return Some(("gif", small(6)?.into(), small(8)?.into()));
    }
    if bytes.starts_with(b"BM") {
        // A height below zero says that the first row is above.
        let side =
            |at: usize| Some(i32::from_le_bytes(part(at, 4)?.try_into().ok()?).unsigned_abs());
        return Some(("bmp", side(18)?, side(22)?));
    }
    match bytes.starts_with(b"\xff\xd8") {
        true => jpeg(bytes),
        false => None,
    }
}

/// The size in the first frame header (ITU-T T.81, annex B.2.2).
fn jpeg(bytes: &[u8]) -> Option<(&'static str, u32, u32)> {
    let pair = |at: usize| {
        let bytes = bytes.get(at..at + 2)?;
        Some(u16::from_be_bytes(bytes.try_into().ok()?))
    };
    let mut at = 2;
    loop {
        if *bytes.get(at)? != 0xff {
            return None;
        }
        match *bytes.get(at + 1)? {
            // Fill bytes, and markers without a length.
            0xff => at += 1,
            0x01 | 0xd0..=0xd8 => at += 2,
            0xc0..=0xc3 | 0xc5..=0xc7 | 0xc9..=0xcb | 0xcd..=0xcf => {
                return Some(("jpg", pair(at + 7)?.into(), pair(at + 5)?.into()));
            }
            _ => at += 2 + usize::from(pair(at + 2)?.max(2)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_are_read() {
        let gif = b"GIF89a\x05\x00\x03\x00".to_vec();
        let jpeg = b"\xff\xd8\xff\xe0\x00\x04ab\xff\xff\xc0\x00\x11\x08\x00\x03\x00\x05".to_vec();
        let png = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\x05\0\0\0\x03".to_vec();
        let mut bmp = vec![0; 26];
        bmp[..2].copy_from_slice(b"BM");
        bmp[18] = 5;
        bmp[22..26].copy_from_slice(&(-3_i32).to_le_bytes());
        for (bytes, ending) in [(gif, "gif"), (jpeg, "jpg"), (png, "png"), (bmp, "bmp")] {
            for cut in 0..bytes.len() {
                Picture::new(bytes[..cut].to_vec());
            }
            let picture = Picture::new(bytes).unwrap();
            assert_eq!(
                (picture.ending, picture.width, picture.height),
                (ending, 5, 3)
            );
        }
        assert!(Picture::new(b"\xff\xd8\xff\xe0\x00\x00\x00\x00".to_vec()).is_none());
        assert!(Picture::new(b"text".to_vec()).is_none());
    }
}
