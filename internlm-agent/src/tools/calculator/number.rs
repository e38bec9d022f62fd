//! Numbers: fractions as long as they are exact, floats after a function that is not.

use std::fmt;

use num_bigint::BigInt;
use num_integer::Integer;
use num_traits::{One, Signed, ToPrimitive, Zero};

use super::CalculatorError;

/// A number.
#[derive(Clone, Debug, PartialEq)]
pub enum Number {
    /// A fraction in lowest terms with a positive denominator.
    Exact {
        /// Above the line.
        numerator: BigInt,
        /// Below the line.
        denominator: BigInt,
    },
    /// A float.
    Real(f64),
}

/// Most bits of a numerator or denominator.
pub(super) const MAX_BITS: u64 = 1 << 18;

type Result<T = Number> = std::result::Result<T, CalculatorError>;

impl Number {
    /// A whole number.
    pub fn whole(value: impl Into<BigInt>) -> Self {
        Self::Exact {
            numerator: value.into(),
            denominator: BigInt::one(),
        }
    }

    /// A fraction.
    pub(super) fn fraction(numerator: BigInt, denominator: BigInt) -> Result {
        if denominator.is_zero() {
            return Err(CalculatorError::DivisionByZero);
        }
        if numerator.bits().max(denominator.bits()) > MAX_BITS {
            return Err(CalculatorError::TooLarge { limit: MAX_BITS });
        }
        let divisor = numerator.gcd(&denominator);
        let divisor = if denominator.is_negative() {
            -divisor
        } else {
            divisor
        };
        Ok(Self::Exact {
            numerator: numerator / &divisor,
            denominator: denominator / divisor,
        })
    }

    /// A float, if it is a number.
    pub(super) fn real(value: f64, function: &str) -> Result {
        if value.is_finite() {
            Ok(Self::Real(value))
        } else {
            Err(CalculatorError::Domain {
                function: function.to_owned(),
            })
        }
    }

    /// The nearest float.
    pub fn to_f64(&self) -> f64 {
        match self {
            Self::Real(value) => *value,
            Self::Exact {
                numerator,
                denominator,
            } => quotient(numerator, denominator),
        }
    }

    /// The number as a whole one, if it is.
    pub(super) fn to_whole(&self) -> Option<BigInt> {
        match self {
            Self::Exact {
                numerator,
                denominator,
            } if denominator.is_one() => Some(numerator.clone()),
            _ => None,
        }
    }

    /// Numerator and denominator of this number and of another, if both are exact.
    fn both_exact<'a>(&'a self, other: &'a Self) -> Option<[&'a BigInt; 4]> {
        match (self, other) {
            (
                Self::Exact {
                    numerator: a,
                    denominator: b,
                },
                Self::Exact {
                    numerator: c,
                    denominator: d,
                },
            ) => Some([a, b, c, d]),
            _ => None,
        }
    }

    pub(super) fn add(&self, other: &Self) -> Result {
        match self.both_exact(other) {
            Some([a, b, c, d]) => Self::fraction(a * d + c * b, b * d),
            None => Self::real(self.to_f64() + other.to_f64(), "+"),
        }
    }

    pub(super) fn negated(&self) -> Self {
        match self {
            Self::Exact {
                numerator,
                denominator,
            } => Self::Exact {
                numerator: -numerator,
                denominator: denominator.clone(),
            },
            Self::Real(value) => Self::Real(-value),
        }
    }

    pub(super) fn multiply(&self, other: &Self) -> Result {
        match self.both_exact(other) {
            Some([a, b, c, d]) => Self::fraction(a * c, b * d),
            None => Self::real(self.to_f64() * other.to_f64(), "*"),
        }
    }

    pub(super) fn divide(&self, other: &Self) -> Result {
        match self.both_exact(other) {
            Some([a, b, c, d]) => Self::fraction(a * d, b * c),
            None if other.to_f64() == 0.0 => Err(CalculatorError::DivisionByZero),
            None => Self::real(self.to_f64() / other.to_f64(), "/"),
        }
    }

    /// The largest whole number that is not larger.
    pub(super) fn floor(&self) -> Result {
        Ok(match self {
            Self::Exact {
                numerator,
                denominator,
            } => Self::whole(numerator.div_floor(denominator)),
            Self::Real(value) => float_to_whole(value.floor())?,
        })
    }

    /// What is left of a division with a floored quotient; it has the divisor's sign, as in Python.
    pub(super) fn modulo(&self, other: &Self) -> Result {
        let quotient = self.divide(other)?.floor()?;
        self.add(&quotient.multiply(other)?.negated())
    }

    pub(super) fn power(&self, exponent: &Self) -> Result {
        let whole = exponent.to_whole().and_then(|e| e.to_i64());
        if let (
            Self::Exact {
                numerator,
                denominator,
            },
            Some(e),
        ) = (self, whole)
        {
            if e < 0 && numerator.is_zero() {
                return Err(CalculatorError::DivisionByZero);
            }
            let bits = numerator.bits().max(denominator.bits());
            let times = e.unsigned_abs();
            // One and minus one stay short whatever the exponent is.
            if bits > 1 && bits.saturating_mul(times) > MAX_BITS + bits {
                return Err(CalculatorError::TooLarge { limit: MAX_BITS });
            }
            let times = if bits > 1 {
                times
            } else {
                times % 2 + 2 * u64::from(times > 1)
            };
            let times = u32::try_from(times).unwrap_or(u32::MAX);
            let (top, bottom) = (numerator.pow(times), denominator.pow(times));
            return if e < 0 {
                Self::fraction(bottom, top)
            } else {
                Self::fraction(top, bottom)
            };
        }
        if self.to_f64() < 0.0 && whole.is_none() {
            let function = "^".to_owned();
            return Err(CalculatorError::Domain { function });
        }
        Self::real(self.to_f64().powf(exponent.to_f64()), "^")
    }

    pub(super) fn is_less_than(&self, other: &Self) -> bool {
        match self.both_exact(other) {
            Some([a, b, c, d]) => a * d < c * b,
            None => self.to_f64() < other.to_f64(),
        }
    }
}

pub(super) fn float_to_whole(value: f64) -> Result {
    use num_traits::FromPrimitive;
    let whole = BigInt::from_f64(value).ok_or_else(|| CalculatorError::Domain {
        function: "floor".to_owned(),
    })?;
    Ok(Number::whole(whole))
}

/// A quotient of numbers that may each be too large for a float.
fn quotient(numerator: &BigInt, denominator: &BigInt) -> f64 {
    let excess = numerator
        .bits()
        .max(denominator.bits())
        .saturating_sub(1000);
    let (n, d) = (numerator.to_f64(), denominator.to_f64());
    match (n, d) {
        (Some(n), Some(d)) if excess == 0 => n / d,
        _ => {
            // The first 128 bits of each are enough; the rest is a power of two.
            let cut = |value: &BigInt| value.bits().saturating_sub(128);
            let (a, b) = (cut(numerator), cut(denominator));
            let n = (numerator >> a).to_f64().unwrap_or(f64::NAN);
            let d = (denominator >> b).to_f64().unwrap_or(f64::NAN);
            let exponent = i32::try_from(a.abs_diff(b)).unwrap_or(i32::MAX);
            n / d * 2f64.powi(if a >= b { exponent } else { -exponent })
        }
    }
}

impl fmt::Display for Number {
    /// Whole numbers and finite decimals in full, other fractions with about fifteen digits, floats with as many
    /// digits as they need.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Real(value) => write!(f, "{value}"),
            Self::Exact {
                numerator,
                denominator,
            } if denominator.is_one() => write!(f, "{numerator}"),
            Self::Exact {
                numerator,
                denominator,
            } => match decimal(numerator, denominator) {
                Some(text) => f.write_str(&text),
                None => {
                    let about = format!("{:.14e}", self.to_f64());
                    let about: f64 = about.parse().unwrap_or(f64::NAN);
                    write!(f, "{numerator}/{denominator} (about {about})")
                }
            },
        }
    }
}

/// A fraction as a decimal, if it ends after few enough places.
fn decimal(numerator: &BigInt, denominator: &BigInt) -> Option<String> {
    const MOST_PLACES: u32 = 40;
    let ten = BigInt::from(10);
    let places = (1..=MOST_PLACES).find(|places| (ten.pow(*places) % denominator).is_zero())?;
    let scaled = numerator * ten.pow(places) / denominator;
    let digits = format!("{:0>width$}", scaled.abs(), width = places as usize + 1);
    let (whole, rest) = digits.split_at(digits.len() - places as usize);
    let sign = if scaled.is_negative() { "-" } else { "" };
    Some(format!("{sign}{whole}.{rest}"))
}
