//! Python values as text: what the protocols of Lagent and T-Eval read and write.
//!
//! Models of this family were tuned on prompts that hold Python's `repr` of dictionaries, and their answers
//! are read with Python's rules of JSON (`NaN`, repeated keys, whole numbers of any size) or as Python
//! literals. Nothing here runs code: [`literal`] reads constants and containers and refuses the rest.
//!
//! ```
//! use internlm_agent::python;
//! let value = python::literal("{'x': (1, True), 'it' 's': None}")?;
//! assert_eq!(value.repr(), "{'x': (1, True), 'its': None}");
//! assert_eq!(value.dumps(), r#"{"x": [1, true], "its": null}"#);
//! assert!(python::literal("__import__('os')").is_err());
//! # Ok::<(), internlm_agent::python::PythonError>(())
//! ```

mod int_set;
mod json;
mod literal;
mod value;
mod write;

pub(crate) use int_set::int_set;
pub use json::{json5, loads};
pub use literal::literal;
pub use value::{DumpStyle, PyValue};

/// Why a text is not a Python value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PythonError {
    /// The text is not JSON.
    #[error("not JSON at byte {at}: expected {what}")]
    Json {
        /// Where reading stopped.
        at: usize,
        /// What was expected there.
        what: &'static str,
    },
    /// The text is no Python expression.
    #[error("not Python at byte {at}: expected {what}")]
    Syntax {
        /// Where reading stopped.
        at: usize,
        /// What was expected there.
        what: &'static str,
    },
    /// The text is an expression, but has names or operations in it: only constants are read.
    #[error("not a Python literal: `{name}`")]
    NotLiteral {
        /// The first name or operation.
        name: String,
    },
    /// The nesting is deeper than is read.
    #[error("nested deeper than {limit} levels")]
    TooDeep {
        /// Most levels.
        limit: usize,
    },
}

/// Deepest nesting that is read.
const MAX_DEPTH: usize = 128;
/// Most decimal digits of a whole number, as Python's own limit.
const MAX_DIGITS: usize = 4300;

/// The number that so many hexadecimal digits from a place on are: the rest of an escape.
fn hexadecimal(text: &str, at: usize, count: usize) -> Option<u32> {
    let digits = text.get(at..at + count)?;
    let all = digits.bytes().all(|b| b.is_ascii_hexdigit());
    // A sign would be read, too.
    all.then(|| u32::from_str_radix(digits, 16).ok()).flatten()
}

/// Python's `str.strip()`: white space of Unicode and the four separators of ASCII.
pub fn strip(text: &str) -> &str {
    text.trim_matches(|c: char| c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c))
}
