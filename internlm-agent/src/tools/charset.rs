//! Text from bytes of which nobody knows the encoding.

use chardetng::{EncodingDetector, Iso2022JpDetection, Utf8Detection};
use encoding_rs::Encoding;

/// How far the declaration of an encoding may stand from the start (HTML Standard, section 13.2.3.2).
const PRESCAN: usize = 1024;

/// Bytes as text. The encoding is that of the byte order mark, else what was said with them (the value of a
/// `Content-Type`), else what they say themselves (HTML's `charset`, XML's `encoding`), else UTF-8 if they are that,
/// else a guess. What the encoding does not have becomes U+FFFD.
pub(crate) fn decode(bytes: &[u8], content_type: Option<&str>) -> String {
    let encoding = match Encoding::for_bom(bytes) {
        Some((encoding, _)) => encoding,
        None => content_type
            .and_then(|value| declared(value.as_bytes(), b"charset"))
            .or_else(|| {
                let start = &bytes[..bytes.len().min(PRESCAN)];
                // The declaration was readable as ASCII, so it is not UTF-16 whatever it says.
                declared(start, b"charset")
                    .or_else(|| declared(start, b"encoding"))
                    .map(Encoding::output_encoding)
            })
            .unwrap_or_else(|| guess(bytes)),
    };
    encoding.decode(bytes).0.into_owned()
}

fn guess(bytes: &[u8]) -> &'static Encoding {
    // A character that the end cuts is no reason against UTF-8.
    let cut = std::str::from_utf8(bytes).map_or_else(|error| error.error_len().is_none(), |_| true);
    if cut {
        return encoding_rs::UTF_8;
    }
    let mut detector = EncodingDetector::new(Iso2022JpDetection::Deny);
    detector.feed(bytes, true);
    detector.guess(None, Utf8Detection::Allow)
}

/// The encoding behind `name=`, in quotes or not.
fn declared(bytes: &[u8], name: &[u8]) -> Option<&'static Encoding> {
    let mut rest = bytes;
    while let Some(at) = rest
        .windows(name.len())
        .position(|window| window.eq_ignore_ascii_case(name))
    {
        rest = &rest[at + name.len()..];
        let Some(value) = rest.trim_ascii_start().strip_prefix(b"=") else {
            continue;
        };
        let value = value.trim_ascii_start();
        let value = value
            .strip_prefix(b"\"")
            .or_else(|| value.strip_prefix(b"'"))
            .unwrap_or(value);
        let end = value
            .iter()
            .position(|byte| !(byte.is_ascii_alphanumeric() || b"-_:.".contains(byte)))
            .unwrap_or(value.len());
        if let Some(encoding) = Encoding::for_label(&value[..end]) {
            return Some(encoding);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_encoding_is_said_or_found() {
        let gbk = encoding_rs::GBK.encode("今天天气很好，我们去公园散步。").0;
        let text = "今天天气很好，我们去公园散步。";
        assert_eq!(decode(&gbk, Some("text/plain; charset=GB2312")), text);
        assert_eq!(decode(&gbk, Some("text/plain; charset=\"gbk\"")), text);
        assert_eq!(decode(&gbk, None), text);
        let page = [b"<meta charset=gbk><p>".as_slice(), &gbk].concat();
        assert!(decode(&page, None).ends_with(text));
        let xml = [b"<?xml version='1.0' encoding='gb18030'?>".as_slice(), &gbk].concat();
        assert!(decode(&xml, None).ends_with(text));
        assert_eq!(decode(text.as_bytes(), None), text);
        // A page that was cut within a character is UTF-8 still.
        assert!(decode(&text.as_bytes()[..44], None).starts_with("今天天气很好"));
        assert_eq!(
            decode(b"\xff\xfea\0b\0", Some("text/plain; charset=utf-8")),
            "ab"
        );
        assert_eq!(decode(b"caf\xe9 cr\xe8me", None), "café crème");
        assert_eq!(
            decode(b"<meta charset=utf-16><p>x", None),
            "<meta charset=utf-16><p>x"
        );
        assert_eq!(decode(b"", Some("text/plain; charset=unknown")), "");
    }
}
