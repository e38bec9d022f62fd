//! Patterns of names.

use regex::Regex;

use crate::tool::ToolError;

/// Most bytes of a pattern.
const MAX_BYTES: usize = 256;

/// A pattern as an expression over a path below a folder: `*` and `?` stay within a name, `**` goes through
/// folders, `{a,b}` is either. One without a slash is about names, whichever folder they are in.
pub(super) fn glob(tool: &str, pattern: &str) -> Result<Regex, ToolError> {
    let wrong = |what: String| ToolError::Arguments {
        tool: tool.to_owned(),
        what: format!("`pattern`: {what}"),
    };
    if pattern.len() > MAX_BYTES {
        return Err(wrong(format!("it is longer than {MAX_BYTES} bytes")));
    }
    let pattern = pattern.strip_prefix("./").unwrap_or(pattern);
    let mut expression = String::from("^");
    if !pattern.contains('/') {
        expression.push_str("(?:.*/)?");
    }
    let mut open = 0_usize;
    let mut rest = pattern;
    while let Some(first) = rest.chars().next() {
        let mut length = first.len_utf8();
        match first {
            '*' if rest.starts_with("**/") => {
                length = 3;
                expression.push_str("(?:.*/)?");
            }
            '*' if rest.starts_with("**") => {
                length = 2;
                expression.push_str(".*");
            }
            '*' => expression.push_str("[^/]*"),
            '?' => expression.push_str("[^/]"),
            '{' => {
                open += 1;
                expression.push_str("(?:");
            }
            '}' if open > 0 => {
                open -= 1;
                expression.push(')');
            }
            ',' if open > 0 => expression.push('|'),
            other => expression.push_str(&regex::escape(other.encode_utf8(&mut [0; 4]))),
        }
        rest = &rest[length..];
    }
    if open > 0 {
        return Err(wrong("a `{` is not closed".to_owned()));
    }
    expression.push('$');
    Regex::new(&expression).map_err(|error| wrong(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(pattern: &str, hits: &[&str], misses: &[&str]) {
        let glob = glob("t", pattern).unwrap();
        for hit in hits {
            assert!(glob.is_match(hit), "{pattern} {hit}");
        }
        for miss in misses {
            assert!(!glob.is_match(miss), "{pattern} {miss}");
        }
    }

    #[test]
    fn patterns() {
        check("*.rs", &["a.rs", "src/b.rs", ".rs"], &["a.rs.txt", "a_rs"]);
        check(
            "src/*.rs",
            &["src/a.rs"],
            &["a.rs", "src/b/a.rs", "x/src/a.rs"],
        );
        check("**/*.rs", &["a.rs", "src/b/a.rs"], &["a.txt"]);
        check("src/**", &["src/a", "src/a/b"], &["src", "a"]);
        check(
            "a?.{csv,json}",
            &["ab.csv", "a数.json"],
            &["a.csv", "abc.csv"],
        );
        check("[a]+(b).t", &["[a]+(b).t"], &["a.t"]);
        check("a,b", &["a,b"], &["a", "b"]);
        assert!(glob("t", "{a").is_err());
        assert!(glob("t", &"*".repeat(257)).is_err());
        assert!(glob("t", &"{".repeat(256)).is_err());
    }
}
