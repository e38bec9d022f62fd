//! Figures made of predictions and right answers.
//!
//! Everything here is a pure function of texts and numbers. Where several programs compute "the same" metric
//! differently, the one that the harnesses call is followed to the last digit: rouge-score, sacrebleu, SQuAD's script,
//! rouge-chinese over jieba, human-eval's pass@k, OpenCompass's G-Pass@k.
//!
//! ```
//! use internlm_eval::metric::{bleu::Bleu, squad};
//!
//! assert_eq!(squad::f1("the Denver Broncos!", &["Broncos"]), 2.0 / 3.0);
//! let score = Bleu::default().corpus(&[("a b c d", &["a b c d"][..])])?;
//! assert!((score.score - 100.0).abs() < 1e-9);
//! # Ok::<(), internlm_eval::Error>(())
//! ```

pub mod bleu;
#[cfg(feature = "jieba")]
pub mod chinese_rouge;
pub mod choice;
pub mod chrf;
pub mod classification;
pub mod group;
mod ngram;
pub mod paired;
pub mod pass_at_k;
pub mod perplexity;
mod porter;
pub mod rouge;
pub mod squad;
pub mod standard_error;
pub mod ter;
pub mod tokenize;

use crate::error::{Error, Result};

/// The arithmetic mean.
///
/// # Errors
/// [`Error::Metric`] for no values.
pub fn mean(values: &[f64]) -> Result<f64> {
    if values.is_empty() {
        return Err(Error::metric("mean", "there are no values"));
    }
    Ok(values.iter().sum::<f64>() / count(values.len()))
}

/// A number of things as a float; exact up to 2^53.
#[allow(
    clippy::cast_precision_loss,
    reason = "no data set has that many items"
)]
pub(crate) fn count(n: usize) -> f64 {
    n as f64
}
