//! GAOKAO-Bench's scoring.

use serde::{Deserialize, Serialize};

use crate::python_text::is_space;

/// A kind of question.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum QuestionType {
    /// One question, one option: the last letter A to D of the text.
    SingleChoice,
    /// One question, several options; part of them is half right.
    MultiChoice,
    /// Several questions, one option each.
    MultiQuestionChoice,
    /// Five gaps, one of A to G each.
    FiveOutOfSeven,
    /// A text in a gap; not scored by rule.
    Cloze,
    /// Free answers; not scored by rule.
    Subjective,
    /// A corrected text; not scored by rule.
    Correction,
}

impl QuestionType {
    /// Whether a rule scores it; upstream gives 0 to all others.
    pub fn is_objective(self) -> bool {
        !matches!(
            self,
            QuestionType::Cloze | QuestionType::Subjective | QuestionType::Correction
        )
    }

    /// The answers in a text, as many as there are right ones; `Z` for each where their number differs.
    pub fn answers(self, text: &str, wanted: usize) -> Vec<String> {
        let answers = match self {
            QuestionType::SingleChoice => {
                let last = text.chars().rev().find(|c| ('A'..='D').contains(c));
                last.map(String::from).into_iter().collect()
            }
            QuestionType::MultiQuestionChoice => marked_or_first(text, wanted),
            QuestionType::MultiChoice => {
                let text: Vec<char> = text.chars().filter(|&c| !is_space(c)).collect();
                let mark = ['【', '答', '案', '】'];
                let at = text.windows(mark.len()).position(|window| window == mark);
                // Upstream takes a mark at the very beginning for none.
                let start = match at {
                    Some(at) if at > 0 => at,
                    _ => text.len().saturating_sub(10),
                };
                let letters = text[start..].iter().filter(|c| ('A'..='D').contains(*c));
                let letters: String = letters.collect();
                if letters.is_empty() {
                    Vec::new()
                } else {
                    vec![letters]
                }
            }
            QuestionType::FiveOutOfSeven => {
                let letters = text.chars().filter(|c| ('A'..='G').contains(c));
                letters.take(5).map(String::from).collect()
            }
            _ => Vec::new(),
        };
        if answers.len() == wanted {
            answers
        } else {
            vec!["Z".to_owned(); wanted]
        }
    }

    /// Points that were made and could be made.
    pub fn points(self, answers: &[String], right: &[String]) -> (u32, u32) {
        let mut points = (0, 0);
        for (answer, right) in answers.iter().zip(right) {
            let (made, full) = match self {
                QuestionType::MultiChoice if answer == right => (2, 2),
                QuestionType::MultiChoice => {
                    (u32::from(answer.chars().all(|c| right.contains(c))), 2)
                }
                _ => (u32::from(answer == right), 1),
            };
            points.0 += made;
            points.1 += full;
        }
        points
    }
}

/// Letters after `【答案】`, if there are as many as questions; else the first capitals.
fn marked_or_first(text: &str, wanted: usize) -> Vec<String> {
    let mut marked = Vec::new();
    for part in text.split("【答案】").skip(1) {
        let rest = part
            .trim_start_matches(is_space)
            .trim_start_matches([':', '：'])
            .trim_start_matches(is_space);
        let letter = rest.chars().next().filter(char::is_ascii_uppercase);
        marked.extend(letter.map(String::from));
    }
    if marked.len() == wanted {
        return marked;
    }
    let capitals = text.chars().filter(char::is_ascii_uppercase);
    capitals.take(wanted).map(String::from).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_and_points() {
        let single = QuestionType::SingleChoice;
        assert_eq!(single.answers("A 不对，【答案】: C <eoa>", 1), ["C"]);
        assert_eq!(single.answers("不知道", 1), ["Z"]);
        let many = QuestionType::MultiQuestionChoice;
        assert_eq!(
            many.answers("（1）【答案】 A <eoa>（2）【答案】：B", 2),
            ["A", "B"]
        );
        assert_eq!(many.answers("A, C, D", 2), ["A", "C"]);
        assert_eq!(many.answers("A", 2), ["Z", "Z"]);
        let multi = QuestionType::MultiChoice;
        assert_eq!(multi.answers("解：【答案】 A B <eoa>", 1), ["AB"]);
        let right = ["ABC".to_owned()];
        assert_eq!(multi.points(&["AB".to_owned()], &right), (1, 2));
        assert_eq!(multi.points(&["AD".to_owned()], &right), (0, 2));
        assert_eq!(multi.points(&right, &right), (2, 2));
        let five = QuestionType::FiveOutOfSeven;
        assert_eq!(five.answers("EGACFB", 5), ["E", "G", "A", "C", "F"]);
    }
}
