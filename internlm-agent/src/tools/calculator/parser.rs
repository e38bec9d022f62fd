//! From characters to a value.

use num_bigint::BigInt;

use super::CalculatorError;
use super::functions::{call, constant, factorial, is_function};
use super::number::Number;

type Result<T = Number> = std::result::Result<T, CalculatorError>;

pub(super) const MAX_DEPTH: usize = 64;

/// Words and signs that stand for others. Longer ones come first.
const SPELLINGS: [(&str, &str); 27] = [
    ("的平方", "^2"),
    ("的立方", "^3"),
    ("乘以", "*"),
    ("除以", "/"),
    ("加上", "+"),
    ("减去", "-"),
    ("等于", "="),
    ("加", "+"),
    ("减", "-"),
    ("乘", "*"),
    ("×", "*"),
    ("·", "*"),
    ("⋅", "*"),
    ("∗", "*"),
    ("÷", "/"),
    ("−", "-"),
    ("–", "-"),
    ("。", "."),
    ("，", ","),
    ("、", ","),
    ("【", "("),
    ("】", ")"),
    ("²", "^2"),
    ("³", "^3"),
    ("[", "("),
    ("]", ")"),
    ("？", ""),
];

pub(super) fn evaluate(expression: &str) -> Result {
    let mut text = expression.to_owned();
    for (from, to) in SPELLINGS {
        text = text.replace(from, to);
    }
    // Full-width forms are the ASCII characters, moved.
    let plain = text.chars().map(|c| match c {
        '！'..='～' => char::from_u32(u32::from(c) - 0xfee0).unwrap_or(c),
        '\u{3000}' => ' ',
        c => c,
    });
    let chars: Vec<char> = plain.collect();
    let mut reader = Reader {
        chars,
        at: 0,
        depth: 0,
        in_arguments: 0,
    };
    let value = reader.sum()?;
    _ = reader.eat('=');
    _ = reader.eat('?');
    match reader.peek() {
        None => Ok(value),
        Some(_) => reader.fail("an operator"),
    }
}

struct Reader {
    chars: Vec<char>,
    at: usize,
    depth: usize,
    /// Open brackets of functions, inside of which a comma parts arguments.
    in_arguments: usize,
}

impl Reader {
    fn peek(&mut self) -> Option<char> {
        while self.chars.get(self.at).is_some_and(|c| c.is_whitespace()) {
            self.at += 1;
        }
        self.chars.get(self.at).copied()
    }

    fn eat(&mut self, c: char) -> bool {
        let found = self.peek() == Some(c);
        if found {
            self.at += 1;
        }
        found
    }

    fn fail<T>(&mut self, expected: &'static str) -> Result<T> {
        let found = self
            .peek()
            .map_or_else(|| "the end".to_owned(), |c| format!("`{c}`"));
        Err(CalculatorError::Syntax {
            at: self.at + 1,
            expected,
            found,
        })
    }

    fn deeper<T>(&mut self, read: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        if self.depth >= MAX_DEPTH {
            return Err(CalculatorError::TooDeep { limit: MAX_DEPTH });
        }
        self.depth += 1;
        let value = read(self);
        self.depth -= 1;
        value
    }

    fn sum(&mut self) -> Result {
        let mut value = self.product()?;
        loop {
            if self.eat('+') {
                value = value.add(&self.product()?)?;
            } else if self.eat('-') {
                value = value.add(&self.product()?.negated())?;
            } else {
                return Ok(value);
            }
        }
    }

    fn product(&mut self) -> Result {
        let mut value = self.signed()?;
        loop {
            let next = self.peek();
            if next == Some('*') {
                self.at += 1;
                value = value.multiply(&self.signed()?)?;
            } else if next == Some('/') {
                self.at += 1;
                let floored = self.eat('/');
                value = value.divide(&self.signed()?)?;
                if floored {
                    value = value.floor()?;
                }
            } else if next == Some('%') {
                // A percent sign was taken with its number; this one has an operand after it.
                self.at += 1;
                value = value.modulo(&self.signed()?)?;
            } else if self.word_is("mod") {
                self.at += 3;
                value = value.modulo(&self.signed()?)?;
            } else if next.is_some_and(|c| c == '(' || c == '√' || c.is_alphabetic()) {
                value = value.multiply(&self.power()?)?;
            } else {
                return Ok(value);
            }
        }
    }

    fn signed(&mut self) -> Result {
        if self.eat('-') {
            return Ok(self.deeper(Self::signed)?.negated());
        }
        if self.eat('+') {
            return self.deeper(Self::signed);
        }
        self.power()
    }

    fn power(&mut self) -> Result {
        let base = self.postfix()?;
        let stars = self.peek() == Some('*') && self.chars.get(self.at + 1) == Some(&'*');
        if stars {
            self.at += 2;
        } else if !self.eat('^') {
            return Ok(base);
        }
        // From the right: 2^3^2 is 2^9.
        let exponent = self.deeper(Self::signed)?;
        base.power(&exponent)
    }

    fn postfix(&mut self) -> Result {
        let mut value = self.atom()?;
        loop {
            if self.peek() == Some('!') && self.chars.get(self.at + 1) != Some(&'=') {
                self.at += 1;
                value = factorial(&value)?;
            } else if self.peek() == Some('%') && !self.operand_follows() {
                self.at += 1;
                value = value.divide(&Number::whole(100))?;
            } else {
                return Ok(value);
            }
        }
    }

    /// Whether a percent sign is a remainder: something to divide by comes after it.
    fn operand_follows(&self) -> bool {
        let mut after = self.chars[self.at + 1..]
            .iter()
            .filter(|c| !c.is_whitespace());
        let next = after.next();
        next.is_some_and(|c| c.is_ascii_digit() || *c == '(' || *c == '.' || c.is_alphabetic())
    }

    fn atom(&mut self) -> Result {
        match self.peek() {
            Some('(') => {
                self.at += 1;
                let outside = std::mem::take(&mut self.in_arguments);
                let value = self.deeper(Self::sum)?;
                self.in_arguments = outside;
                match self.eat(')') {
                    true => Ok(value),
                    false => self.fail("`)`"),
                }
            }
            Some('√') => {
                self.at += 1;
                let value = self.deeper(Self::postfix)?;
                call("sqrt", &[value])
            }
            Some(c) if c.is_ascii_digit() || c == '.' => self.number(),
            Some(c) if c.is_alphabetic() => self.name(),
            _ => self.fail("a number"),
        }
    }

    fn word_is(&mut self, word: &str) -> bool {
        _ = self.peek();
        let rest = &self.chars[self.at..];
        let same = rest
            .iter()
            .zip(word.chars())
            .take_while(|(a, b)| a.eq_ignore_ascii_case(b))
            .count();
        let next = rest.get(word.len());
        same == word.len() && next.is_none_or(|c| !c.is_alphabetic() && *c != '(')
    }

    fn name(&mut self) -> Result {
        let rest = &self.chars[self.at..];
        let length = rest
            .iter()
            .take_while(|c| c.is_alphanumeric() || **c == '_')
            .count();
        let name: String = rest[..length].iter().collect::<String>().to_lowercase();
        let length = name.chars().count();
        if is_function(&name) {
            self.at += length;
            if !self.eat('(') {
                return self.fail("`(` after a function");
            }
            let arguments = self.arguments()?;
            return call(&name, &arguments);
        }
        match constant(&name) {
            Some(value) => {
                self.at += length;
                Ok(value)
            }
            None => Err(CalculatorError::UnknownName { name }),
        }
    }

    fn arguments(&mut self) -> Result<Vec<Number>> {
        let mut arguments = Vec::new();
        if self.eat(')') {
            return Ok(arguments);
        }
        let outside = std::mem::replace(&mut self.in_arguments, 1);
        loop {
            arguments.push(self.deeper(Self::sum)?);
            if self.eat(')') {
                self.in_arguments = outside;
                return Ok(arguments);
            }
            if !self.eat(',') {
                return self.fail("`,` or `)`");
            }
        }
    }

    fn digits(&mut self, out: &mut String) {
        while let Some(c) = self.chars.get(self.at) {
            match c {
                c if c.is_ascii_digit() => out.push(*c),
                '_' => {}
                // Thousands: a comma between digits, with exactly three after it.
                ',' if self.in_arguments == 0 && !out.is_empty() && self.three_digits_follow() => {}
                _ => return,
            }
            self.at += 1;
        }
    }

    fn three_digits_follow(&self) -> bool {
        let after = self.chars[self.at + 1..].iter();
        after.take_while(|c| c.is_ascii_digit()).count() == 3
    }

    fn number(&mut self) -> Result {
        let mut digits = String::new();
        self.digits(&mut digits);
        let whole = digits.len();
        let mut places = 0;
        if self.chars.get(self.at) == Some(&'.') {
            self.at += 1;
            let mut rest = String::new();
            let outside = std::mem::replace(&mut self.in_arguments, 1);
            self.digits(&mut rest);
            self.in_arguments = outside;
            places = rest.len();
            digits.push_str(&rest);
        }
        if whole == 0 && places == 0 {
            return self.fail("a digit");
        }
        let exponent = self.exponent();
        let Ok(value) = digits.parse::<BigInt>() else {
            return self.fail("a number");
        };
        let ten = Number::whole(10);
        let places = i64::try_from(places).unwrap_or(i64::MAX);
        let power = ten.power(&Number::whole(exponent.saturating_sub(places)))?;
        Number::fraction(value, BigInt::from(1))?.multiply(&power)
    }

    /// What follows an `e` after digits, if it is a number.
    fn exponent(&mut self) -> i64 {
        let rest = &self.chars[self.at..];
        if !matches!(rest.first(), Some('e' | 'E')) {
            return 0;
        }
        let sign = usize::from(matches!(rest.get(1), Some('+' | '-')));
        let count = rest[1 + sign..]
            .iter()
            .take_while(|c| c.is_ascii_digit())
            .count();
        let text: String = rest[1..1 + sign + count].iter().collect();
        match text.parse() {
            Ok(exponent) if count > 0 => {
                self.at += 1 + sign + count;
                exponent
            }
            _ => 0,
        }
    }
}
