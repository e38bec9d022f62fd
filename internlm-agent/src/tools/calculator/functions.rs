//! The functions and constants.

use num_bigint::BigInt;
use num_integer::Integer;
use num_traits::{One, Signed, ToPrimitive};

use super::CalculatorError;
use super::number::{MAX_BITS, Number};

type Result<T = Number> = std::result::Result<T, CalculatorError>;

/// A constant, by its name in lower case.
pub(super) fn constant(name: &str) -> Option<Number> {
    Some(Number::Real(match name {
        "pi" | "π" => std::f64::consts::PI,
        "e" => std::f64::consts::E,
        "tau" | "τ" => std::f64::consts::TAU,
        _ => return None,
    }))
}

/// Whether there is a function of this name.
pub(super) fn is_function(name: &str) -> bool {
    super::FUNCTIONS.split(", ").any(|known| known == name)
}

/// The value of a function.
pub(super) fn call(name: &str, arguments: &[Number]) -> Result {
    let takes = |takes: &'static str| CalculatorError::Arguments {
        function: name.to_owned(),
        takes,
        given: arguments.len(),
    };
    match (name, arguments) {
        ("min" | "max", []) | ("gcd" | "lcm", []) => Err(takes("one number or more")),
        ("min", [first, rest @ ..]) => Ok(rest
            .iter()
            .fold(first, |a, b| if b.is_less_than(a) { b } else { a })
            .clone()),
        ("max", [first, rest @ ..]) => Ok(rest
            .iter()
            .fold(first, |a, b| if a.is_less_than(b) { b } else { a })
            .clone()),
        ("gcd" | "lcm", numbers) => {
            let mut result = BigInt::from(if name == "gcd" { 0 } else { 1 });
            for number in numbers {
                let number = whole(name, number)?;
                result = if name == "gcd" {
                    result.gcd(&number)
                } else {
                    result.lcm(&number)
                };
            }
            Number::fraction(result, BigInt::one())
        }
        ("pow", [base, exponent]) => base.power(exponent),
        ("mod", [a, b]) => a.modulo(b),
        ("pow" | "mod", _) => Err(takes("two numbers")),
        ("log", [x, base]) => {
            let (x, base) = (logarithm(name, x)?, logarithm(name, base)?);
            Number::real(x / base, name)
        }
        ("round", [x, places]) => round(x, places.to_whole().and_then(|p| p.to_i64())),
        ("log", [x]) => Number::real(logarithm(name, x)?, name),
        ("round", [x]) => round(x, Some(0)),
        ("log" | "round", _) => Err(takes("one or two numbers")),
        (_, [x]) => one(name, x),
        _ => Err(takes("one number")),
    }
}

fn one(name: &str, x: &Number) -> Result {
    let domain = || CalculatorError::Domain {
        function: name.to_owned(),
    };
    match name {
        "abs" => Ok(if x.is_less_than(&Number::whole(0)) {
            x.negated()
        } else {
            x.clone()
        }),
        "floor" => x.floor(),
        "ceil" => Ok(x.negated().floor()?.negated()),
        "factorial" => factorial(x),
        "sqrt" => square_root(x).map_or_else(|| Number::real(x.to_f64().sqrt(), name), Ok),
        "ln" => Number::real(logarithm(name, x)?, name),
        "log10" | "log2" => {
            let value = x.to_f64();
            if value <= 0.0 {
                return Err(domain());
            }
            Number::real(
                if name == "log2" {
                    value.log2()
                } else {
                    value.log10()
                },
                name,
            )
        }
        _ => {
            let value = x.to_f64();
            let value = match name {
                "exp" => value.exp(),
                "sin" => value.sin(),
                "cos" => value.cos(),
                "tan" => value.tan(),
                "asin" => value.asin(),
                "acos" => value.acos(),
                "atan" => value.atan(),
                _ => return Err(domain()),
            };
            Number::real(value, name)
        }
    }
}

fn whole(name: &str, number: &Number) -> Result<BigInt> {
    number.to_whole().ok_or_else(|| CalculatorError::Domain {
        function: name.to_owned(),
    })
}

fn logarithm(name: &str, x: &Number) -> Result<f64> {
    let value = x.to_f64();
    if value > 0.0 {
        return Ok(value.ln());
    }
    Err(CalculatorError::Domain {
        function: name.to_owned(),
    })
}

/// The root of a fraction of squares.
fn square_root(x: &Number) -> Option<Number> {
    let Number::Exact {
        numerator,
        denominator,
    } = x
    else {
        return None;
    };
    if numerator.is_negative() {
        return None;
    }
    let (top, bottom) = (numerator.sqrt(), denominator.sqrt());
    let exact = &top * &top == *numerator && &bottom * &bottom == *denominator;
    exact.then(|| Number::fraction(top, bottom).ok()).flatten()
}

pub(super) fn factorial(x: &Number) -> Result {
    // The factorial of the next number has more than `MAX_BITS` bits.
    const MOST: u64 = 20_366;
    let n = whole("factorial", x)?;
    if n.is_negative() {
        let function = "factorial".to_owned();
        return Err(CalculatorError::Domain { function });
    }
    match n.to_u64() {
        Some(n) if n <= MOST => Ok(Number::whole((1..=n).fold(BigInt::one(), |a, b| a * b))),
        _ => Err(CalculatorError::TooLarge { limit: MAX_BITS }),
    }
}

/// Rounds to places after the point; a half goes away from zero, as people round.
fn round(x: &Number, places: Option<i64>) -> Result {
    let places = places.filter(|places| (-1000..=1000).contains(places));
    let places = places.ok_or_else(|| CalculatorError::Domain {
        function: "round".to_owned(),
    })?;
    let scale = Number::whole(10).power(&Number::whole(places))?;
    let scaled = x.multiply(&scale)?;
    let half = Number::fraction(BigInt::one(), BigInt::from(2))?;
    let rounded = if scaled.is_less_than(&Number::whole(0)) {
        scaled.negated().add(&half)?.floor()?.negated()
    } else {
        scaled.add(&half)?.floor()?
    };
    rounded.divide(&scale)
}
