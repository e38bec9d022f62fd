//! Guesses at the next tokens, which one pass checks together.
//!
//! A guess changes nothing but the speed: each token is chosen from the model's own logits, with the draws that
//! it would have without guesses, and a guess is kept only where it is the token that was chosen. (Prompt lookup
//! decoding: github.com/apoorvumang/prompt-lookup-decoding; checking drafts in one pass: arXiv 2211.17192.)

mod drafter;

pub(crate) use drafter::Drafter;

/// Guessing that what followed the last tokens before follows them again, as in answers that quote their
/// prompt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PromptLookup {
    /// Most tokens of a guess.
    pub max_draft: usize,
    /// Most of the last tokens that are looked for; then fewer are.
    pub max_ngram: usize,
    /// Fewest of the last tokens that are looked for.
    pub min_ngram: usize,
}

impl Default for PromptLookup {
    fn default() -> Self {
        Self {
            max_draft: 8,
            max_ngram: 4,
            min_ngram: 2,
        }
    }
}

impl PromptLookup {
    /// Sets the most tokens of a guess.
    #[must_use]
    pub fn with_max_draft(mut self, max_draft: usize) -> Self {
        self.max_draft = max_draft;
        self
    }

    /// Sets the fewest and the most of the last tokens that are looked for.
    #[must_use]
    pub fn with_ngrams(mut self, min_ngram: usize, max_ngram: usize) -> Self {
        self.min_ngram = min_ngram;
        self.max_ngram = max_ngram;
        self
    }

    /// What followed the last occurrence of the longest n-gram that the tokens end with; at most `limit` of
    /// it.
    pub(crate) fn draft<'a>(&self, tokens: &'a [u32], limit: usize) -> &'a [u32] {
        let limit = limit.min(self.max_draft);
        for n in (self.min_ngram.max(1)..=self.max_ngram).rev() {
            if limit == 0 || tokens.len() <= n {
                continue;
            }
            let (before, last) = (&tokens[..tokens.len() - 1], &tokens[tokens.len() - n..]);
            let found = before.windows(n).rposition(|window| window == last);
            if let Some(start) = found {
                let follows = &tokens[start + n..];
                return &follows[..follows.len().min(limit)];
            }
        }
        &[]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(tokens: &[u32], limit: usize, want: &[u32]) {
        assert_eq!(PromptLookup::default().draft(tokens, limit), want);
    }

    #[test]
    fn the_longest_and_latest_match_is_continued() {
        check(&[1, 2, 3, 4, 9, 1, 2], 8, &[3, 4, 9, 1, 2]);
        check(&[1, 2, 3, 4, 9, 1, 2], 2, &[3, 4]);
        check(&[1, 2, 7, 1, 2, 8, 5, 1, 2], 1, &[8]);
        check(&[5, 1, 2, 7, 1, 2, 8, 5, 1, 2], 1, &[7]);
        check(&[4, 4, 4], 8, &[4]);
        check(&[1, 2, 3], 8, &[]);
        check(&[1, 2, 1], 8, &[]);
        check(&[], 8, &[]);
        check(&[1, 2, 3, 1, 2], 0, &[]);
    }
}
