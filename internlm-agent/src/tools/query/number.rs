//! Cells as numbers: exact where they are decimals, as most are.

use std::cmp::Ordering;

/// Most digits behind the point of an exact number.
const MAX_SCALE: u32 = 18;

/// A number.
#[derive(Clone, Copy, Debug)]
pub(super) struct Number {
    /// A whole number, and how many of its digits stand behind the point.
    exact: Option<(i128, u32)>,
    approximate: f64,
}

impl Number {
    /// Nothing yet.
    pub(super) const ZERO: Self = Self {
        exact: Some((0, 0)),
        approximate: 0.0,
    };

    /// A cell that is a number.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        // Not `inf` and `nan`, which are names as well.
        let is_number = text.starts_with(|c: char| c.is_ascii_digit() || "+-.".contains(c))
            && text.ends_with(|c: char| c.is_ascii_digit() || c == '.')
            && text.len() <= 64;
        let approximate: f64 = text.parse().ok().filter(|_| is_number)?;
        approximate.is_finite().then(|| Self {
            exact: decimal(text),
            approximate,
        })
    }

    pub(super) fn compare(self, other: Self) -> Ordering {
        let exact = self
            .exact
            .zip(other.exact)
            .and_then(|(a, b)| same_scale(a, b));
        match exact {
            Some((a, b, _)) => a.cmp(&b),
            None => self.approximate.total_cmp(&other.approximate),
        }
    }

    pub(super) fn add(self, other: Self) -> Self {
        let exact = self.exact.zip(other.exact).and_then(|(a, b)| {
            let (a, b, scale) = same_scale(a, b)?;
            Some((a.checked_add(b)?, scale))
        });
        Self {
            exact,
            approximate: self.approximate + other.approximate,
        }
    }

    /// The quotient, as people write it.
    pub(super) fn divided(self, by: u64) -> String {
        if let Some((whole, scale)) = self.exact {
            let by = i128::from(by.max(1));
            if whole % by == 0 {
                return written(whole / by, scale);
            }
        }
        // Exact numbers are rounded once here, and not in each sum.
        let value = match self.exact {
            Some((whole, scale)) => written(whole, scale).parse().unwrap_or(self.approximate),
            None => self.approximate,
        };
        (value / by.max(1) as f64).to_string()
    }
}

impl std::fmt::Display for Number {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.exact {
            Some((whole, scale)) => f.write_str(&written(whole, scale)),
            None => write!(f, "{}", self.approximate),
        }
    }
}

/// `-12.50` as `(-1250, 2)`.
fn decimal(text: &str) -> Option<(i128, u32)> {
    let (sign, digits) = match text.strip_prefix('-') {
        Some(digits) => (-1, digits),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    let (whole, part) = digits.split_once('.').unwrap_or((digits, ""));
    let scale = u32::try_from(part.len())
        .ok()
        .filter(|scale| *scale <= MAX_SCALE)?;
    let digits = format!("{whole}{part}");
    let is_plain = digits.bytes().all(|byte| byte.is_ascii_digit());
    let value: i128 = digits.parse().ok().filter(|_| is_plain)?;
    Some((sign * value, scale))
}

fn same_scale(a: (i128, u32), b: (i128, u32)) -> Option<(i128, i128, u32)> {
    let scale = a.1.max(b.1);
    let scaled = |(value, own): (i128, u32)| value.checked_mul(10_i128.pow(scale - own));
    Some((scaled(a)?, scaled(b)?, scale))
}

fn written(whole: i128, scale: u32) -> String {
    let sign = if whole < 0 { "-" } else { "" };
    let digits = format!(
        "{:0>width$}",
        whole.unsigned_abs(),
        width = scale as usize + 1
    );
    let (front, back) = digits.split_at(digits.len() - scale as usize);
    match back.trim_end_matches('0') {
        "" => format!("{sign}{front}"),
        back => format!("{sign}{front}.{back}"),
    }
}

/// The order of cells: numbers, then texts, then nothing.
pub(super) fn compare(a: &str, b: &str) -> Ordering {
    match (a.is_empty(), b.is_empty()) {
        (false, false) => {}
        (a, b) => return a.cmp(&b),
    }
    match (Number::parse(a), Number::parse(b)) {
        (Some(a), Some(b)) => a.compare(b),
        (Some(_), None) => Ordering::Less,
        (None, Some(_)) => Ordering::Greater,
        (None, None) => a.cmp(b),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_have_an_order() {
        let mut cells = [
            "", "b", "10", "9", "-1.5", "a", "1e3", "", "9.0", "nan", "inf",
        ];
        cells.sort_by(|a, b| compare(a, b));
        assert_eq!(
            cells,
            [
                "-1.5", "9", "9.0", "10", "1e3", "a", "b", "inf", "nan", "", ""
            ]
        );
        // Apart by less than a float can tell.
        assert_eq!(
            compare("9007199254740993", "9007199254740992"),
            Ordering::Greater
        );
        assert_eq!(compare("0.10", ".1"), Ordering::Equal);
    }

    #[test]
    fn sums_are_exact_where_they_can_be() {
        let sum = |cells: &[&str]| {
            let numbers = cells.iter().map(|cell| Number::parse(cell).unwrap());
            numbers.fold(Number::ZERO, Number::add)
        };
        assert_eq!(sum(&["0.1", "0.2"]).to_string(), "0.3");
        assert_eq!(sum(&["-1.25", "1"]).to_string(), "-0.25");
        assert_eq!(sum(&["1e2", "0.5"]).to_string(), "100.5");
        assert_eq!(sum(&["0.1", "0.2"]).divided(3), "0.1");
        assert_eq!(sum(&["1", "1"]).divided(4), "0.5");
        assert_eq!(sum(&[]).divided(0), "0");
        let large = "99999999999999999999999999999999999999";
        assert_eq!(
            sum(&[large, large]).to_string(),
            "200000000000000000000000000000000000000"
        );
        for text in [
            "", "-", ".", "1.2.3", "1,000", "0x10", "1_0", "e5", "--1", "1e999",
        ] {
            assert!(Number::parse(text).is_none(), "{text}");
        }
    }
}
