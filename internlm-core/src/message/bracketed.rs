//! Special tokens by their looks, where no tokenizer is at hand.

use super::Part;

/// Splits a trusted text at what looks like special tokens: a word in angle or square brackets, such as `<|im_end|>`,
/// `<s>`, `[INST]` and `[UNUSED_TOKEN_145]`. A marker that the tokenizer does not know is text again, so that too many
/// do no harm.
pub fn bracketed(text: &str) -> Vec<Part> {
    let mut parts = Vec::new();
    let mut at = 0;
    for (start, end) in spans(text) {
        parts.push(Part::text(&text[at..start]));
        parts.push(Part::marker(&text[start..end]));
        at = end;
    }
    parts.push(Part::text(&text[at..]));
    parts.retain(|part| !part.as_str().is_empty());
    parts
}

/// Where the words in brackets stand, in bytes.
pub(crate) fn spans(text: &str) -> Vec<(usize, usize)> {
    let mut spans = Vec::new();
    let mut open: Option<(usize, char)> = None;
    for (at, letter) in text.char_indices() {
        match letter {
            '<' => open = Some((at, '>')),
            '[' => open = Some((at, ']')),
            '>' | ']' => {
                if let Some((start, close)) = open.take()
                    && close == letter
                    && at > start + 1
                {
                    spans.push((start, at + 1));
                }
            }
            _ if letter.is_whitespace() => open = None,
            _ => {}
        }
    }
    spans
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, want: &[&str]) {
        let parts = bracketed(text);
        assert_eq!(super::super::join(&parts), text);
        let markers = parts
            .iter()
            .filter(|part| matches!(part, Part::Marker { .. }));
        assert_eq!(markers.map(Part::as_str).collect::<Vec<_>>(), want);
    }

    #[test]
    fn words_in_brackets_are_markers() {
        check("<s>[INST] Hi [/INST]\n", &["<s>", "[INST]", "[/INST]"]);
        check(
            "<|im_start|>用户\n<|im_end|>",
            &["<|im_start|>", "<|im_end|>"],
        );
        check("[UNUSED_TOKEN_146]user", &["[UNUSED_TOKEN_146]"]);
    }

    #[test]
    fn other_brackets_are_text() {
        check("a < b > c, <> [] <a b> <a] [1>", &[]);
        check("<<s>>", &["<s>"]);
        check("<", &[]);
        check("", &[]);
    }
}
