//! Which characters the codes of simple fonts are (ISO 32000-1, annex D).

use super::glyphs;

/// An encoding that a font may begin with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Base {
    Standard,
    WinAnsi,
    MacRoman,
}

impl Base {
    pub(super) fn of(name: &str) -> Option<Self> {
        match name {
            "StandardEncoding" => Some(Self::Standard),
            "WinAnsiEncoding" => Some(Self::WinAnsi),
            "MacRomanEncoding" => Some(Self::MacRoman),
            _ => None,
        }
    }

    /// The text of a code.
    pub(super) fn text(self, code: u8) -> Option<String> {
        if code < 32 {
            return None;
        }
        match self {
            Self::WinAnsi => decoded(encoding_rs::WINDOWS_1252, code),
            Self::MacRoman => decoded(encoding_rs::MACINTOSH, code),
            Self::Standard => match code {
                39 => Some("’".to_owned()),
                96 => Some("‘".to_owned()),
                ..=126 => Some(char::from(code).to_string()),
                _ => {
                    let at = STANDARD.iter().find(|(known, _)| *known == code);
                    at.and_then(|(_, name)| glyphs::text(name))
                }
            },
        }
    }
}

fn decoded(encoding: &'static encoding_rs::Encoding, code: u8) -> Option<String> {
    let bytes = [code];
    let (text, _) = encoding.decode_without_bom_handling(&bytes);
    Some(text.into_owned()).filter(|text| !text.chars().any(char::is_control))
}

/// Adobe's standard encoding above ASCII.
const STANDARD: [(u8, &str); 54] = [
    (161, "exclamdown"),
    (162, "cent"),
    (163, "sterling"),
    (164, "fraction"),
    (165, "yen"),
    (166, "florin"),
    (167, "section"),
    (168, "currency"),
    (169, "quotesingle"),
    (170, "quotedblleft"),
    (171, "guillemotleft"),
    (172, "guilsinglleft"),
    (173, "guilsinglright"),
    (174, "fi"),
    (175, "fl"),
    (177, "endash"),
    (178, "dagger"),
    (179, "daggerdbl"),
    (180, "periodcentered"),
    (182, "paragraph"),
    (183, "bullet"),
    (184, "quotesinglbase"),
    (185, "quotedblbase"),
    (186, "quotedblright"),
    (187, "guillemotright"),
    (188, "ellipsis"),
    (189, "perthousand"),
    (191, "questiondown"),
    (193, "grave"),
    (194, "acute"),
    (195, "circumflex"),
    (196, "tilde"),
    (197, "macron"),
    (198, "breve"),
    (199, "dotaccent"),
    (200, "dieresis"),
    (202, "ring"),
    (203, "cedilla"),
    (205, "hungarumlaut"),
    (206, "ogonek"),
    (207, "caron"),
    (208, "emdash"),
    (225, "AE"),
    (227, "ordfeminine"),
    (232, "Lslash"),
    (233, "Oslash"),
    (234, "OE"),
    (235, "ordmasculine"),
    (241, "ae"),
    (245, "dotlessi"),
    (248, "lslash"),
    (249, "oslash"),
    (250, "oe"),
    (251, "germandbls"),
];
