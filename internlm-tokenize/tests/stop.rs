//! Stop strings over streamed text.
#![allow(clippy::unwrap_used)]

use internlm_tokenize::{Error, StopMatcher};
use proptest::prelude::*;

/// The text up to the first stop: the one that ends first, of those the longest.
fn cut<'t>(text: &'t str, stops: &[String]) -> (&'t str, Option<String>) {
    let first = stops
        .iter()
        .filter_map(|stop| {
            let start = text.find(stop.as_str())?;
            Some((start + stop.len(), std::cmp::Reverse(stop.len()), stop))
        })
        .min();
    match first {
        Some((end, _, stop)) => (&text[..end - stop.len()], Some(stop.clone())),
        None => (text, None),
    }
}

/// Streams `pieces`; returns the text, whether it stopped, and the pieces handed out.
fn stream<'t>(
    stops: &[String],
    pieces: impl IntoIterator<Item = &'t str>,
) -> (String, Option<String>, Vec<String>) {
    let mut matcher = StopMatcher::new(stops).unwrap();
    let mut out = Vec::new();
    for piece in pieces {
        let matched = matcher.push(piece);
        assert_eq!(matched.stopped, matcher.matched().is_some());
        out.push(matched.text);
    }
    out.push(matcher.flush());
    let stop = matcher.matched().map(str::to_owned);
    (out.concat(), stop, out)
}

fn strings(list: &[&str]) -> Vec<String> {
    list.iter().map(|&text| text.to_owned()).collect()
}

/// Every way to cut a short text into pieces gives the same text.
#[track_caller]
fn check(stops: &[&str], text: &str, want: &str, want_stop: Option<&str>) {
    let stops = strings(stops);
    let borders: Vec<usize> = text.char_indices().map(|(at, _)| at).skip(1).collect();
    assert!(borders.len() <= 14, "too many splits");
    for mask in 0..1u32 << borders.len() {
        let mut pieces = Vec::new();
        let mut start = 0;
        for (bit, &border) in borders.iter().enumerate() {
            if mask >> bit & 1 == 1 {
                pieces.push(&text[start..border]);
                start = border;
            }
        }
        pieces.push(&text[start..]);
        let (got, stop, _) = stream(&stops, pieces.iter().copied());
        assert_eq!(
            (got.as_str(), stop.as_deref()),
            (want, want_stop),
            "{pieces:?}"
        );
    }
    assert_eq!(
        cut(text, &stops),
        (want, want_stop.map(str::to_owned)),
        "the reference"
    );
}

#[test]
fn at_every_split() {
    check(&[], "no stops", "no stops", None);
    check(&["x"], "", "", None);
    check(&["x"], "x", "", Some("x"));
    check(&["\nUser:"], "Hi\nUs\nUser:x", "Hi\nUs", Some("\nUser:"));
    check(&["aab"], "aaaab", "aa", Some("aab"));
    check(&["abab"], "abaabab!", "aba", Some("abab"));
    check(&["END"], "ENENDING", "EN", Some("END"));
    check(&["END"], "EN", "EN", None);
    check(&["好的"], "你好好的吗", "你好", Some("好的"));
    check(&["🙂"], "a😀🙂b", "a😀", Some("🙂"));
}

#[test]
fn several_stops() {
    // The one that ends first wins, whichever begins first.
    check(&["abcdef", "cd"], "abcdef", "ab", Some("cd"));
    // Of two that end together the longer one does.
    check(&["cd", "bcd"], "abcde", "a", Some("bcd"));
    check(&["bcd", "cd"], "abcde", "a", Some("bcd"));
    // A prefix of another ends first.
    check(&["abc", "ab"], "abc", "", Some("ab"));
    check(&["he", "she", "hers"], "ushers", "u", Some("she"));
    check(&["x", "x"], "axb", "a", Some("x"));
}

#[test]
fn text_is_held_back_only_while_it_may_be_a_stop() {
    let mut stop = StopMatcher::new(&["<|im_end|>", "<|im_start|>"]).unwrap();
    assert_eq!(stop.push("a<").text, "a");
    assert_eq!(stop.push("b").text, "<b");
    assert_eq!(stop.push("<|im_").text, "");
    assert_eq!(stop.push("<").text, "<|im_");
    assert_eq!(stop.push("|im_end").text, "");
    assert_eq!(stop.flush(), "<|im_end");
    assert_eq!(stop.flush(), "");
}

#[test]
fn nothing_comes_after_a_stop() {
    let mut stop = StopMatcher::new(&["."]).unwrap();
    let matched = stop.push("One. Two");
    assert_eq!((matched.text.as_str(), matched.stopped), ("One", true));
    let matched = stop.push("more");
    assert_eq!((matched.text.as_str(), matched.stopped), ("", true));
    assert_eq!(stop.flush(), "");
    assert_eq!(stop.matched(), Some("."));
}

#[test]
fn empty_stops_are_refused() {
    assert!(matches!(
        StopMatcher::new(&["a", ""]),
        Err(Error::EmptyStop { index: 1 })
    ));
}

#[test]
fn many_stops() {
    // Every suffix of one text, and thousands of unrelated ones.
    let mut stops: Vec<String> = (0..5000).map(|n| format!("stop number {n};")).collect();
    let long = "abcdefghij".repeat(20);
    stops.extend((0..long.len()).map(|at| format!("{}!", &long[at..])));
    let text = format!("{long}. stop number 77 {long}! tail");
    let (got, stop, _) = stream(&stops, text.split_inclusive('e'));
    assert_eq!(
        (got.as_str(), stop),
        (
            format!("{long}. stop number 77 ").as_str(),
            Some(format!("{long}!"))
        )
    );
}

proptest! {
    #[test]
    fn any_split_gives_the_text_up_to_the_first_stop(
        text in "[ab<|好🙂]{0,40}",
        stops in proptest::collection::vec("[ab<|好🙂]{1,5}", 0..6),
        cuts in proptest::collection::vec(any::<prop::sample::Index>(), 0..12),
    ) {
        let borders: Vec<usize> = text.char_indices().map(|(at, _)| at).chain([text.len()]).collect();
        let mut cuts: Vec<usize> = cuts.iter().map(|index| *index.get(&borders)).collect();
        cuts.sort_unstable();
        let mut start = 0;
        let mut pieces = Vec::new();
        for at in cuts.into_iter().chain([text.len()]) {
            pieces.push(&text[start..at]);
            start = at;
        }
        let (got, stop, _) = stream(&stops, pieces);
        let (want, want_stop) = cut(&text, &stops);
        prop_assert_eq!(got.as_str(), want);
        prop_assert_eq!(stop, want_stop);
    }

    #[test]
    fn text_that_is_out_is_never_part_of_a_stop(
        text in "[ab]{0,30}",
        stops in proptest::collection::vec("[ab]{2,5}", 1..4),
    ) {
        // Char by char: what is out after each is the text before it minus the longest suffix
        // that begins a stop.
        let mut matcher = StopMatcher::new(&stops).unwrap();
        let mut out = String::new();
        for (at, c) in text.char_indices() {
            let matched = matcher.push(c.encode_utf8(&mut [0; 4]));
            out += &matched.text;
            if matched.stopped {
                break;
            }
            let seen = &text[..at + 1];
            let held = (0..=seen.len())
                .find(|&from| stops.iter().any(|stop| stop.starts_with(&seen[from..])))
                .unwrap();
            prop_assert_eq!(out.as_str(), &seen[..held]);
        }
    }
}
