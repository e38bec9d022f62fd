//! Fractions, exact as long as they fit in 128 bits.

/// A fraction in lowest terms with a positive denominator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rational {
    numerator: i128,
    denominator: i128,
}

impl Rational {
    pub(super) fn new(numerator: i128, denominator: i128) -> Option<Self> {
        if denominator == 0 {
            return None;
        }
        let common =
            i128::try_from(gcd(numerator.unsigned_abs(), denominator.unsigned_abs())).ok()?;
        let sign = denominator.signum();
        Some(Self {
            numerator: (numerator / common).checked_mul(sign)?,
            denominator: (denominator / common).checked_mul(sign)?,
        })
    }

    pub(super) fn integer(n: i128) -> Self {
        Self {
            numerator: n,
            denominator: 1,
        }
    }

    /// Reads `12`, `12.5` or `.5`.
    pub(super) fn decimal(text: &str) -> Option<Self> {
        let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
        let digits = format!("{whole}{fraction}");
        let scale = 10_i128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
        Self::new(digits.parse().ok()?, scale)
    }

    pub(super) fn plus(self, other: Self) -> Option<Self> {
        let left = self.numerator.checked_mul(other.denominator)?;
        let right = other.numerator.checked_mul(self.denominator)?;
        Self::new(
            left.checked_add(right)?,
            self.denominator.checked_mul(other.denominator)?,
        )
    }

    pub(super) fn negated(self) -> Option<Self> {
        Some(Self {
            numerator: self.numerator.checked_neg()?,
            ..self
        })
    }

    pub(super) fn times(self, other: Self) -> Option<Self> {
        Self::new(
            self.numerator.checked_mul(other.numerator)?,
            self.denominator.checked_mul(other.denominator)?,
        )
    }

    pub(super) fn over(self, other: Self) -> Option<Self> {
        self.times(Self::new(other.denominator, other.numerator)?)
    }

    /// An integer power.
    pub(super) fn pow(self, exponent: Self) -> Option<Self> {
        let n = exponent.as_integer()?;
        let size = u32::try_from(n.unsigned_abs()).ok()?;
        let power = Self::new(
            self.numerator.checked_pow(size)?,
            self.denominator.checked_pow(size)?,
        )?;
        if n < 0 {
            Self::integer(1).over(power)
        } else {
            Some(power)
        }
    }

    pub(super) fn as_integer(self) -> Option<i128> {
        (self.denominator == 1).then_some(self.numerator)
    }

    #[allow(clippy::cast_precision_loss, reason = "an approximation is asked for")]
    pub(super) fn value(self) -> f64 {
        self.numerator as f64 / self.denominator as f64
    }
}

fn gcd(a: u128, b: u128) -> u128 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fractions() {
        assert_eq!(Rational::decimal("0.50"), Rational::new(1, 2));
        assert_eq!(Rational::decimal(".5"), Rational::new(-2, -4));
        assert_eq!(Rational::decimal("x"), None);
        assert_eq!(Rational::new(1, 0), None);
        let half = Rational::new(1, 2).unwrap();
        assert_eq!(half.pow(Rational::integer(-3)), Some(Rational::integer(8)));
        assert_eq!(half.plus(half).unwrap().as_integer(), Some(1));
        assert_eq!(Rational::integer(10).pow(Rational::integer(99)), None);
    }
}
