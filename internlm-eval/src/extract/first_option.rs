//! OpenCompass's `first_option_postprocess`: the letter of the chosen option in a free answer.

use crate::error::Result;
use crate::pattern::{Flags, Pattern};
use crate::python_text::strip;

/// Phrases around an answer in their order of trust; `@` stands for one of the options. Upstream's table has a comma
/// missing, so that two phrases (`故选` and `只有..对`) are one here too.
const PHRASES: [&str; 50] = [
    r"答案是?\s*(@)",
    r"答案是?\s*：\s*(@)",
    r"答案是?\s*:\s*(@)",
    r"答案选项应?该?是\s*(@)",
    r"答案选项应?该?为\s*(@)",
    r"答案应该?是\s*(@)",
    r"答案应该?选\s*(@)",
    r"答案选项为?\s*：\s*(@)",
    r"答案选项为?\s+\(?\*?\*?(@)\*?\*?\)?",
    r"答案选项是?\s*:\s*(@)",
    r"答案为\s*(@)",
    r"答案选\s*(@)",
    r"选择?\s*(@)",
    r"故选?\s*(@)只有选?项?\s?(@)\s?是?对",
    r"只有选?项?\s?(@)\s?是?错",
    r"只有选?项?\s?(@)\s?不?正确",
    r"只有选?项?\s?(@)\s?错误",
    r"说法不?对选?项?的?是\s?(@)",
    r"说法不?正确选?项?的?是\s?(@)",
    r"说法错误选?项?的?是\s?(@)",
    r"(@)\s?是正确的",
    r"(@)\s?是正确答案",
    r"选项\s?(@)\s?正确",
    r"所以答\s?(@)",
    r"所以\s?(@[.。$]?\Z)",
    r"所有\s?(@[.。$]?\Z)",
    r"[\s，：:,](@)[。，,\.]?\Z",
    r"[\s，,：:][故即](@)[。\.]?\Z",
    r"[\s，,：:]因此(@)[。\.]?\Z",
    r"[是为。]\s?(@)[。\.]?\Z",
    r"因此\s?(@)[。\.]?\Z",
    r"显然\s?(@)[。\.]?\Z",
    r"答案是\s?(\S+)(?:。|\Z)",
    r"答案应该是\s?(\S+)(?:。|\Z)",
    r"答案为\s?(\S+)(?:。|\Z)",
    r"(?i)ANSWER\s*:\s*(@)",
    r"[Tt]he answer is:?\s+\(?(@)\)?",
    r"[Tt]he answer is:?\s+\(?\*?\*?(@)\*?\*?\)?",
    r"[Tt]he answer is option:?\s+\(?(@)\)?",
    r"[Tt]he correct answer is:?\s+\(?(@)\)?",
    r"[Tt]he correct answer is option:?\s+\(?(@)\)?",
    r"[Tt]he correct answer is:?.*?boxed{(@)}",
    r"[Tt]he correct option is:?.*?boxed{(@)}",
    r"[Tt]he correct answer option is:?.*?boxed{(@)}",
    r"[Tt]he answer to the question is:?\s+\(?(@)\)?",
    r"^选项\s?(@)",
    r"^(@)\s?选?项",
    r"(\s|^)@[\s。，,：:\.$]",
    r"1.\s?(.*?)\Z",
    r"1.\s?(@)[.。$]?\Z",
];

/// Phrases that catch nearly everything.
const CUSHION: [&str; 2] = [r"(@):", r"(@)"];

/// The options with their compiled phrases.
#[derive(Clone, Debug)]
pub struct FirstOption {
    options: String,
    phrases: Vec<Pattern>,
}

impl FirstOption {
    /// For options such as `ABCD`; without the cushion, a letter that stands in no known phrase is not taken.
    ///
    /// # Errors
    /// [`Error::Pattern`](crate::Error::Pattern) if the options make no class of characters.
    pub fn new(options: &str, cushion: bool) -> Result<Self> {
        let class = format!("[{options}]");
        let extra = if cushion { &CUSHION[..] } else { &[] };
        let phrases = PHRASES.iter().chain(extra);
        let phrases =
            phrases.map(|phrase| Pattern::with_flags(&phrase.replace('@', &class), Flags::DOT_ALL));
        Ok(Self {
            options: options.to_owned(),
            phrases: phrases.collect::<Result<_>>()?,
        })
    }

    /// The first option (in the order of the options) in what the first phrase that holds one captured; else the empty
    /// text.
    ///
    /// # Errors
    /// [`Error::PatternLimit`](crate::Error::PatternLimit) cannot occur for plain letters as options.
    pub fn extract(&self, text: &str) -> Result<String> {
        let text = strip(text);
        for phrase in &self.phrases {
            let Some(found) = phrase.search(text)? else {
                continue;
            };
            let captured = found.group(text, 1).filter(|group| !group.is_empty());
            let captured = captured
                .or_else(|| found.group(text, 0))
                .unwrap_or_default();
            if let Some(option) = self
                .options
                .chars()
                .find(|&option| captured.contains(option))
            {
                return Ok(option.to_string());
            }
        }
        Ok(String::new())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quirks_of_upstream() {
        let abcd = FirstOption::new("ABCD", true).unwrap();
        let check =
            |text: &str, want: &str| assert_eq!(abcd.extract(text).unwrap(), want, "{text}");
        check("故选A", "A");
        check("故选A只有B对", "A");
        check("1. D or B", "B");
        check("answer: d. C", "C");
        check("", "");
        let strict = FirstOption::new("ABCD", false).unwrap();
        assert_eq!(strict.extract("maybe -A-").unwrap(), "");
        assert!(FirstOption::new("", true).is_err());
    }
}
