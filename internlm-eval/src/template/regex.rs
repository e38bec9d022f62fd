//! Python's `re.sub`, for templates.

use crate::pattern::{Match, Pattern};

/// `re.sub(pattern, replacement, text)`, or what is wrong.
pub(crate) fn replace_all(text: &str, pattern: &str, replacement: &str) -> Result<String, String> {
    let compiled = Pattern::new(pattern).map_err(|error| error.to_string())?;
    compiled
        .replace_all(text, |found| expanded(replacement, found, text))
        .map_err(|error| error.to_string())
}

/// The replacement with groups in place of `\1` and `\g<1>`; `\n`, `\t` and `\\` are what they are in Python.
fn expanded(replacement: &str, found: &Match, text: &str) -> String {
    let mut out = String::with_capacity(replacement.len());
    let mut characters = replacement.chars().peekable();
    while let Some(character) = characters.next() {
        if character != '\\' {
            out.push(character);
            continue;
        }
        let group = match characters.next() {
            Some('g') if characters.peek() == Some(&'<') => {
                characters.next();
                let number: String = characters.by_ref().take_while(|c| *c != '>').collect();
                number.parse().ok()
            }
            Some(digit) if digit.is_ascii_digit() => {
                let mut number = String::from(digit);
                number.extend(characters.next_if(char::is_ascii_digit));
                number.parse().ok()
            }
            Some('n') => {
                out.push('\n');
                None
            }
            Some('t') => {
                out.push('\t');
                None
            }
            Some('\\') | None => {
                out.push('\\');
                None
            }
            Some(other) => {
                out.push('\\');
                out.push(other);
                None
            }
        };
        if let Some(text) = group.and_then(|group| found.group(text, group)) {
            out.push_str(text);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, pattern: &str, replacement: &str, want: &str) {
        assert_eq!(replace_all(text, pattern, replacement).as_deref(), Ok(want));
    }

    // Each value is what Python 3.12's `re.sub` gives.
    #[test]
    fn as_python_replaces() {
        check("a [x] b [y]", "\\[.*?\\]", "", "a  b ");
        check("12.\n", "\\.$", "", "12\n");
        check("12.\n", "\\.\\Z", "", "12.\n");
        check("a$b]c[", "[$\\[\\]]", "_", "a_b_c_");
        check("ab", "(a)(b)", "\\2\\g<1>$1\\n", "ba$1\n");
        check(
            "so the answer is (B).",
            "(?<=the answer is )(.*)(?=.)",
            "_",
            "so the answer is _.",
        );
    }

    #[test]
    fn a_bad_pattern_is_an_error() {
        assert!(replace_all("a", "(", "").is_err());
    }
}
