//! Which language a text is, by the rule and the profiles of langdetect.
//!
//! Naive Bayes over n-grams of one to three letters. langdetect draws the n-grams at random with a smoothing that is
//! random too, and unless its user fixes a seed may answer differently every time; here the seed is fixed, so a text has
//! one answer. The profiles (55 languages, counted on Wikipedia) and the table of letter classes come with the crate
//! `langdetect-rs`; its detector is not used, as it copies all profiles for every text.

#[cfg(not(feature = "langdetect"))]
use crate::error::Error;
use crate::error::Result;

/// Whether a text is taken for a language, given by its code (ISO 639-1; Chinese is `zh-cn` or `zh-tw`). A text without
/// a single letter counts as any language, as in IFEval.
///
/// # Errors
/// [`Error::Feature`](crate::Error::Feature) without the feature `langdetect`.
#[cfg(feature = "langdetect")]
pub fn is(text: &str, language: &str) -> Result<bool> {
    Ok(match detector::detect(text) {
        None => true,
        Some(detected) => detected == language,
    })
}

/// Whether a text is taken for a language: unknown without the feature `langdetect`.
///
/// # Errors
/// [`Error::Feature`].
#[cfg(not(feature = "langdetect"))]
pub fn is(_text: &str, _language: &str) -> Result<bool> {
    Err(Error::Feature {
        what: "detection of languages",
        feature: "langdetect",
    })
}

#[cfg(feature = "langdetect")]
mod detector {
    use std::collections::HashMap;
    use std::sync::LazyLock;

    use langdetect_rs::detector_factory::DetectorFactory;
    use langdetect_rs::utils::ngram::NGram;
    use regex::Regex;
    use serde::Deserialize;

    use crate::metric::standard_error::Generator;
    use crate::pattern::constant;

    const ALPHA: f64 = 0.5;
    const ALPHA_WIDTH: f64 = 0.05;
    const ITERATION_LIMIT: usize = 1000;
    const PROBABILITY_THRESHOLD: f64 = 0.1;
    const CONVERGENCE: f64 = 0.99999;
    const BASE_FREQUENCY: f64 = 10_000.0;
    const TRIALS: usize = 7;
    const MAX_CHARACTERS: usize = 10_000;
    const SEED: u64 = 0;
    /// The crate's addition to langdetect's 55 languages.
    const NOT_IN_LANGDETECT: &str = "uz";

    #[derive(Deserialize)]
    struct Profile {
        name: String,
        freq: HashMap<String, f64>,
        n_words: Vec<f64>,
    }

    struct Profiles {
        languages: Vec<String>,
        /// Of each n-gram its share among those of its length, for the languages that have it.
        shares: HashMap<String, Vec<(usize, f64)>>,
    }

    static PROFILES: LazyLock<Profiles> = LazyLock::new(|| {
        let mut profiles = Profiles {
            languages: Vec::new(),
            shares: HashMap::new(),
        };
        let texts = DetectorFactory::get_default_profiles_json();
        let parsed = texts
            .iter()
            .filter_map(|text| serde_json::from_str::<Profile>(text).ok());
        for profile in parsed.filter(|profile| profile.name != NOT_IN_LANGDETECT) {
            let language = profiles.languages.len();
            profiles.languages.push(profile.name);
            for (ngram, frequency) in profile.freq {
                let length = ngram.chars().count();
                let Some(total) = length
                    .checked_sub(1)
                    .and_then(|index| profile.n_words.get(index))
                else {
                    continue;
                };
                profiles
                    .shares
                    .entry(ngram)
                    .or_default()
                    .push((language, frequency / total));
            }
        }
        profiles
    });

    static URL: LazyLock<Regex> = LazyLock::new(|| constant(r"https?://[-_.?&~;+=/#0-9A-Za-z]+"));
    static MAIL: LazyLock<Regex> =
        LazyLock::new(|| constant(r"[-_.0-9A-Za-z]{1,64}@[-_0-9A-Za-z]+[-_.0-9A-Za-z]+"));

    /// The most likely language, `unknown` if none is likely; `None` for a text without letters.
    pub(super) fn detect(text: &str) -> Option<&'static str> {
        let profiles = &*PROFILES;
        let grams: Vec<&[(usize, f64)]> = ngrams(&cleaned(text), profiles);
        if grams.is_empty() {
            return None;
        }
        let mut generator = Generator::new(SEED);
        let n = profiles.languages.len();
        let mut mean = vec![0.0; n];
        for _ in 0..TRIALS {
            let alpha = ALPHA + generator.normal() * ALPHA_WIDTH;
            for (mean, probability) in mean.iter_mut().zip(trial(&grams, n, alpha, &mut generator))
            {
                *mean += probability / TRIALS as f64;
            }
        }
        let likely = mean
            .iter()
            .enumerate()
            .filter(|(_, probability)| **probability > PROBABILITY_THRESHOLD);
        let best = likely.max_by(|a, b| a.1.total_cmp(b.1));
        Some(best.map_or("unknown", |(language, _)| {
            profiles.languages[language].as_str()
        }))
    }

    fn trial(
        grams: &[&[(usize, f64)]],
        languages: usize,
        alpha: f64,
        generator: &mut Generator,
    ) -> Vec<f64> {
        let mut probabilities = vec![1.0 / languages as f64; languages];
        let weight = alpha / BASE_FREQUENCY;
        for i in 0..=ITERATION_LIMIT {
            let shares = grams[generator.below(grams.len())];
            // A language that lacks the n-gram gets the smoothing alone.
            let before = probabilities.clone();
            for probability in &mut probabilities {
                *probability *= weight;
            }
            for &(language, share) in shares {
                probabilities[language] = before[language] * (weight + share);
            }
            if i % 5 == 0 {
                let sum: f64 = probabilities.iter().sum();
                for probability in &mut probabilities {
                    *probability /= sum;
                }
                if probabilities
                    .iter()
                    .any(|&probability| probability > CONVERGENCE)
                {
                    break;
                }
            }
        }
        probabilities
    }

    /// Without addresses and repeated blanks; without Latin letters if most letters are of another script.
    fn cleaned(text: &str) -> String {
        let text = MAIL
            .replace_all(&URL.replace_all(text, " "), " ")
            .into_owned();
        let text = NGram::normalize_vi(&text);
        let mut kept = String::with_capacity(text.len());
        let mut previous = '\0';
        for c in text.chars().take(MAX_CHARACTERS) {
            if c != ' ' || previous != ' ' {
                kept.push(c);
            }
            previous = c;
        }
        let is_latin = |c: &char| ('A'..='z').contains(c);
        let latin = kept.chars().filter(is_latin).count();
        let is_other = |c: &char| *c >= '\u{300}' && !('\u{1e00}'..='\u{1eff}').contains(c);
        let other = kept.chars().filter(is_other).count();
        if latin * 2 < other {
            kept.retain(|c| !is_latin(&c));
        }
        kept
    }

    /// The shares of all n-grams of the text that some profile has; words in capitals count with their first letter
    /// only.
    fn ngrams<'a>(text: &str, profiles: &'a Profiles) -> Vec<&'a [(usize, f64)]> {
        let mut found = Vec::new();
        let mut window = NGram::new();
        for c in text.chars() {
            window.add_char(c);
            if window.capitalword {
                continue;
            }
            let starts: Vec<usize> = window
                .grams
                .char_indices()
                .rev()
                .map(|(at, _)| at)
                .collect();
            for &start in starts.iter().take(NGram::N_GRAM) {
                let gram = &window.grams[start..];
                if gram != " " {
                    found.extend(profiles.shares.get(gram).map(Vec::as_slice));
                }
            }
        }
        found
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn languages_are_told_apart() {
            for (text, want) in [
                (
                    "The quick brown fox jumps over the lazy dog, and that is all there is to it.",
                    "en",
                ),
                (
                    "Der schnelle braune Fuchs springt über den faulen Hund, und das war es.",
                    "de",
                ),
                (
                    "Le renard brun saute par-dessus le chien paresseux, et voilà tout.",
                    "fr",
                ),
                ("敏捷的棕色狐狸跳过了懒狗。这就是全部的故事。", "zh-cn"),
                ("すばやい茶色の狐がのろまな犬を飛び越える。", "ja"),
                (
                    "Быстрая коричневая лиса прыгает через ленивую собаку.",
                    "ru",
                ),
            ] {
                assert_eq!(detect(text), Some(want), "{text}");
            }
            assert_eq!(detect("12 + 34 = 46"), None);
            assert_eq!(PROFILES.languages.len(), 55);
        }
    }
}
