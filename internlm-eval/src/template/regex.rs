//! Regular expressions as Python's `re` reads them.

use fancy_regex::{Regex, RegexBuilder};

/// Steps of backtracking after which a match is given up.
const BACKTRACK_LIMIT: usize = 10_000_000;

/// Compiles a pattern.
///
/// Python's `$` also matches before a newline at the end, and `\Z` is the very end; both are rewritten.
pub(crate) fn compile(pattern: &str) -> Result<Regex, String> {
    RegexBuilder::new(&translate(pattern))
        .backtrack_limit(BACKTRACK_LIMIT)
        .build()
        .map_err(|error| error.to_string())
}

/// Python's `re.sub(pattern, replacement, text)`.
pub(crate) fn replace_all(text: &str, pattern: &str, replacement: &str) -> Result<String, String> {
    let regex = compile(pattern)?;
    let replacement = replacement_of(replacement);
    regex
        .try_replacen(text, 0, replacement.as_str())
        .map(|replaced| replaced.into_owned())
        .map_err(|error| error.to_string())
}

/// Rewrites the two anchors; those in classes and those that are escaped stay.
fn translate(pattern: &str) -> String {
    let multiline = pattern.starts_with("(?m") || pattern.starts_with("(?sm") || pattern.starts_with("(?im");
    let mut out = String::with_capacity(pattern.len() + 8);
    let mut characters = pattern.chars();
    let mut class = false;
    while let Some(character) = characters.next() {
        match character {
            '\\' => match characters.next() {
                Some('Z') if !class => out.push_str("\\z"),
                Some(escaped) => {
                    out.push('\\');
                    out.push(escaped);
                }
                None => out.push('\\'),
            },
            '[' if !class => {
                class = true;
                out.push('[');
                // A bracket right after the opening one is a member of the class.
                let mut ahead = characters.clone();
                let mut taken = 0;
                let mut next = ahead.next();
                if next == Some('^') {
                    taken += 1;
                    next = ahead.next();
                }
                if next == Some(']') {
                    taken += 1;
                }
                for member in characters.by_ref().take(taken) {
                    match member {
                        ']' => out.push_str("\\]"),
                        other => out.push(other),
                    }
                }
            }
            // Rust reads a second bracket in a class as a class of its own.
            '[' => out.push_str("\\["),
            ']' if class => {
                class = false;
                out.push(']');
            }
            '&' | '~' if class => {
                out.push('\\');
                out.push(character);
            }
            '$' if !class && !multiline => out.push_str("(?=\\n?\\z)"),
            other => out.push(other),
        }
    }
    out
}

/// `\1` and `\g<name>` of Python to `${1}` and `${name}`.
fn replacement_of(replacement: &str) -> String {
    let mut out = String::with_capacity(replacement.len());
    let mut characters = replacement.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '$' => out.push_str("$$"),
            '\\' => match characters.next() {
                Some('g') if characters.peek() == Some(&'<') => {
                    characters.next();
                    let name: String = characters.by_ref().take_while(|c| *c != '>').collect();
                    out.push_str(&format!("${{{name}}}"));
                }
                Some(digit) if digit.is_ascii_digit() => {
                    let mut number = String::from(digit);
                    if let Some(second) = characters.next_if(char::is_ascii_digit) {
                        number.push(second);
                    }
                    out.push_str(&format!("${{{number}}}"));
                }
                Some('n') => out.push('\n'),
                Some('t') => out.push('\t'),
                Some('\\') => out.push('\\'),
                Some(other) => {
                    out.push('\\');
                    out.push(other);
                }
                None => out.push('\\'),
            },
            other => out.push(other),
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
        check("a]b", "[]]", "_", "a_b");
        check("ab", "(a)(b)", "\\2\\g<1>$1", "ba$1");
        check("x& y~", "[&~]", "", "x y");
        check("so the answer is (B).", "(?<=the answer is )(.*)(?=.)", "_", "so the answer is _.");
    }

    #[test]
    fn a_bad_pattern_is_an_error() {
        assert!(compile("(").is_err());
        assert!(replace_all("a", "[", "").is_err());
    }
}
