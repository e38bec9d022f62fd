//! Whether a text is JSON as Python's `json.loads` reads it: also `NaN`, `Infinity` and numbers beyond any range.

use std::sync::LazyLock;

use regex::Regex;

use crate::pattern::constant;

/// Nesting beyond which Python gives up.
const MAX_DEPTH: usize = 900;

/// The next token; blanks are those of JSON.
static TOKEN: LazyLock<Regex> = LazyLock::new(|| {
    let string = r#""(?:[^"\\\x00-\x1f]|\\["\\/bfnrt]|\\u[0-9a-fA-F]{4})*""#;
    let number = r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?";
    let word = "true|false|null|NaN|-?Infinity";
    constant(&format!(
        r"\A[ \t\n\r]*(?:(?<string>{string})|(?<scalar>{word}|{number})|(?<mark>[\[\]{{}},:]))"
    ))
});

/// What may come next.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Expected {
    Value,
    ValueOrEnd,
    Key,
    KeyOrEnd,
    Colon,
    CommaOrEnd,
}

/// Whether the text is one value and nothing else.
pub(super) fn is_valid(text: &str) -> bool {
    let mut rest = text;
    // Whether each open container is an object.
    let mut open: Vec<bool> = Vec::new();
    let mut expected = Expected::Value;
    loop {
        let Some(token) = TOKEN.captures(rest) else {
            return false;
        };
        rest = &rest[token[0].len()..];
        let is_string = token.name("string").is_some();
        let is_scalar = token.name("scalar").is_some();
        let mark = token.name("mark").map_or("", |mark| mark.as_str());
        let wants_value = matches!(expected, Expected::Value | Expected::ValueOrEnd);
        let wants_key = matches!(expected, Expected::Key | Expected::KeyOrEnd);
        let mut closed = false;
        match mark {
            "" if wants_value && (is_string || is_scalar) => closed = true,
            "" if wants_key && is_string => expected = Expected::Colon,
            ":" if expected == Expected::Colon => expected = Expected::Value,
            "[" | "{" if wants_value && open.len() < MAX_DEPTH => {
                open.push(mark == "{");
                expected = if mark == "{" {
                    Expected::KeyOrEnd
                } else {
                    Expected::ValueOrEnd
                };
            }
            "]" if matches!(expected, Expected::ValueOrEnd | Expected::CommaOrEnd) => {
                if open.pop() != Some(false) {
                    return false;
                }
                closed = true;
            }
            "}" if matches!(expected, Expected::KeyOrEnd | Expected::CommaOrEnd) => {
                if open.pop() != Some(true) {
                    return false;
                }
                closed = true;
            }
            "," if expected == Expected::CommaOrEnd => {
                expected = if open.last() == Some(&true) {
                    Expected::Key
                } else {
                    Expected::Value
                };
            }
            _ => return false,
        }
        if closed {
            if open.is_empty() {
                return rest.trim_start_matches([' ', '\t', '\n', '\r']).is_empty();
            }
            expected = Expected::CommaOrEnd;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::is_valid;

    #[test]
    fn texts_are_judged_as_python_judges_them() {
        for text in [
            "1",
            " [1, -2.5e9999, \"\\u00e9\", {\"a\": [], \"b\": {}}] \n",
            "NaN",
            "[-Infinity]",
            "\"\\ud800\"",
            "{\"a\":1,\"a\":2}",
        ] {
            assert!(is_valid(text), "{text}");
        }
        for text in [
            "",
            " ",
            "{",
            "[1,]",
            "{\"a\":}",
            "{a:1}",
            "01",
            "+1",
            ".5",
            "1.",
            "\"\t\"",
            "\"\\x\"",
            "1 2",
            "{\"a\":1,}",
            "[}",
            "'a'",
            "nan",
            "\u{a0}1",
            "-",
            ":",
            "{\"a\" 1}",
            "[1:2]",
            "]",
        ] {
            assert!(!is_valid(text), "{text}");
        }
        assert!(!is_valid(&"[".repeat(100_000)));
    }
}
