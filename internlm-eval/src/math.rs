//! Whether two mathematical answers are the same.
//!
//! The harnesses ask this in several ways, and a reported figure hangs on which: the same text after a clean-up
//! ([`equivalence`], [`open_compass`], [`minerva`]), or the same value ([`expression`]). The last stands in for sympy and
//! math-verify, which run in Python: a subset of LaTeX is parsed and compared exactly where numbers are rational, and at
//! several points where there are variables. Which part of a model's text is the answer is a rule of its own
//! ([`extraction`]). It is bounded in length, depth and time, and evaluates nothing but
//! arithmetic.
//!
//! ```
//! use internlm_eval::math;
//!
//! assert!(math::verify(r"So the answer is $\boxed{\dfrac{1}{2}}$.", "0.5"));
//! assert!(math::verify("(x+1)^2", "x^2+2x+1"));
//! assert!(!math::verify("[0, 1)", "[0, 1]"));
//! ```

mod answer;
pub mod boxed;
mod complex;
pub mod equivalence;
pub mod expression;
pub mod extraction;
mod factor;
mod lewkowycz;
pub mod minerva;
pub mod open_compass;
mod parse;
mod rational;
mod relation;
mod token;

pub use expression::{verify, verify_extracted};
pub use extraction::Anchors;
