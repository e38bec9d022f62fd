//! Complex numbers, as far as answers need them.

/// A complex number.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Complex {
    pub(super) re: f64,
    pub(super) im: f64,
}

impl Complex {
    pub(super) const I: Self = Self { re: 0.0, im: 1.0 };

    pub(super) fn real(re: f64) -> Self {
        Self { re, im: 0.0 }
    }

    pub(super) fn plus(self, other: Self) -> Self {
        Self {
            re: self.re + other.re,
            im: self.im + other.im,
        }
    }

    pub(super) fn minus(self, other: Self) -> Self {
        self.plus(other.times(Self::real(-1.0)))
    }

    pub(super) fn times(self, other: Self) -> Self {
        Self {
            re: self.re * other.re - self.im * other.im,
            im: self.re * other.im + self.im * other.re,
        }
    }

    pub(super) fn over(self, other: Self) -> Self {
        let norm = other.re * other.re + other.im * other.im;
        let conjugate = Self {
            re: other.re / norm,
            im: -other.im / norm,
        };
        self.times(conjugate)
    }

    pub(super) fn abs(self) -> f64 {
        self.re.hypot(self.im)
    }

    pub(super) fn is_finite(self) -> bool {
        self.re.is_finite() && self.im.is_finite()
    }

    pub(super) fn exp(self) -> Self {
        let size = self.re.exp();
        Self {
            re: size * self.im.cos(),
            im: size * self.im.sin(),
        }
    }

    pub(super) fn ln(self) -> Self {
        Self {
            re: self.abs().ln(),
            im: self.im.atan2(self.re),
        }
    }

    /// The principal power; exact for small integer exponents, and real where a real root exists for both.
    pub(super) fn pow(self, exponent: Self) -> Self {
        if exponent.im == 0.0 {
            let n = exponent.re;
            if self.im == 0.0 && (self.re >= 0.0 || n.fract() == 0.0) {
                return Self::real(self.re.powf(n));
            }
            if n.fract() == 0.0 && n.abs() <= 64.0 {
                let power = (0..64).take_while(|&i| f64::from(i) < n.abs());
                let power = power.fold(Self::real(1.0), |product, _| product.times(self));
                return if n < 0.0 {
                    Self::real(1.0).over(power)
                } else {
                    power
                };
            }
        }
        if self.abs() == 0.0 {
            return Self::real(if exponent.re > 0.0 { 0.0 } else { f64::NAN });
        }
        self.ln().times(exponent).exp()
    }

    pub(super) fn sin(self) -> Self {
        Self {
            re: self.re.sin() * self.im.cosh(),
            im: self.re.cos() * self.im.sinh(),
        }
    }

    pub(super) fn cos(self) -> Self {
        Self {
            re: self.re.cos() * self.im.cosh(),
            im: -self.re.sin() * self.im.sinh(),
        }
    }

    /// A function of real numbers; not a number elsewhere.
    pub(super) fn map_real(self, function: impl Fn(f64) -> f64) -> Self {
        if self.im == 0.0 {
            Self::real(function(self.re))
        } else {
            Self::real(f64::NAN)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn powers() {
        let near = |a: Complex, b: Complex| a.minus(b).abs() < 1e-12;
        assert!(near(
            Complex::I.pow(Complex::real(2.0)),
            Complex::real(-1.0)
        ));
        assert!(near(
            Complex::real(-8.0).pow(Complex::real(-1.0)),
            Complex::real(-0.125)
        ));
        assert!(near(
            Complex::real(-4.0).pow(Complex::real(0.5)),
            Complex { re: 0.0, im: 2.0 }
        ));
        let euler = Complex {
            re: 0.0,
            im: std::f64::consts::PI,
        }
        .exp();
        assert!(near(euler, Complex::real(-1.0)));
        assert!(!Complex::real(0.0).pow(Complex::real(-1.0)).is_finite());
    }
}
