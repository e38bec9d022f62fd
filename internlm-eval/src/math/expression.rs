//! Whether two expressions have the same value.
//!
//! What is rational is compared exactly. Everything else is evaluated in complex floating point, with variables at
//! several points, and must agree to nine digits at all of them; two different expressions that do would have to be made
//! for it. Numbers written with a decimal point may be off in the seventh digit after it, as math-verify allows.

use std::collections::BTreeSet;

use super::answer::{Answer, Expr, Function};
use super::complex::Complex;
use super::extraction::{self, Anchors};
use super::parse::parse;
use super::rational::Rational;
use super::{boxed, relation};

/// Points at which expressions with variables are compared, and how many must be defined on both sides.
const POINTS: u32 = 12;
const MIN_POINTS: usize = 3;
const TOLERANCE: f64 = 1e-9;
/// Half a unit of the sixth digit after the decimal point.
const DECIMAL_TOLERANCE: f64 = 5e-7;

/// Whether the answer in a model's text is the right one. From both sides the answer is taken: what is boxed, else the
/// last formula between dollar signs, else what follows `answer is`, else the text.
///
/// Answers may be numbers, expressions, equations (`x = 3` is 3), inequalities, tuples, intervals and their unions, sets
/// (in any order), matrices, and words. Units, degrees and currency don't count; a percentage is the number or its
/// hundredth.
pub fn verify(prediction: &str, gold: &str) -> bool {
    same(answer_of(prediction), answer_of(gold))
}

/// The same by math-verify's rule of which part of a text is its answer ([`extraction`]), as the harnesses ask it. A gold
/// in which the rule finds nothing is an answer as it stands.
pub fn verify_extracted(prediction: &str, gold: &str, anchors: Anchors) -> bool {
    let found = extraction::answer(gold, Anchors::Optional);
    let gold = found.as_deref().unwrap_or(gold);
    extraction::answer(prediction, anchors).is_some_and(|prediction| same(&prediction, gold))
}

fn same(prediction: &str, gold: &str) -> bool {
    let plain = |text: &str| text.split_whitespace().collect::<String>().to_lowercase();
    if !gold.trim().is_empty() && plain(prediction) == plain(gold) {
        return true;
    }
    match parse(prediction).zip(parse(gold)) {
        Some((prediction, gold)) => relation::same(&prediction, &gold),
        None => false,
    }
}

/// Whether two texts are single expressions of the same value; not for tuples, sets and the like.
pub fn equal_scalars(a: &str, b: &str) -> bool {
    match parse(a).zip(parse(b)) {
        Some((Answer::Scalar(a), Answer::Scalar(b))) => scalars_equal(&a, &b),
        _ => false,
    }
}

/// The part of a text that is its answer.
fn answer_of(text: &str) -> &str {
    if let Some(answer) = boxed::last_boxed(text).and_then(boxed::unwrapped) {
        return answer;
    }
    if let Some((rest, _)) = text.rsplit_once('$')
        && let Some((_, formula)) = rest.trim_end_matches('$').rsplit_once('$')
    {
        // An escaped dollar sign is money.
        if !formula.is_empty() && !rest.ends_with('\\') {
            return formula;
        }
    }
    match text.rfind("answer is") {
        Some(at) => text[at + "answer is".len()..]
            .trim_start_matches(':')
            .trim(),
        None => text,
    }
}

/// Whether two expressions have the same value; a percentage may stand for the number before the sign.
pub(super) fn scalars_equal(a: &Expr, b: &Expr) -> bool {
    if values_equal(a, b) {
        return true;
    }
    match (a, b) {
        (Expr::Percent(a), Expr::Percent(b)) => values_equal(a, b),
        (Expr::Percent(inside), other) | (other, Expr::Percent(inside)) => {
            values_equal(inside, other)
        }
        _ => false,
    }
}

fn values_equal(a: &Expr, b: &Expr) -> bool {
    if let (Expr::Number(a_digits, a_exact, _), Expr::Number(b_digits, b_exact, _)) = (a, b)
        && (a_exact.is_none() || b_exact.is_none())
    {
        return significant(a_digits) == significant(b_digits);
    }
    let decimal = has_decimal(a) || has_decimal(b);
    if let Some((x, y)) = exact(a).zip(exact(b)) {
        return x == y || decimal && (x.value() - y.value()).abs() < DECIMAL_TOLERANCE;
    }
    if a == b {
        return true;
    }
    let mut names = BTreeSet::new();
    variables(a, &mut names);
    variables(b, &mut names);
    let points = if names.is_empty() { 1 } else { POINTS };
    let mut defined = 0;
    for point in 0..points {
        let (x, y) = (value(a, point), value(b, point));
        if x.is_finite() && y.is_finite() {
            defined += 1;
            let scale = x.abs().max(y.abs()).max(1.0);
            let distance = x.minus(y).abs();
            let near = distance <= TOLERANCE * scale || decimal && distance < DECIMAL_TOLERANCE;
            if !near {
                return false;
            }
        } else if names.is_empty() {
            return infinite_sign(x).is_some() && infinite_sign(x) == infinite_sign(y);
        }
    }
    defined >= MIN_POINTS.min(usize::try_from(points).unwrap_or(MIN_POINTS))
}

fn significant(digits: &str) -> &str {
    let digits = digits.trim_start_matches('0');
    if digits.contains('.') {
        digits.trim_end_matches('0').trim_end_matches('.')
    } else {
        digits
    }
}

fn infinite_sign(x: Complex) -> Option<bool> {
    (x.re.is_infinite() && !x.im.is_nan()).then_some(x.re > 0.0)
}

/// The parts of an expression.
fn parts(expr: &Expr) -> [Option<&Expr>; 2] {
    match expr {
        Expr::Negated(a) | Expr::Call(_, a) | Expr::Percent(a) => [Some(a), None],
        Expr::Sum(a, b)
        | Expr::PlusMinus(a, b)
        | Expr::Product(a, b)
        | Expr::Quotient(a, b)
        | Expr::Power(a, b)
        | Expr::Logarithm(a, b)
        | Expr::Binomial(a, b) => [Some(a), Some(b)],
        _ => [None, None],
    }
}

fn has_decimal(expr: &Expr) -> bool {
    matches!(expr, Expr::Number(_, _, true)) || parts(expr).into_iter().flatten().any(has_decimal)
}

/// The names of an expression's variables.
pub(super) fn variables(expr: &Expr, names: &mut BTreeSet<String>) {
    if let Expr::Variable(name) = expr {
        names.insert(name.clone());
    }
    for part in parts(expr).into_iter().flatten() {
        variables(part, names);
    }
}

/// The value as a fraction, where it is one and fits.
fn exact(expr: &Expr) -> Option<Rational> {
    match expr {
        Expr::Number(_, value, _) => *value,
        Expr::Negated(a) => exact(a)?.negated(),
        Expr::Sum(a, b) => exact(a)?.plus(exact(b)?),
        Expr::Product(a, b) => exact(a)?.times(exact(b)?),
        Expr::Quotient(a, b) => exact(a)?.over(exact(b)?),
        Expr::Power(a, b) => exact(a)?.pow(exact(b)?),
        Expr::Percent(a) => exact(a)?.over(Rational::integer(100)),
        _ => None,
    }
}

/// The value with variables at a point that their names and the point's number decide.
pub(super) fn value(expr: &Expr, point: u32) -> Complex {
    let of = |expr: &Expr| value(expr, point);
    match expr {
        Expr::Number(digits, exact, _) => {
            let value = exact.map(Rational::value).or_else(|| digits.parse().ok());
            Complex::real(value.unwrap_or(f64::NAN))
        }
        Expr::Pi => Complex::real(std::f64::consts::PI),
        Expr::Euler => Complex::real(std::f64::consts::E),
        Expr::Imaginary => Complex::I,
        Expr::Infinity => Complex::real(f64::INFINITY),
        Expr::Variable(name) => Complex::real(sample(name, point)),
        Expr::Negated(a) => {
            let a = of(a);
            Complex {
                re: -a.re,
                im: if a.im == 0.0 { 0.0 } else { -a.im },
            }
        }
        Expr::Sum(a, b) | Expr::PlusMinus(a, b) => of(a).plus(of(b)),
        Expr::Product(a, b) => of(a).times(of(b)),
        Expr::Quotient(a, b) => of(a).over(of(b)),
        Expr::Power(a, b) => match odd_root(b) {
            // An odd root of a negative number is taken to be real.
            Some(degree) if of(a).im == 0.0 && of(a).re < 0.0 => {
                Complex::real(-(-of(a).re).powf(1.0 / degree))
            }
            _ => of(a).pow(of(b)),
        },
        Expr::Logarithm(base, a) => of(a).ln().over(of(base).ln()),
        Expr::Binomial(n, k) => binomial(of(n), of(k)),
        Expr::Percent(a) => of(a).over(Complex::real(100.0)),
        Expr::Call(function, a) => call(*function, of(a)),
    }
}

/// The degree of an exponent `1/3`, `1/5`, ...
fn odd_root(exponent: &Expr) -> Option<f64> {
    let Expr::Quotient(one, degree) = exponent else {
        return None;
    };
    let degree = exact(degree)?.as_integer()?;
    let is_root = exact(one)? == Rational::integer(1) && degree > 0 && degree % 2 == 1;
    is_root.then(|| Rational::integer(degree).value())
}

fn call(function: Function, x: Complex) -> Complex {
    let one = Complex::real(1.0);
    match function {
        Function::Sin => x.sin(),
        Function::Cos => x.cos(),
        Function::Tan => x.sin().over(x.cos()),
        Function::Cot => x.cos().over(x.sin()),
        Function::Sec => one.over(x.cos()),
        Function::Csc => one.over(x.sin()),
        Function::Arcsin => x.map_real(f64::asin),
        Function::Arccos => x.map_real(f64::acos),
        Function::Arctan => x.map_real(f64::atan),
        Function::Ln => x.ln(),
        Function::Exp => x.exp(),
        Function::Sqrt => x.pow(Complex::real(0.5)),
        Function::Abs => Complex::real(x.abs()),
        Function::Floor => x.map_real(f64::floor),
        Function::Ceil => x.map_real(f64::ceil),
        Function::Factorial => x.map_real(factorial),
    }
}

/// Up to what a float holds; for integers only.
fn factorial(n: f64) -> f64 {
    if n < 0.0 || n.fract() != 0.0 || n > 170.0 {
        return f64::NAN;
    }
    (1..=170_u32)
        .map(f64::from)
        .take_while(|&i| i <= n)
        .product()
}

fn binomial(n: Complex, k: Complex) -> Complex {
    if n.im != 0.0 || k.im != 0.0 || k.re.fract() != 0.0 || !(0.0..=1000.0).contains(&k.re) {
        return Complex::real(f64::NAN);
    }
    let factors = (0..1000_u32).map(f64::from).take_while(|&i| i < k.re);
    Complex::real(factors.map(|i| (n.re - i) / (i + 1.0)).product())
}

/// A value between 0.25 and 2.25 for a variable (FNV-1a of its name and the point's number).
fn sample(name: &str, point: u32) -> f64 {
    let bytes = name.bytes().chain(point.to_le_bytes());
    let hash = bytes.fold(0x811c_9dc5_u32, |hash, byte| {
        (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
    });
    // The low bits of a short text hardly differ.
    let mixed = (hash ^ (hash >> 15)).wrapping_mul(0x2c1b_3c6d);
    0.25 + 2.0 * f64::from(mixed ^ (mixed >> 12)) / f64::from(u32::MAX)
}
