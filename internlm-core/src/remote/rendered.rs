//! What a server's chat template made of messages, taken apart again.

use crate::message::bracketed::{bracketed, spans};
use crate::message::{Message, Part};

/// A rendered conversation in parts: what the messages say is text, and words in brackets between are markers. None
/// where a message that spells such words can't be found, so that they can't be told from the template's.
pub(super) fn parts(rendered: &str, messages: &[Message]) -> Option<Vec<Part>> {
    let brackets = spans(rendered);
    let inside = |at: usize| brackets.iter().any(|&(start, end)| start < at && at < end);
    let mut parts = Vec::new();
    let mut at = 0;
    for message in messages {
        let said = message.text();
        // Templates may trim what is said.
        let found = [said.as_str(), said.trim()].into_iter().find_map(|said| {
            let mut places = rendered[at..].match_indices(said);
            // A short text also stands within the template's own words.
            let place = places.find(|(place, _)| {
                let start = at + place;
                !said.is_empty() && !inside(start) && !inside(start + said.len())
            })?;
            Some((at + place.0, at + place.0 + said.len()))
        });
        match found {
            Some((start, end)) => {
                parts.extend(bracketed(&rendered[at..start]));
                parts.push(Part::text(&rendered[start..end]));
                at = end;
            }
            None if spans(&said).is_empty() => {}
            None => return None,
        }
    }
    parts.extend(bracketed(&rendered[at..]));
    Some(parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(rendered: &str, said: &[&str]) -> Option<Vec<Part>> {
        let messages: Vec<_> = said.iter().map(|text| Message::user(*text)).collect();
        parts(rendered, &messages)
    }

    #[test]
    fn what_is_said_is_text_and_the_rest_has_markers() {
        let rendered = "<|u|>user\nHi <|u|><|e|>\n<|u|>user\nuser<|e|>\n<|a|>\n";
        let want = [
            Part::marker("<|u|>"),
            Part::text("user\n"),
            Part::text("Hi <|u|>"),
            Part::marker("<|e|>"),
            Part::text("\n"),
            Part::marker("<|u|>"),
            // The first of two is taken for what was said, which changes no token.
            Part::text("user"),
            Part::text("\nuser"),
            Part::marker("<|e|>"),
            Part::text("\n"),
            Part::marker("<|a|>"),
            Part::text("\n"),
        ];
        assert_eq!(split(rendered, &[" Hi <|u|> ", "user"]).unwrap(), want);
    }

    #[test]
    fn a_letter_is_not_looked_for_in_a_special_token() {
        let want = [Part::marker("<|i|>"), Part::text("i")];
        assert_eq!(split("<|i|>i", &["i"]).unwrap(), want);
    }

    #[test]
    fn a_text_that_the_template_changed_must_not_look_like_a_token() {
        let want = [Part::marker("<u>"), Part::text("A \\\"b\\\"")];
        assert_eq!(split("<u>A \\\"b\\\"", &["A \"b\""]).unwrap(), want);
        assert_eq!(split("<u>&lt;u&gt; x", &["<u> x"]), None);
        assert!(split("<u>", &[""]).is_some());
    }
}
