//! A calculator that is exact where numbers are: whole numbers of any size, fractions and decimals.
//!
//! It reads what people and models write: `**` and `^`, `×`, `÷`, full-width digits and brackets, Chinese words
//! for the operators, `50%`, `5!`, `2(3+4)`, separators of thousands, an equals sign at the end.
//!
//! ```
//! use internlm_agent::tools::calculator::evaluate;
//! assert_eq!(evaluate("37*12+5")?.to_string(), "449");
//! assert_eq!(evaluate("0.1 + 0.2")?.to_string(), "0.3");
//! assert_eq!(evaluate("（3＋4）×2÷7 =")?.to_string(), "2");
//! assert_eq!(evaluate("2**100")?.to_string(), "1267650600228229401496703205376");
//! assert_eq!(evaluate("1/3 + 1/6")?.to_string(), "0.5");
//! assert_eq!(evaluate("10/3")?.to_string(), "10/3 (about 3.33333333333333)");
//! assert!(evaluate("1/0").is_err());
//! # Ok::<(), internlm_agent::tools::calculator::CalculatorError>(())
//! ```

mod functions;
mod number;
mod parser;
#[cfg(test)]
mod tests;

use schemars::JsonSchema;
use serde::Deserialize;

pub use number::Number;

use super::catalog::CatalogEntry;
use crate::tool::{ToolError, TypedTool, tool};

/// Why an expression has no value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CalculatorError {
    /// It is no expression.
    #[error("at character {at}: expected {expected}, found {found}")]
    Syntax {
        /// Which character, from 1.
        at: usize,
        /// What could stand there.
        expected: &'static str,
        /// What stands there.
        found: String,
    },
    /// A name that is neither a function nor a constant.
    #[error("`{name}` is unknown; functions are: {FUNCTIONS}; constants are: pi, e, tau")]
    UnknownName {
        /// The name.
        name: String,
    },
    /// A function got too many or too few numbers.
    #[error("`{function}` takes {takes}, not {given}")]
    Arguments {
        /// The function.
        function: String,
        /// How many it takes.
        takes: &'static str,
        /// How many there are.
        given: usize,
    },
    /// A division by zero.
    #[error("division by zero")]
    DivisionByZero,
    /// A function has no value there.
    #[error("`{function}` has no real value there")]
    Domain {
        /// The function.
        function: String,
    },
    /// A result would be too long.
    #[error("a number would have more than {limit} bits")]
    TooLarge {
        /// Most bits.
        limit: u64,
    },
    /// Brackets are nested too deep.
    #[error("brackets are nested deeper than {limit}")]
    TooDeep {
        /// Most levels.
        limit: usize,
    },
}

const FUNCTIONS: &str = "abs, acos, asin, atan, ceil, cos, exp, factorial, floor, gcd, lcm, ln, log, log10, \
log2, max, min, mod, pow, round, sin, sqrt, tan";

/// The value of an expression.
///
/// # Errors
/// See [`CalculatorError`].
pub fn evaluate(expression: &str) -> Result<Number, CalculatorError> {
    parser::evaluate(expression)
}

/// Calculates exactly: whole numbers of any size, fractions, decimals, powers, functions and constants.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct Calculation {
    /// What to calculate, for instance `37*12+5` or `sqrt(2)/2`.
    // A small model that is bound to the schema may repeat itself without end; this ends its call. Longer ones of a
    // model that isn't are calculated, too.
    #[schemars(length(max = 256))]
    pub expression: String,
}

/// The tool `calculator`.
pub fn calculator() -> TypedTool {
    tool("calculator", |arguments: Calculation| {
        let value = evaluate(&arguments.expression).map_err(ToolError::failed)?;
        Ok(value.to_string())
    })
}

/// What the catalog says of it.
pub(super) fn entries() -> Vec<CatalogEntry> {
    let limits = format!(
        "numbers of {} bits and brackets {} deep.",
        number::MAX_BITS,
        parser::MAX_DEPTH
    );
    let entry = CatalogEntry::from_tool(&calculator(), "tools::calculator", limits);
    vec![entry.in_default_set()]
}
