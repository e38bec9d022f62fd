//! Names of glyphs (Adobe's glyph list for new fonts), as far as Western and mathematical text has them.

/// The text of a name: from the list, or from its number, as in `uni6570`; parts behind a dot say how it looks.
pub(super) fn text(name: &str) -> Option<String> {
    let name = name.split('.').next().unwrap_or_default();
    if name.is_empty() {
        return None;
    }
    if name.contains('_') {
        let parts: Option<Vec<String>> = name.split('_').take(8).map(single).collect();
        return parts.map(|parts| parts.concat());
    }
    single(name)
}

fn single(name: &str) -> Option<String> {
    let mut letters = name.chars();
    if let (Some(letter), None) = (letters.next(), letters.next()) {
        return letter.is_ascii_alphabetic().then(|| letter.to_string());
    }
    if let Some(at) = NAMES.iter().position(|(known, _)| *known == name) {
        return Some(NAMES[at].1.to_owned());
    }
    let number = |digits: &str| {
        let upper = |c: char| c.is_ascii_digit() || ('A'..='F').contains(&c);
        let is_number = (4..=6).contains(&digits.len()) && digits.chars().all(upper);
        let number = u32::from_str_radix(digits, 16).ok().filter(|_| is_number)?;
        char::from_u32(number).map(String::from)
    };
    let digits = name.strip_prefix("uni").or_else(|| name.strip_prefix('u'));
    if let Some(text) = digits.and_then(number) {
        return Some(text);
    }
    // `Aacute` and the like: a letter and what is on it, put together by the reader.
    let (letter, accent) = name.split_at_checked(1)?;
    let mark = ACCENTS.iter().find(|(known, _)| *known == accent)?.1;
    let letter = letter.chars().next().filter(char::is_ascii_alphabetic)?;
    Some(composed(letter, mark))
}

/// Letters with marks that have a place of their own, in Latin-1 and Latin Extended-A.
const COMPOSED: &str = "À`Á´Â^Ã~Ä¨Å°Ç¸È`É´Ê^Ë¨Ì`Í´Î^Ï¨Ñ~Ò`Ó´Ô^Õ~Ö¨Ù`Ú´Û^Ü¨Ý´à`á´â^ã~ä¨å°ç¸è`é´ê^ë¨ì`í´î^ï¨ñ~ò`ó´ô^õ~ö¨ù`ú´û^ü¨ý´ÿ¨Šˇšˇ\
Žˇžˇ";

const BASES: &str = "AAAAAACEEEEIIIINOOOOOUUUUYaaaaaaceeeeiiiinooooouuuuyySsZz";

fn composed(letter: char, mark: char) -> String {
    let mut pairs = COMPOSED.chars();
    for base in BASES.chars() {
        if let (Some(whole), Some(own)) = (pairs.next(), pairs.next())
            && base == letter
            && own == mark
        {
            return whole.to_string();
        }
    }
    letter.to_string()
}

const ACCENTS: [(&str, char); 8] = [
    ("grave", '`'),
    ("acute", '´'),
    ("circumflex", '^'),
    ("tilde", '~'),
    ("dieresis", '¨'),
    ("ring", '°'),
    ("cedilla", '¸'),
    ("caron", 'ˇ'),
];

const NAMES: [(&str, &str); 187] = [
    ("space", " "),
    ("nbspace", " "),
    ("exclam", "!"),
    ("quotedbl", "\""),
    ("numbersign", "#"),
    ("dollar", "$"),
    ("percent", "%"),
    ("ampersand", "&"),
    ("quotesingle", "'"),
    ("parenleft", "("),
    ("parenright", ")"),
    ("asterisk", "*"),
    ("plus", "+"),
    ("comma", ","),
    ("hyphen", "-"),
    ("period", "."),
    ("slash", "/"),
    ("zero", "0"),
    ("one", "1"),
    ("two", "2"),
    ("three", "3"),
    ("four", "4"),
    ("five", "5"),
    ("six", "6"),
    ("seven", "7"),
    ("eight", "8"),
    ("nine", "9"),
    ("colon", ":"),
    ("semicolon", ";"),
    ("less", "<"),
    ("equal", "="),
    ("greater", ">"),
    ("question", "?"),
    ("at", "@"),
    ("bracketleft", "["),
    ("backslash", "\\"),
    ("bracketright", "]"),
    ("asciicircum", "^"),
    ("underscore", "_"),
    ("quoteleft", "‘"),
    ("braceleft", "{"),
    ("bar", "|"),
    ("braceright", "}"),
    ("asciitilde", "~"),
    ("exclamdown", "¡"),
    ("cent", "¢"),
    ("sterling", "£"),
    ("currency", "¤"),
    ("yen", "¥"),
    ("brokenbar", "¦"),
    ("section", "§"),
    ("dieresis", "¨"),
    ("copyright", "©"),
    ("ordfeminine", "ª"),
    ("guillemotleft", "«"),
    ("logicalnot", "¬"),
    ("registered", "®"),
    ("macron", "¯"),
    ("degree", "°"),
    ("plusminus", "±"),
    ("twosuperior", "²"),
    ("threesuperior", "³"),
    ("acute", "´"),
    ("mu", "µ"),
    ("paragraph", "¶"),
    ("periodcentered", "·"),
    ("cedilla", "¸"),
    ("onesuperior", "¹"),
    ("ordmasculine", "º"),
    ("guillemotright", "»"),
    ("onequarter", "¼"),
    ("onehalf", "½"),
    ("threequarters", "¾"),
    ("questiondown", "¿"),
    ("AE", "Æ"),
    ("Eth", "Ð"),
    ("multiply", "×"),
    ("Oslash", "Ø"),
    ("Thorn", "Þ"),
    ("germandbls", "ß"),
    ("ae", "æ"),
    ("eth", "ð"),
    ("divide", "÷"),
    ("oslash", "ø"),
    ("thorn", "þ"),
    ("dotlessi", "ı"),
    ("Lslash", "Ł"),
    ("lslash", "ł"),
    ("OE", "Œ"),
    ("oe", "œ"),
    ("florin", "ƒ"),
    ("circumflex", "ˆ"),
    ("caron", "ˇ"),
    ("breve", "˘"),
    ("dotaccent", "˙"),
    ("ring", "˚"),
    ("ogonek", "˛"),
    ("tilde", "˜"),
    ("hungarumlaut", "˝"),
    ("grave", "`"),
    ("endash", "–"),
    ("emdash", "—"),
    ("quoteright", "’"),
    ("quotesinglbase", "‚"),
    ("quotedblleft", "“"),
    ("quotedblright", "”"),
    ("quotedblbase", "„"),
    ("dagger", "†"),
    ("daggerdbl", "‡"),
    ("bullet", "•"),
    ("ellipsis", "…"),
    ("perthousand", "‰"),
    ("guilsinglleft", "‹"),
    ("guilsinglright", "›"),
    ("fraction", "⁄"),
    ("Euro", "€"),
    ("trademark", "™"),
    ("minus", "−"),
    ("fi", "fi"),
    ("fl", "fl"),
    ("ff", "ff"),
    ("ffi", "ffi"),
    ("ffl", "ffl"),
    ("Alpha", "Α"),
    ("Beta", "Β"),
    ("Gamma", "Γ"),
    ("Delta", "∆"),
    ("Theta", "Θ"),
    ("Lambda", "Λ"),
    ("Xi", "Ξ"),
    ("Pi", "Π"),
    ("Sigma", "Σ"),
    ("Upsilon", "Υ"),
    ("Phi", "Φ"),
    ("Psi", "Ψ"),
    ("Omega", "Ω"),
    ("alpha", "α"),
    ("beta", "β"),
    ("gamma", "γ"),
    ("delta", "δ"),
    ("epsilon", "ε"),
    ("epsilon1", "ϵ"),
    ("zeta", "ζ"),
    ("eta", "η"),
    ("theta", "θ"),
    ("theta1", "ϑ"),
    ("iota", "ι"),
    ("kappa", "κ"),
    ("lambda", "λ"),
    ("nu", "ν"),
    ("xi", "ξ"),
    ("omicron", "ο"),
    ("pi", "π"),
    ("rho", "ρ"),
    ("sigma", "σ"),
    ("sigma1", "ς"),
    ("tau", "τ"),
    ("upsilon", "υ"),
    ("phi", "φ"),
    ("phi1", "ϕ"),
    ("chi", "χ"),
    ("psi", "ψ"),
    ("omega", "ω"),
    ("partialdiff", "∂"),
    ("nabla", "∇"),
    ("summation", "∑"),
    ("product", "∏"),
    ("integral", "∫"),
    ("radical", "√"),
    ("infinity", "∞"),
    ("approxequal", "≈"),
    ("notequal", "≠"),
    ("lessequal", "≤"),
    ("greaterequal", "≥"),
    ("equivalence", "≡"),
    ("similar", "∼"),
    ("proportional", "∝"),
    ("element", "∈"),
    ("intersection", "∩"),
    ("union", "∪"),
    ("existential", "∃"),
    ("universal", "∀"),
    ("arrowleft", "←"),
    ("arrowup", "↑"),
    ("arrowright", "→"),
    ("arrowdown", "↓"),
    ("arrowdblright", "⇒"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_known() {
        for (name, want) in [
            ("A", "A"),
            ("eacute", "é"),
            ("Scaron", "Š"),
            ("udieresis", "ü"),
            ("f_f_i", "ffi"),
            ("one.oldstyle", "1"),
            ("uni6570", "数"),
            ("u1D400", "\u{1d400}"),
            ("ffi", "ffi"),
        ] {
            assert_eq!(text(name).as_deref(), Some(want), "{name}");
        }
        for name in ["", ".notdef", "g12", "uni12", "cid", "uniD800"] {
            assert_eq!(text(name), None, "{name}");
        }
    }
}
