//! IFEval: does a response follow instructions that can be checked (Zhou et al., "Instruction-following evaluation for
//! large language models", 2023)?
//!
//! All 25 instructions are here, and their checkers agree with lm-evaluation-harness's but for two that rest on models
//! of natural language:
//!
//! - `language:response_language` and the two `change_case:english_*` ask which language a text is. The reference uses
//!   langdetect, which draws n-grams at random and may answer differently each time; [`language`] has the same profiles
//!   and rule but a fixed seed. A text whose language is a toss-up there (few words, mostly capitals or numbers) may come
//!   out otherwise here.
//! - `length_constraints:number_sentences` and `change_case:capital_word_frequency` use NLTK's Punkt with parameters
//!   trained on newspapers. [`sentences`] follows Punkt's decisions with a small table of abbreviations in place of the
//!   trained one; after an abbreviation or an initial it may split where Punkt does not, or the reverse.
//!
//! The reference replaces a missing or zero argument by a random one; here that is an error.

mod arguments;
mod checks;
mod instruction;
mod json;
pub mod language;
pub mod sentences;
mod word_tokens;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::metric::count;
use crate::python_text::strip;

pub use instruction::Instruction;

/// For each instruction of a prompt whether the response follows it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Followed {
    /// As the response stands.
    pub strict: Vec<bool>,
    /// In one of its variants: without asterisks, without the first or the last line or both.
    pub loose: Vec<bool>,
}

/// Checks a response against all instructions of its prompt. An empty response follows none.
///
/// # Errors
/// [`Error::PatternLimit`] for a keyword that is a pattern and takes too long; [`Error::Feature`] for an instruction
/// about languages without the feature `langdetect`.
pub fn check(instructions: &[Instruction], response: &str) -> Result<Followed> {
    let variants = variants(response);
    let mut followed = Followed::default();
    for instruction in instructions {
        let follows = |text: &str| -> Result<bool> {
            Ok(!strip(text).is_empty() && instruction.follows(text)?)
        };
        let strict = follows(response)?;
        let mut loose = strict;
        for variant in &variants {
            loose = loose || follows(variant)?;
        }
        followed.strict.push(strict);
        followed.loose.push(loose);
    }
    Ok(followed)
}

/// The response without some of its lines, and each of these without asterisks.
fn variants(response: &str) -> Vec<String> {
    let lines: Vec<&str> = response.split('\n').collect();
    let joined = |lines: &[&str]| strip(&lines.join("\n")).to_owned();
    let n = lines.len();
    let cut = [
        joined(&lines[1..]),
        joined(&lines[..n - 1]),
        joined(lines.get(1..n - 1).unwrap_or_default()),
    ];
    let bare = |text: &str| text.replace('*', "");
    let mut variants = vec![bare(response)];
    variants.extend(cut.iter().map(|text| bare(text)));
    variants.extend(cut);
    variants
}

/// IFEval's four figures, from 0 to 1.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Scores {
    /// Prompts all of whose instructions are followed.
    pub prompt_level_strict_acc: f64,
    /// Instructions that are followed.
    pub inst_level_strict_acc: f64,
    /// The same, loosely.
    pub prompt_level_loose_acc: f64,
    /// The same, loosely.
    pub inst_level_loose_acc: f64,
}

/// The four figures of a run.
///
/// # Errors
/// [`Error::Metric`] for no prompts or no instructions.
pub fn scores(prompts: &[Followed]) -> Result<Scores> {
    let instructions: usize = prompts.iter().map(|followed| followed.strict.len()).sum();
    if instructions == 0 {
        return Err(Error::metric("ifeval", "there are no instructions"));
    }
    let by_prompt = |of: fn(&Followed) -> &Vec<bool>| {
        let all = prompts
            .iter()
            .filter(|followed| of(followed).iter().all(|&follows| follows));
        count(all.count()) / count(prompts.len())
    };
    let by_instruction = |of: fn(&Followed) -> &Vec<bool>| {
        let each = prompts.iter().flat_map(of).filter(|&&follows| follows);
        count(each.count()) / count(instructions)
    };
    Ok(Scores {
        prompt_level_strict_acc: by_prompt(|followed| &followed.strict),
        inst_level_strict_acc: by_instruction(|followed| &followed.strict),
        prompt_level_loose_acc: by_prompt(|followed| &followed.loose),
        inst_level_loose_acc: by_instruction(|followed| &followed.loose),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_of_two_prompts() {
        let followed = |strict: &[bool], loose: &[bool]| Followed {
            strict: strict.to_vec(),
            loose: loose.to_vec(),
        };
        let prompts = [
            followed(&[true], &[true]),
            followed(&[true, false, false], &[true, true, false]),
        ];
        let want = Scores {
            prompt_level_strict_acc: 0.5,
            inst_level_strict_acc: 0.5,
            prompt_level_loose_acc: 0.5,
            inst_level_loose_acc: 0.75,
        };
        assert_eq!(scores(&prompts).unwrap(), want);
        assert!(scores(&[]).is_err());
    }

    #[test]
    fn loosely_a_line_or_asterisks_may_be_in_the_way() {
        let title = Instruction::parse("startend:quotation", &serde_json::Map::new()).unwrap();
        let got = check(&[title], "Here:\n\"quoted\"").unwrap();
        assert_eq!((got.strict[0], got.loose[0]), (false, true));
        assert_eq!(variants("a*"), ["a", "", "", "", "", "", ""]);
    }
}
