//! A long text in parts, one a call.

use crate::tool::ToolError;

/// A part of a text.
#[derive(Debug)]
pub(crate) struct Passage<'a> {
    /// The part.
    pub(crate) text: &'a str,
    /// The first character behind it, if there are more.
    pub(crate) next: Option<usize>,
    /// The characters of all.
    pub(crate) total: usize,
}

impl<'a> Passage<'a> {
    /// At most `max` characters from the one numbered `start`.
    pub(crate) fn of(text: &'a str, start: usize, max: usize) -> Result<Self, ToolError> {
        let total = text.chars().count();
        if start > 0 && start >= total {
            return Err(ToolError::failed(format!(
                "`start` is {start}, but the text has {total} characters"
            )));
        }
        let byte = |count: usize, from: usize| {
            text[from..]
                .char_indices()
                .nth(count)
                .map_or(text.len(), |(at, _)| from + at)
        };
        let begin = byte(start, 0);
        let end = byte(max, begin);
        Ok(Self {
            text: &text[begin..end],
            next: (end < text.len()).then_some(start.saturating_add(max)),
            total,
        })
    }

    /// The part, and where to go on.
    pub(crate) fn told(&self) -> String {
        match self.next {
            None => self.text.to_owned(),
            Some(next) => format!(
                "{}\n\n[of {} characters; go on with start={next}]",
                self.text, self.total
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_join_to_the_whole() {
        let text = "数学 is fun";
        let (mut start, mut joined) = (0, String::new());
        loop {
            let part = Passage::of(text, start, 4).unwrap();
            joined.push_str(part.text);
            let Some(next) = part.next else { break };
            start = next;
        }
        assert_eq!(joined, text);
        assert!(Passage::of(text, 10, 4).is_err());
        assert_eq!(Passage::of("", 0, 4).unwrap().told(), "");
        let told = Passage::of(text, 0, 2).unwrap().told();
        assert_eq!(told, "数学\n\n[of 9 characters; go on with start=2]");
    }
}
