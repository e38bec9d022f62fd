//! Python's regular expressions, without the time bombs.
//!
//! Patterns of task files and post-processors are written for Python's `re`. They are translated (`\w`, `\s`, `$`,
//! literal braces and brackets differ) and run by an engine of linear time; only a pattern with look-around or a back
//! reference runs in a backtracking one, under a limit on its steps. So does one with `\b` on a text that is not ASCII, or
//! with `$` on a text that ends in a line feed, where the two languages see different edges.

mod translate;

use std::sync::{Arc, OnceLock};

use crate::error::{Error, Result};
use crate::python_text;
use translate::{Edges, sets_multi_line, translate};

/// Steps of the backtracking engine before it gives up.
const BACKTRACK_LIMIT: usize = 1_000_000;
/// Bytes of a compiled program; keeps `a{1000}{1000}` from filling the memory.
const SIZE_LIMIT: usize = 4 << 20;

/// A pattern of this crate's own, in the syntax of `regex`.
pub(crate) fn constant(pattern: &str) -> regex::Regex {
    regex::Regex::new(pattern).expect("a constant pattern that the tests compile")
}

/// What `re.compile` would return.
#[derive(Clone, Debug)]
pub struct Pattern {
    source: String,
    /// Of linear time; none for a pattern with look-around or a back reference.
    linear: Option<regex::Regex>,
    /// What the linear engine cannot say exactly.
    approximated: Edges,
    /// Exact for every text.
    exact: Arc<LazyExact>,
}

/// The backtracking engine, compiled when it is needed.
struct LazyExact {
    translated: String,
    compiled: OnceLock<Option<fancy_regex::Regex>>,
}

impl std::fmt::Debug for LazyExact {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("LazyExact").field(&self.translated).finish()
    }
}

impl LazyExact {
    fn get(&self) -> Option<&fancy_regex::Regex> {
        let compile = || {
            let mut builder = fancy_regex::RegexBuilder::new(&self.translated);
            builder
                .backtrack_limit(BACKTRACK_LIMIT)
                .delegate_size_limit(SIZE_LIMIT);
            builder.build().ok()
        };
        self.compiled.get_or_init(compile).as_ref()
    }
}

/// Where a match and its groups lie, in bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Match {
    groups: Vec<Option<(usize, usize)>>,
}

impl Match {
    /// The span of the whole match.
    pub fn span(&self) -> (usize, usize) {
        self.groups.first().copied().flatten().unwrap_or_default()
    }

    /// Capturing groups, without the whole match.
    pub fn group_count(&self) -> usize {
        self.groups.len().saturating_sub(1)
    }

    /// `match.group(index)`; `None` if the group took no part or does not exist.
    pub fn group<'t>(&self, text: &'t str, index: usize) -> Option<&'t str> {
        let (start, end) = (*self.groups.get(index)?)?;
        text.get(start..end)
    }
}

/// Flags of `re.compile`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flags {
    /// `re.IGNORECASE`.
    pub ignore_case: bool,
    /// `re.DOTALL`.
    pub dot_all: bool,
    /// `re.MULTILINE`.
    pub multi_line: bool,
}

impl Flags {
    /// None.
    pub const NONE: Self = Self {
        ignore_case: false,
        dot_all: false,
        multi_line: false,
    };
    /// `re.DOTALL` alone.
    pub const DOT_ALL: Self = Self {
        ignore_case: false,
        dot_all: true,
        multi_line: false,
    };
    /// `re.IGNORECASE` alone.
    pub const IGNORE_CASE: Self = Self {
        ignore_case: true,
        dot_all: false,
        multi_line: false,
    };
    /// `re.MULTILINE` alone.
    pub const MULTI_LINE: Self = Self {
        ignore_case: false,
        dot_all: false,
        multi_line: true,
    };
}

impl Pattern {
    /// Compiles a pattern without flags; it may set its own, as in `(?i)`.
    ///
    /// # Errors
    /// [`Error::Pattern`] if the pattern is broken or too large.
    pub fn new(pattern: &str) -> Result<Self> {
        Self::with_flags(pattern, Flags::default())
    }

    /// Compiles a pattern with flags.
    ///
    /// # Errors
    /// [`Error::Pattern`] if the pattern is broken or too large.
    pub fn with_flags(pattern: &str, flags: Flags) -> Result<Self> {
        let multi_line = flags.multi_line || sets_multi_line(pattern);
        let prefix: String = [
            (flags.ignore_case, "(?i)"),
            (flags.dot_all, "(?s)"),
            (flags.multi_line, "(?m)"),
        ]
        .iter()
        .filter_map(|&(set, flag)| set.then_some(flag))
        .collect();
        let approximate = translate(pattern, multi_line, false);
        let linear = regex::RegexBuilder::new(&format!("{prefix}{}", approximate.text))
            .size_limit(SIZE_LIMIT)
            .build();
        let exact = LazyExact {
            translated: prefix + &translate(pattern, multi_line, true).text,
            compiled: OnceLock::new(),
        };
        if let Err(error) = &linear
            && exact.get().is_none()
        {
            return Err(Error::Pattern {
                pattern: pattern.to_owned(),
                reason: error.to_string(),
            });
        }
        Ok(Self {
            source: pattern.to_owned(),
            linear: linear.ok(),
            approximated: approximate.edges,
            exact: Arc::new(exact),
        })
    }

    /// A pattern of this crate's own, in Python's syntax.
    pub(crate) fn constant(pattern: &str, flags: Flags) -> Self {
        Self::with_flags(pattern, flags).expect("a constant pattern that the tests compile")
    }

    /// The pattern as it was given.
    pub fn as_str(&self) -> &str {
        &self.source
    }

    /// `re.search` from a byte position on, which must be a character boundary.
    ///
    /// # Errors
    /// [`Error::PatternLimit`] if the backtracking engine gives up.
    pub fn search_at(&self, text: &str, position: usize) -> Result<Option<Match>> {
        let edges = self.approximated;
        let differs = edges.word && !text.is_ascii() || edges.end && text.ends_with('\n');
        if let Some(regex) = self.linear.as_ref().filter(|_| !differs) {
            return Ok(regex.captures_at(text, position).map(|captures| Match {
                groups: captures
                    .iter()
                    .map(|group| group.map(|group| (group.start(), group.end())))
                    .collect(),
            }));
        }
        let limit = || Error::PatternLimit {
            pattern: self.source.clone(),
        };
        let regex = self.exact.get().ok_or_else(limit)?;
        let captures = regex
            .captures_from_pos(text, position)
            .map_err(|_| limit())?;
        Ok(captures.map(|captures| Match {
            groups: captures
                .iter()
                .map(|group| group.map(|group| (group.start(), group.end())))
                .collect(),
        }))
    }

    /// `re.search`.
    ///
    /// # Errors
    /// As [`search_at`](Self::search_at).
    pub fn search(&self, text: &str) -> Result<Option<Match>> {
        self.search_at(text, 0)
    }

    /// Whether `re.search` finds something.
    ///
    /// # Errors
    /// As [`search_at`](Self::search_at).
    pub fn is_match(&self, text: &str) -> Result<bool> {
        Ok(self.search(text)?.is_some())
    }

    /// `re.finditer`. An empty match may follow a match that is not empty; after an empty one the search goes on at the
    /// next character (Python would also look for a longer one at the same place, which only patterns that prefer to
    /// match nothing can tell apart).
    ///
    /// # Errors
    /// As [`search_at`](Self::search_at).
    pub fn find_all(&self, text: &str) -> Result<Vec<Match>> {
        let mut matches = Vec::new();
        let mut position = 0;
        while position <= text.len() {
            let Some(found) = self.search_at(text, position)? else {
                break;
            };
            let (start, end) = found.span();
            position = if start == end {
                let step = text[end..].chars().next().map_or(1, char::len_utf8);
                end + step
            } else {
                end
            };
            matches.push(found);
        }
        Ok(matches)
    }

    /// `re.sub` with a replacement made from each match.
    ///
    /// # Errors
    /// As [`search_at`](Self::search_at).
    pub fn replace_all(
        &self,
        text: &str,
        mut replacement: impl FnMut(&Match) -> String,
    ) -> Result<String> {
        let mut out = String::with_capacity(text.len());
        let mut copied = 0;
        for found in self.find_all(text)? {
            let (start, end) = found.span();
            out.push_str(&text[copied..start]);
            out.push_str(&replacement(&found));
            copied = end;
        }
        out.push_str(&text[copied..]);
        Ok(out)
    }

    /// `re.sub` with a constant.
    ///
    /// # Errors
    /// As [`search_at`](Self::search_at).
    pub fn replace_with(&self, text: &str, constant: &str) -> Result<String> {
        self.replace_all(text, |_| constant.to_owned())
    }

    /// `re.split`, for patterns without groups: the parts between the matches.
    ///
    /// # Errors
    /// As [`search_at`](Self::search_at).
    pub fn split<'t>(&self, text: &'t str) -> Result<Vec<&'t str>> {
        let mut parts = Vec::new();
        let mut begin = 0;
        for found in self.find_all(text)? {
            let (start, end) = found.span();
            parts.push(&text[begin..start]);
            begin = end;
        }
        parts.push(&text[begin..]);
        Ok(parts)
    }
}

/// `re.escape`.
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_ascii() && !python_text::is_word(c) {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn first(pattern: &str, text: &str, want: Option<&str>) {
        let pattern = Pattern::new(pattern).unwrap();
        let found = pattern.search(text).unwrap();
        let got = found.as_ref().and_then(|found| found.group(text, 0));
        assert_eq!(got, want, "{pattern:?}");
    }

    #[test]
    fn syntax_is_python_s() {
        first(r"boxed{([A-D])}", "boxed{B}", Some("boxed{B}"));
        first(r"a{,2}b", "aaab", Some("aab"));
        first(r"[[(]x", "[x", Some("[x"));
        first(r"[]x]+", "]x", Some("]x"));
        first(r"[\w-]+", "a-b c", Some("a-b"));
        first(r"[^\w\s]", "a_ 中!", Some("!"));
        first(r"x$", "x\n", Some("x"));
        first(r"x$", "x\n\n", None);
        first(r"(?m)^x$", "a\nx\nb", Some("x"));
        first(r"\d+", "é７8", Some("７8"));
        first(r"(?<=is )(.*)(?=\.)", "it is so. ", Some("so"));
        first(r"\<think\>", "<think>", Some("<think>"));
        first(r"\s", "\u{1c}", Some("\u{1c}"));
        first(r"[a&&b~]+", "&~", Some("&~"));
        first(r"(a)\1", "baa", Some("aa"));
        first(r"a\b", "a² a\u{301}", Some("a"));
        first(r"\Ba", "a ²a", Some("a"));
        first(r"[$\b]x$", "$x\n", Some("$x"));
    }

    #[test]
    fn all_matches_follow_python() {
        let texts = |pattern: &str, text: &str| -> Vec<String> {
            let matches = Pattern::new(pattern).unwrap().find_all(text).unwrap();
            let group = |found: &Match| found.group(text, 0).unwrap().to_owned();
            matches.iter().map(group).collect()
        };
        assert_eq!(texts("x*", "axb"), ["", "x", "", ""]);
        assert_eq!(texts("é?", "éa"), ["é", "", ""]);
        let dashes = Pattern::new("x*").unwrap().replace_with("abxd", "-");
        assert_eq!(dashes.unwrap(), "-a-b--d-");
    }

    #[test]
    fn broken_and_endless_patterns_are_errors() {
        assert!(matches!(Pattern::new("("), Err(Error::Pattern { .. })));
        assert!(matches!(Pattern::new(r"\"), Err(Error::Pattern { .. })));
        let large = Pattern::new("(a{1000}){1000}");
        assert!(matches!(large, Err(Error::Pattern { .. })));
        let bomb = Pattern::new(r"^(?=(a+))(a|aa)+\1b").unwrap();
        let search = bomb.search(&"a".repeat(200));
        assert!(matches!(search, Err(Error::PatternLimit { .. })));
    }

    #[test]
    fn escaped_text_matches_itself() {
        let text = r"a.b*c[d]{e}(f)\^$|?+-&~# _中";
        let found = Pattern::new(&escape(text)).unwrap().search(text).unwrap();
        assert_eq!(found.unwrap().span(), (0, text.len()));
    }
}
