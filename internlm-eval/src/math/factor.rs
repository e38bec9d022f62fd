//! From tokens to expressions: sums, products, powers, functions.

use super::answer::{Expr, Function};
use super::parse::Parser;
use super::rational::Rational;
use super::token::Token;

fn boxed(expr: Expr) -> Box<Expr> {
    Box::new(expr)
}

impl Parser {
    pub(super) fn sum(&mut self) -> Option<Expr> {
        let mut sum = self.product()?;
        loop {
            if self.eat('+') {
                sum = Expr::Sum(boxed(sum), boxed(self.product()?));
            } else if self.eat('-') {
                sum = Expr::Sum(boxed(sum), boxed(Expr::Negated(boxed(self.product()?))));
            } else if self.eat('±') {
                sum = Expr::PlusMinus(boxed(sum), boxed(self.product()?));
            } else {
                return Some(sum);
            }
        }
    }

    /// Factors with or without signs between them; units after them are skipped.
    fn product(&mut self) -> Option<Expr> {
        let mut product = self.signed()?;
        loop {
            if self.is('/') && matches!(self.tokens.get(self.at + 1), Some(Token::Text(_))) {
                self.at += 1;
                self.skip_units()?;
            } else if matches!(self.peek(), Some(Token::Text(_))) {
                self.skip_units()?;
            } else if self.eat('*') {
                product = Expr::Product(boxed(product), boxed(self.signed()?));
            } else if self.eat('/') {
                product = Expr::Quotient(boxed(product), boxed(self.signed()?));
            } else if self.begins_factor() {
                product = Expr::Product(boxed(product), boxed(self.power()?));
            } else {
                return Some(product);
            }
        }
    }

    /// A unit with an exponent, and what it is per.
    fn skip_units(&mut self) -> Option<()> {
        self.at += 1;
        if self.eat('^') {
            self.argument(false)?;
        }
        if self.is('/')
            && matches!(
                self.tokens.get(self.at + 1),
                Some(Token::Letter(_) | Token::Text(_))
            )
        {
            self.at += 1;
            return self.deeper(Self::skip_units);
        }
        Some(())
    }

    /// Whether a factor follows without a sign; a number must not follow a number.
    fn begins_factor(&self) -> bool {
        match self.peek() {
            Some(Token::Letter(_)) => true,
            Some(Token::Command(name)) => !matches!(name.as_str(), "rfloor" | "rceil" | "end"),
            Some(Token::Symbol('(' | '{')) => true,
            Some(Token::Symbol('|')) => self.bars == 0,
            Some(Token::Number(_)) => {
                let before = self.at.checked_sub(1).and_then(|at| self.tokens.get(at));
                !matches!(before, Some(Token::Number(_)))
            }
            _ => false,
        }
    }

    fn signed(&mut self) -> Option<Expr> {
        if self.eat('-') {
            return self.deeper(|parser| Some(Expr::Negated(boxed(parser.signed()?))));
        }
        if self.eat('+') {
            return self.deeper(Self::signed);
        }
        if self.eat('±') {
            let zero = Expr::Number("0".to_owned(), Some(Rational::integer(0)), false);
            return self
                .deeper(|parser| Some(Expr::PlusMinus(boxed(zero), boxed(parser.signed()?))));
        }
        self.power()
    }

    fn power(&mut self) -> Option<Expr> {
        let mut base = self.primary()?;
        loop {
            if self.eat('!') {
                base = Expr::Call(Function::Factorial, boxed(base));
            } else if self.eat('%') {
                base = Expr::Percent(boxed(base));
            } else if self.eat('°') || self.eat_degree_exponent() {
                // An angle in degrees is the number of degrees.
            } else if self.eat('^') {
                let doubled = self.eat('*');
                if doubled {
                    return None;
                }
                base = Expr::Power(boxed(base), boxed(self.argument(true)?));
            } else if self.is('*') && self.is_at(self.at + 1, '*') {
                self.at += 2;
                base = Expr::Power(boxed(base), boxed(self.argument(true)?));
            } else {
                return Some(base);
            }
        }
    }

    fn eat_degree_exponent(&mut self) -> bool {
        let at = self.at;
        let plain = self.is('^') && self.is_at(at + 1, '°');
        let braced = self.is('^')
            && self.is_at(at + 1, '{')
            && self.is_at(at + 2, '°')
            && self.is_at(at + 3, '}');
        self.at += if plain {
            2
        } else if braced {
            4
        } else {
            0
        };
        plain || braced
    }

    fn primary(&mut self) -> Option<Expr> {
        match self.peek()?.clone() {
            Token::Number(digits) => {
                self.at += 1;
                let number = literal(&digits);
                self.skip_subscript()?;
                self.mixed(number)
            }
            Token::Letter(letter) => {
                self.at += 1;
                self.variable(letter.to_string())
            }
            Token::Symbol('(') => self.enclosed('(', ')'),
            Token::Symbol('[') => self.enclosed('[', ']'),
            Token::Symbol('{') => self.enclosed('{', '}'),
            Token::Symbol('|') if self.bars == 0 => {
                self.at += 1;
                self.bars += 1;
                let inside = self.deeper(Self::sum);
                self.bars -= 1;
                let inside = inside?;
                self.eat('|')
                    .then(|| Expr::Call(Function::Abs, boxed(inside)))
            }
            Token::Command(name) => {
                self.at += 1;
                self.deeper(|parser| parser.command(&name))
            }
            _ => None,
        }
    }

    /// A sum in brackets, within which bars open anew.
    fn enclosed(&mut self, open: char, close: char) -> Option<Expr> {
        self.eat(open);
        let bars = std::mem::take(&mut self.bars);
        let inside = self.deeper(Self::sum);
        self.bars = bars;
        let inside = inside?;
        self.eat(close).then_some(inside)
    }

    /// A whole number and a fraction of whole numbers side by side are their sum.
    fn mixed(&mut self, whole: Expr) -> Option<Expr> {
        let is_whole = |expr: &Expr| matches!(expr, Expr::Number(_, Some(value), false) if value.as_integer().is_some());
        if !is_whole(&whole) || self.peek() != Some(&Token::Command("frac".to_owned())) {
            return Some(whole);
        }
        let start = self.at;
        self.at += 1;
        let fraction = self.deeper(|parser| parser.command("frac"))?;
        match &fraction {
            Expr::Quotient(a, b) if is_whole(a) && is_whole(b) => {
                Some(Expr::Sum(boxed(whole), boxed(fraction)))
            }
            _ => {
                self.at = start;
                Some(whole)
            }
        }
    }

    fn variable(&mut self, mut name: String) -> Option<Expr> {
        if self.is('_') {
            let start = self.at;
            self.skip_subscript()?;
            name = format!("{name}{:?}", &self.tokens[start..self.at]);
        }
        Some(match name.as_str() {
            "e" => Expr::Euler,
            "i" => Expr::Imaginary,
            _ => Expr::Variable(name),
        })
    }

    fn skip_subscript(&mut self) -> Option<()> {
        if self.eat('_') {
            if matches!(self.peek(), Some(Token::Text(_))) {
                self.at += 1;
            } else {
                self.argument(false)?;
            }
        }
        Some(())
    }

    /// What a command takes: braces, a digit (or, where `whole`, a number), a letter or another command.
    fn argument(&mut self, whole: bool) -> Option<Expr> {
        match self.peek()?.clone() {
            Token::Number(digits) if !whole && digits.len() > 1 && !digits.contains('.') => {
                // TeX takes one digit; the rest stays.
                let (first, rest) = digits.split_at(1);
                self.tokens[self.at] = Token::Number(rest.to_owned());
                Some(literal(first))
            }
            Token::Number(digits) => {
                self.at += 1;
                Some(literal(&digits))
            }
            Token::Symbol('{') => self.enclosed('{', '}'),
            Token::Symbol('-') if whole => {
                self.at += 1;
                self.deeper(|parser| Some(Expr::Negated(boxed(parser.argument(true)?))))
            }
            _ => self.deeper(Self::primary),
        }
    }

    fn command(&mut self, name: &str) -> Option<Expr> {
        let function = match name {
            "frac" => {
                let numerator = self.argument(false)?;
                return Some(Expr::Quotient(
                    boxed(numerator),
                    boxed(self.argument(false)?),
                ));
            }
            "binom" | "dbinom" | "tbinom" => {
                let n = self.argument(false)?;
                return Some(Expr::Binomial(boxed(n), boxed(self.argument(false)?)));
            }
            "sqrt" => return self.root(),
            "lfloor" => return self.between("rfloor", Function::Floor),
            "lceil" => return self.between("rceil", Function::Ceil),
            "pi" => return Some(Expr::Pi),
            "infty" | "infinity" => return Some(Expr::Infinity),
            "log" => {
                let base = if self.eat('_') {
                    self.argument(false)?
                } else {
                    literal("10")
                };
                return Some(Expr::Logarithm(
                    boxed(base),
                    boxed(self.function_argument()?),
                ));
            }
            "sin" => Function::Sin,
            "cos" => Function::Cos,
            "tan" => Function::Tan,
            "cot" => Function::Cot,
            "sec" => Function::Sec,
            "csc" => Function::Csc,
            "arcsin" => Function::Arcsin,
            "arccos" => Function::Arccos,
            "arctan" => Function::Arctan,
            "ln" => Function::Ln,
            "exp" => Function::Exp,
            "overline" | "vec" | "hat" | "bar" => return self.argument(false),
            name if is_greek(name) => return self.variable(name.to_owned()),
            _ => return None,
        };
        let exponent = if self.eat('^') {
            Some(self.argument(true)?)
        } else {
            None
        };
        let argument = self.function_argument()?;
        Some(match (exponent, function) {
            // The inverse, not the reciprocal.
            (Some(Expr::Negated(one)), Function::Sin) if *one == literal("1") => {
                Expr::Call(Function::Arcsin, boxed(argument))
            }
            (Some(Expr::Negated(one)), Function::Cos) if *one == literal("1") => {
                Expr::Call(Function::Arccos, boxed(argument))
            }
            (Some(Expr::Negated(one)), Function::Tan) if *one == literal("1") => {
                Expr::Call(Function::Arctan, boxed(argument))
            }
            (Some(exponent), _) => Expr::Power(
                boxed(Expr::Call(function, boxed(argument))),
                boxed(exponent),
            ),
            (None, _) => Expr::Call(function, boxed(argument)),
        })
    }

    fn root(&mut self) -> Option<Expr> {
        let degree = if self.is('[') {
            Some(self.enclosed('[', ']')?)
        } else {
            None
        };
        let radicand = self.argument(false)?;
        Some(match degree {
            None => Expr::Call(Function::Sqrt, boxed(radicand)),
            Some(degree) => {
                let inverse = Expr::Quotient(boxed(literal("1")), boxed(degree));
                Expr::Power(boxed(radicand), boxed(inverse))
            }
        })
    }

    fn between(&mut self, end: &str, function: Function) -> Option<Expr> {
        let inside = self.sum()?;
        let closed = self.peek() == Some(&Token::Command(end.to_owned()));
        self.at += 1;
        closed.then(|| Expr::Call(function, boxed(inside)))
    }

    /// Brackets, or factors up to a sign or another function.
    fn function_argument(&mut self) -> Option<Expr> {
        if self.is('(') || self.is('{') || self.is('[') {
            return self.power();
        }
        let mut product = self.signed()?;
        loop {
            let factor = match self.peek() {
                Some(Token::Letter(_)) => true,
                Some(Token::Command(name)) => name == "pi" || is_greek(name),
                _ => false,
            };
            if !factor {
                return Some(product);
            }
            product = Expr::Product(boxed(product), boxed(self.power()?));
        }
    }
}

fn literal(digits: &str) -> Expr {
    Expr::Number(
        digits.to_owned(),
        Rational::decimal(digits),
        digits.contains('.'),
    )
}

fn is_greek(name: &str) -> bool {
    matches!(
        name,
        "alpha"
            | "beta"
            | "gamma"
            | "delta"
            | "epsilon"
            | "theta"
            | "lambda"
            | "mu"
            | "phi"
            | "varphi"
            | "rho"
            | "sigma"
            | "tau"
            | "omega"
            | "psi"
            | "ell"
            | "Delta"
            | "Omega"
            | "Theta"
            | "Gamma"
            | "Phi"
            | "Psi"
            | "Lambda"
            | "Sigma"
    )
}
