//! Sentences as NLTK finds them, as far as that goes without its trained parameters.
//!
//! Punkt (Kiss and Strunk, "Unsupervised multilingual sentence boundary detection", 2006) ends a sentence at every
//! `.`, `?` and `!` before a blank or punctuation, unless the full stop belongs to an abbreviation, an initial, an
//! ordinal number or an ellipsis; then what follows decides. NLTK's English model has learned some 150 abbreviations and
//! how 20,000 words are capitalised. Here stand the usual abbreviations, and words that are written small in the middle
//! of a sentence. So texts in plain prose are split alike; a rare abbreviation ends a sentence here, and a name after a
//! common one does not.

use crate::python_text::{decimal, is_space, is_word, rstrip};

/// Abbreviations in small letters without their last full stop.
const ABBREVIATIONS: &[&str] = &[
    "a.d", "a.k.a", "a.m", "adm", "approx", "apr", "apt", "assn", "aug", "ave", "b.c", "blvd",
    "bldg", "brig", "bros", "c.e.o", "calif", "capt", "cf", "cmdr", "co", "col", "colo", "conn",
    "corp", "cos", "ct", "d.c", "d.j", "dec", "del", "dept", "det", "dist", "dr", "e.g", "ed",
    "eds", "est", "et al", "etc", "feb", "fig", "fla", "fri", "ft", "g.m", "ga", "gen", "gov",
    "hon", "i.e", "ill", "inc", "ind", "jan", "jr", "jul", "jun", "kan", "ky", "l.a", "la", "lb",
    "lbs", "lt", "ltd", "m.d", "maj", "mar", "mass", "md", "messrs", "mfg", "mich", "minn", "miss",
    "mo", "mon", "mr", "mrs", "ms", "msgr", "mt", "n.j", "n.y", "no", "nos", "nov", "oct", "okla",
    "op", "ore", "p.m", "pa", "ph.d", "pp", "pres", "prof", "pt", "pvt", "rep", "reps", "rev",
    "s.p.a", "sat", "sec", "sen", "sens", "sep", "sept", "sgt", "sr", "st", "ste", "supt", "tel",
    "tenn", "tex", "thu", "thur", "thurs", "tue", "tues", "u.k", "u.n", "u.s", "u.s.a", "univ",
    "va", "viz", "vol", "vols", "vs", "vt", "w.va", "wash", "wed", "wis", "wyo", "yr",
];

/// Words that begin with a capital only where a sentence begins.
const SMALL_WORDS: &[&str] = &[
    "a",
    "about",
    "according",
    "after",
    "all",
    "also",
    "although",
    "an",
    "and",
    "another",
    "any",
    "are",
    "as",
    "at",
    "because",
    "before",
    "both",
    "but",
    "by",
    "can",
    "could",
    "did",
    "do",
    "does",
    "during",
    "each",
    "even",
    "every",
    "finally",
    "first",
    "for",
    "from",
    "had",
    "has",
    "have",
    "he",
    "her",
    "here",
    "his",
    "how",
    "however",
    "if",
    "in",
    "indeed",
    "is",
    "it",
    "its",
    "last",
    "many",
    "meanwhile",
    "more",
    "moreover",
    "most",
    "my",
    "next",
    "no",
    "not",
    "nothing",
    "now",
    "of",
    "on",
    "once",
    "one",
    "only",
    "or",
    "other",
    "our",
    "over",
    "perhaps",
    "she",
    "should",
    "since",
    "so",
    "some",
    "still",
    "such",
    "that",
    "the",
    "their",
    "then",
    "there",
    "these",
    "they",
    "this",
    "those",
    "though",
    "thus",
    "to",
    "today",
    "too",
    "two",
    "under",
    "until",
    "was",
    "we",
    "were",
    "what",
    "when",
    "where",
    "whether",
    "which",
    "while",
    "who",
    "why",
    "will",
    "with",
    "would",
    "yes",
    "yet",
    "you",
    "your",
];

/// Closing quotes and brackets that belong to the sentence before them.
fn is_closing(c: char) -> bool {
    matches!(
        c,
        '"' | '\'' | ')' | ']' | '}' | '‘' | '’' | '“' | '”' | '«' | '»'
    )
}

/// Characters that no word contains.
fn is_non_word(c: char) -> bool {
    is_closing(c) || matches!(c, ';' | '*' | ':' | '@' | '(' | '{' | '[' | '?' | '!')
}

/// A place where a sentence may end.
#[derive(Clone, Copy)]
struct Candidate {
    /// Where its word begins, where its mark stands, and where the next sentence would begin (characters).
    word: usize,
    mark: usize,
    next: usize,
    /// The end of the context that decides.
    context_end: usize,
}

/// The number of sentences.
pub fn count(text: &str) -> usize {
    sentences(text).len()
}

/// The sentences of a text.
pub fn sentences(text: &str) -> Vec<String> {
    let chars: Vec<char> = text.chars().collect();
    let end = rstrip(text).chars().count();
    let mut spans = Vec::new();
    let mut begin = 0;
    for candidate in candidates(&chars) {
        let context: String = chars[candidate.word..candidate.context_end]
            .iter()
            .collect();
        if has_break(&context) {
            spans.push((begin, candidate.mark + 1));
            begin = candidate.next;
        }
    }
    spans.push((begin, end.max(begin)));
    realigned(&chars, &spans)
}

fn candidates(chars: &[char]) -> Vec<Candidate> {
    let mut found: Vec<Candidate> = Vec::new();
    let mut last: Option<Candidate> = None;
    for (mark, c) in chars.iter().enumerate() {
        if !matches!(c, '.' | '?' | '!') {
            continue;
        }
        let Some((next, context_end)) = following(chars, mark) else {
            continue;
        };
        let (word, stop) = last.map_or((0, 0), |last| (last.word, last.mark));
        // The word begins after the last blank since the mark before; a blank right there doesn't count.
        let blank = chars[stop..mark]
            .iter()
            .rposition(|c| matches!(c, ' ' | '\t'..='\r'))
            .filter(|&at| at > 0);
        let word = blank.map_or(word, |at| stop + at + 1);
        if let Some(last) = last.filter(|last| last.mark <= word) {
            found.push(last);
        }
        last = Some(Candidate {
            word,
            mark,
            next,
            context_end,
        });
    }
    found.extend(last);
    found
}

/// Where the next sentence would begin and where the context ends, if something follows a mark.
fn following(chars: &[char], mark: usize) -> Option<(usize, usize)> {
    let after = *chars.get(mark + 1)?;
    if is_non_word(after) {
        return Some((mark + 1, mark + 2));
    }
    let token = mark + 1 + chars[mark + 1..].iter().position(|c| !is_space(*c))?;
    let end = chars[token..]
        .iter()
        .position(|c| is_space(*c))
        .map_or(chars.len(), |length| token + length);
    (token > mark + 1).then_some((token, end))
}

/// Whether some token but the last of a context ends a sentence.
fn has_break(context: &str) -> bool {
    let tokens = tokens(context);
    tokens
        .windows(2)
        .any(|pair| ends_sentence(&pair[0], &pair[1]))
}

fn ends_sentence(token: &str, next: &str) -> bool {
    if matches!(token, "." | "?" | "!") && token != "." {
        return true;
    }
    if !token.ends_with('.') {
        return false;
    }
    let lower = token.to_lowercase();
    let stem = lower.strip_suffix('.').unwrap_or(&lower);
    let last_part = stem.rsplit('-').next().unwrap_or_default();
    let ellipsis = token.len() > 1 && token.bytes().all(|b| b == b'.');
    let known = |word: &str| ABBREVIATIONS.contains(&word);
    let abbreviation = !lower.ends_with("..") && token != "." && (known(stem) || known(last_part));
    let mut ends = token == "." || !ellipsis && !lower.ends_with("..") && !abbreviation;
    let mut chars = token.chars();
    let initial = matches!((chars.next(), chars.as_str()), (Some(c), ".") if is_word(c) && decimal(c).is_none());
    let starts = starts_sentence(next);
    if (abbreviation || ellipsis) && !initial && starts == Some(true) {
        ends = true;
    }
    if initial || is_numeric(stem) {
        let capital = next.chars().next().is_some_and(char::is_uppercase);
        let small = SMALL_WORDS.contains(&type_of(next).as_str());
        if starts == Some(false) || starts.is_none() && initial && capital && !small {
            ends = false;
        }
    }
    ends
}

/// Whether a token begins a sentence, if its spelling tells.
fn starts_sentence(token: &str) -> Option<bool> {
    if matches!(token, ";" | ":" | "," | "." | "!" | "?") {
        return Some(false);
    }
    let first = token.chars().next()?;
    if first.is_uppercase() && SMALL_WORDS.contains(&type_of(token).as_str()) {
        Some(true)
    } else if first.is_lowercase() {
        Some(false)
    } else {
        None
    }
}

fn type_of(token: &str) -> String {
    let lower = token.to_lowercase();
    lower.strip_suffix('.').map(str::to_owned).unwrap_or(lower)
}

/// `-?[.,]?\d[\d,.-]*`.
fn is_numeric(stem: &str) -> bool {
    let stem = stem.strip_prefix('-').unwrap_or(stem);
    let stem = stem.strip_prefix(['.', ',']).unwrap_or(stem);
    stem.starts_with(|c| decimal(c).is_some())
        && stem
            .chars()
            .all(|c| decimal(c).is_some() || matches!(c, ',' | '.' | '-'))
}

/// Punkt's own tokens: punctuation apart, but for full stops.
fn tokens(text: &str) -> Vec<String> {
    let chars: Vec<char> = text.chars().collect();
    let mut tokens = Vec::new();
    let mut at = 0;
    while at < chars.len() {
        if is_space(chars[at]) {
            at += 1;
            continue;
        }
        let length = multi_char(&chars[at..]).unwrap_or_else(|| word_length(&chars[at..]));
        tokens.push(chars[at..at + length].iter().collect());
        at += length;
    }
    tokens
}

/// The length of a dash, an ellipsis or spaced full stops.
fn multi_char(chars: &[char]) -> Option<usize> {
    for mark in ['-', '.'] {
        let run = chars.iter().take_while(|&&c| c == mark).count();
        if run >= 2 {
            return Some(run);
        }
    }
    let spaced = chars
        .chunks(2)
        .take_while(|pair| pair[0] == '.' && pair.get(1).is_some_and(|&c| is_space(c)))
        .count();
    (spaced >= 2 && chars.get(2 * spaced) == Some(&'.')).then_some(2 * spaced + 1)
}

fn word_length(chars: &[char]) -> usize {
    let begins_word = !matches!(
        chars[0],
        '(' | '"'
            | '`'
            | '{'
            | '['
            | ':'
            | ';'
            | '&'
            | '#'
            | '*'
            | '@'
            | ')'
            | '}'
            | ']'
            | '-'
            | ','
    );
    if !begins_word {
        return 1;
    }
    let ends_at = |at: usize| {
        chars
            .get(at)
            .is_none_or(|&c| is_space(c) || is_non_word(c) || multi_char(&chars[at..]).is_some())
    };
    (1..chars.len())
        .find(|&at| ends_at(at) || chars[at] == ',' && ends_at(at + 1))
        .unwrap_or(chars.len())
}

/// Moves closing quotes and brackets at a sentence's start to the end of the one before; drops what is then empty.
fn realigned(chars: &[char], spans: &[(usize, usize)]) -> Vec<String> {
    let mut sentences = Vec::new();
    let mut skip = 0;
    for (index, &(begin, end)) in spans.iter().enumerate() {
        let begin = begin + skip;
        skip = 0;
        let mut end = end;
        if let Some(&(next_begin, next_end)) = spans.get(index + 1) {
            let next = &chars[next_begin..next_end.max(next_begin)];
            let closing = next.iter().take_while(|&&c| is_closing(c)).count();
            let rest = &next[closing..];
            let blanks = rest.iter().take_while(|&&c| is_space(c)).count();
            let detached = blanks > 0 || rest.is_empty() || rest.starts_with(&['-', '-']);
            if closing > 0 && detached {
                end = next_begin + closing;
                skip = closing + blanks;
                sentences.push(chars[begin.min(end)..end].iter().collect());
                continue;
            }
        }
        if begin < end {
            sentences.push(chars[begin..end].iter().collect());
        }
    }
    sentences
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, want: &[&str]) {
        assert_eq!(sentences(text), want);
    }

    #[test]
    fn prose_is_split() {
        check(
            "Hello there. How are you? Fine!",
            &["Hello there.", "How are you?", "Fine!"],
        );
        check(
            "He said \"Stop.\" Then he left.",
            &["He said \"Stop.\"", "Then he left."],
        );
        check("(It rained.) We stayed.", &["(It rained.)", "We stayed."]);
        check("Wait!!! I promise.", &["Wait!!!", "I promise."]);
        check("No end", &["No end"]);
        check("One.\nTwo.\n\nThree.", &["One.", "Two.", "Three."]);
        check("", &[]);
    }

    #[test]
    fn abbreviations_initials_and_numbers_do_not_end_a_sentence() {
        check(
            "Dr. Smith met J. Bach at 5 p.m. on Monday.",
            &["Dr. Smith met J. Bach at 5 p.m. on Monday."],
        );
        check(
            "It is in the U.S. The end.",
            &["It is in the U.S.", "The end."],
        );
        check("Pi is 3.14. It is.", &["Pi is 3.14.", "It is."]);
        check("Well... maybe. Yes.", &["Well... maybe.", "Yes."]);
        check("e.g. this one", &["e.g. this one"]);
    }
}
