//! Words for BM25 as OpenCompass cuts them.

/// Words as the Penn Treebank splits them, near to NLTK's `word_tokenize`. NLTK first finds sentences with a trained
/// model, so that it also splits a stop before the next sentence; here a stop is split at the end of the text and
/// where a capital follows.
pub(crate) fn words(text: &str) -> Vec<String> {
    let chars: Vec<char> = text.chars().collect();
    let mut spaced = String::with_capacity(text.len() * 2);
    for (i, &char) in chars.iter().enumerate() {
        let after = chars.get(i + 1).copied();
        let before = i.checked_sub(1).map(|i| chars[i]);
        match char {
            '"' => spaced.push_str(
                if before.is_none_or(|c| c.is_whitespace() || "([{<".contains(c)) {
                    " `` "
                } else {
                    " '' "
                },
            ),
            ',' | ':' if after.is_some_and(|c| c.is_ascii_digit()) => spaced.push(char),
            ',' | ':' | ';' | '@' | '#' | '$' | '%' | '&' | '?' | '!' | '(' | ')' | '[' | ']'
            | '{' | '}' | '<' | '>' => {
                spaced.push(' ');
                spaced.push(char);
                spaced.push(' ');
            }
            '.' => {
                let earlier = chars[..i].iter().rev().take_while(|c| **c == '.').count();
                let run = earlier + chars[i..].iter().take_while(|c| **c == '.').count();
                match (run, earlier) {
                    (3.., 0) => spaced.push_str(" ... "),
                    (3.., _) => {}
                    _ if ends_sentence(&chars[i + 1..]) => spaced.push_str(" . "),
                    _ => spaced.push('.'),
                }
            }
            '-' if after == Some('-') && before != Some('-') => spaced.push_str(" -"),
            '-' if before == Some('-') && after != Some('-') => spaced.push_str("- "),
            _ => spaced.push(char),
        }
    }
    spaced.split_whitespace().flat_map(contractions).collect()
}

fn ends_sentence(rest: &[char]) -> bool {
    let closing = rest.iter().take_while(|c| "\"')]}>".contains(**c)).count();
    let mut rest = rest[closing..].iter();
    match rest.next() {
        None => true,
        Some(c) if c.is_whitespace() => rest
            .find(|c| !c.is_whitespace())
            .is_none_or(|c| c.is_uppercase()),
        Some(_) => false,
    }
}

/// `don't` is `do`, `n't`; `it's` is `it`, `'s`.
fn contractions(word: &str) -> Vec<String> {
    let lower = word.to_ascii_lowercase();
    for ending in ["n't", "'s", "'m", "'d", "'ll", "'re", "'ve"] {
        if lower.ends_with(ending) && word.len() > ending.len() {
            let at = word.len() - ending.len();
            return vec![word[..at].to_owned(), word[at..].to_owned()];
        }
    }
    if word.len() > 1 && word.ends_with('\'') && !word.ends_with("''") {
        let at = word.len() - 1;
        return vec![word[..at].to_owned(), word[at..].to_owned()];
    }
    vec![word.to_owned()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_split_as_in_the_treebank() {
        assert_eq!(
            words("He said: \"I can't do 1,000 things.\" It's fine. Dr. No..."),
            [
                "He", "said", ":", "``", "I", "ca", "n't", "do", "1,000", "things", ".", "''",
                "It", "'s", "fine", ".", "Dr", ".", "No", "..."
            ]
        );
    }
}
