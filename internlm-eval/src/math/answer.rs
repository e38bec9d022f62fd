//! What an answer means.

use super::rational::Rational;

/// What an answer is.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Answer {
    Scalar(Expr),
    Text(String),
    /// In brackets, with which ones: a tuple, a point or an interval.
    List(char, Vec<Answer>, char),
    /// In braces, or values side by side.
    Set(Vec<Answer>),
    /// Side by side, so that their order may matter.
    Bare(Vec<Answer>),
    Matrix(Vec<Vec<Answer>>),
    Union(Vec<Answer>),
    /// Terms and the operators between them.
    Relation(Vec<Answer>, Vec<char>),
}

/// An expression.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Expr {
    /// Digits; exact unless there are too many. Whether there is a decimal point.
    Number(String, Option<Rational>, bool),
    Pi,
    Euler,
    Imaginary,
    Infinity,
    Variable(String),
    Negated(Box<Expr>),
    Sum(Box<Expr>, Box<Expr>),
    /// Both the sum and the difference.
    PlusMinus(Box<Expr>, Box<Expr>),
    Product(Box<Expr>, Box<Expr>),
    Quotient(Box<Expr>, Box<Expr>),
    Power(Box<Expr>, Box<Expr>),
    Call(Function, Box<Expr>),
    Logarithm(Box<Expr>, Box<Expr>),
    Binomial(Box<Expr>, Box<Expr>),
    Percent(Box<Expr>),
}

/// A function of one argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Function {
    Sin,
    Cos,
    Tan,
    Cot,
    Sec,
    Csc,
    Arcsin,
    Arccos,
    Arctan,
    Ln,
    Exp,
    Sqrt,
    Abs,
    Floor,
    Ceil,
    Factorial,
}
