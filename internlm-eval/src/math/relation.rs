//! Whether two answers are the same, whatever they are: tuples, sets, intervals, equations, words.

use std::collections::BTreeSet;

use super::answer::{Answer, Expr};
use super::expression::{scalars_equal, value, variables};

/// Elements of a set that are compared each with each.
const MAX_ELEMENTS: usize = 64;

/// Whether two answers are the same.
pub(super) fn same(a: &Answer, b: &Answer) -> bool {
    let (a, b) = (simplified(a), simplified(b));
    match (&a, &b) {
        (Answer::Scalar(a), Answer::Scalar(b)) => scalars_equal(a, b),
        (Answer::Text(a), Answer::Text(b)) => letters(a) == letters(b),
        // A letter may be a choice or a variable.
        (Answer::Text(text), Answer::Scalar(Expr::Variable(name)))
        | (Answer::Scalar(Expr::Variable(name)), Answer::Text(text)) => {
            letters(text) == name.to_lowercase()
        }
        (Answer::List(open_a, a, close_a), Answer::List(open_b, b, close_b)) => {
            open_a == open_b && close_a == close_b && in_order(a, b)
        }
        (Answer::Set(a) | Answer::Bare(a), Answer::Set(b)) | (Answer::Set(a), Answer::Bare(b)) => {
            in_any_order(a, b)
        }
        (Answer::Bare(a), Answer::Bare(b)) | (Answer::Union(a), Answer::Union(b)) => {
            in_any_order(a, b)
        }
        (Answer::Bare(a), Answer::List('(', b, ')'))
        | (Answer::List('(', a, ')'), Answer::Bare(b)) => in_order(a, b),
        (Answer::Set(elements), other) | (other, Answer::Set(elements)) => {
            matches!(elements.as_slice(), [element] if same(element, other))
        }
        (Answer::Matrix(a), Answer::Matrix(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| in_order(a, b))
        }
        (Answer::Matrix(rows), Answer::List('(', items, ')'))
        | (Answer::List('(', items, ')'), Answer::Matrix(rows)) => {
            vector(rows).is_some_and(|vector| in_order(&vector, items))
        }
        (Answer::Relation(terms_a, operators_a), Answer::Relation(terms_b, operators_b)) => {
            relations_same((terms_a, operators_a), (terms_b, operators_b))
        }
        (Answer::Relation(terms, operators), other)
        | (other, Answer::Relation(terms, operators)) => {
            meaning(terms, operators).is_some_and(|meaning| same(&meaning, other))
        }
        _ => false,
    }
}

fn letters(text: &str) -> String {
    text.chars().filter(|c| c.is_alphanumeric()).collect()
}

fn in_order(a: &[Answer], b: &[Answer]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b))
}

fn in_any_order(a: &[Answer], b: &[Answer]) -> bool {
    if a.len() != b.len() || a.len() > MAX_ELEMENTS {
        return false;
    }
    let mut left: Vec<&Answer> = b.iter().collect();
    a.iter().all(|a| {
        let found = left.iter().position(|b| same(a, b));
        found.map(|index| left.swap_remove(index)).is_some()
    })
}

/// A plus-minus sign stands for two values.
fn simplified(answer: &Answer) -> Answer {
    match answer {
        Answer::Scalar(expr) => match both_signs(expr) {
            Some((plus, minus)) => Answer::Set(vec![Answer::Scalar(plus), Answer::Scalar(minus)]),
            None => answer.clone(),
        },
        other => other.clone(),
    }
}

fn both_signs(expr: &Expr) -> Option<(Expr, Expr)> {
    let boxed = |(plus, minus): (Expr, Expr)| (Box::new(plus), Box::new(minus));
    let pair = |a: &Expr, b: &Expr, make: fn(Box<Expr>, Box<Expr>) -> Expr| {
        let (left, right) = (both_signs(a), both_signs(b));
        if left.is_none() && right.is_none() {
            return None;
        }
        let (a_plus, a_minus) = boxed(left.unwrap_or_else(|| (a.clone(), a.clone())));
        let (b_plus, b_minus) = boxed(right.unwrap_or_else(|| (b.clone(), b.clone())));
        Some((make(a_plus, b_plus), make(a_minus, b_minus)))
    };
    match expr {
        Expr::PlusMinus(a, b) => {
            let minus = Expr::Sum(a.clone(), Box::new(Expr::Negated(b.clone())));
            Some((Expr::Sum(a.clone(), b.clone()), minus))
        }
        Expr::Sum(a, b) => pair(a, b, Expr::Sum),
        Expr::Product(a, b) => pair(a, b, Expr::Product),
        Expr::Quotient(a, b) => pair(a, b, Expr::Quotient),
        Expr::Negated(a) => {
            let (plus, minus) = boxed(both_signs(a)?);
            Some((Expr::Negated(plus), Expr::Negated(minus)))
        }
        _ => None,
    }
}

/// A matrix of one row or one column.
fn vector(rows: &[Vec<Answer>]) -> Option<Vec<Answer>> {
    match rows {
        [row] => Some(row.clone()),
        rows if rows.iter().all(|row| row.len() == 1) => Some(rows.concat()),
        _ => None,
    }
}

/// What a relation says of its variable: a value for `x = 3`, a set for `x ∈ A`, an interval for an inequality.
fn meaning(terms: &[Answer], operators: &[char]) -> Option<Answer> {
    if operators
        .iter()
        .all(|operator| matches!(operator, '=' | '∈'))
    {
        return terms.last().cloned();
    }
    interval(terms, operators)
}

fn is_variable(answer: &Answer) -> bool {
    matches!(answer, Answer::Scalar(Expr::Variable(_)))
}

/// `x < b`, `a ≤ x` or `a < x ≤ b` as an interval.
fn interval(terms: &[Answer], operators: &[char]) -> Option<Answer> {
    let infinite = |negative| {
        let infinity = Expr::Infinity;
        Answer::Scalar(if negative {
            Expr::Negated(Box::new(infinity))
        } else {
            infinity
        })
    };
    let open = |operator| {
        if operator == '≤' || operator == '≥' {
            '['
        } else {
            '('
        }
    };
    let close = |operator| {
        if operator == '≤' || operator == '≥' {
            ']'
        } else {
            ')'
        }
    };
    match (terms, operators) {
        ([x, bound], &[operator @ ('<' | '≤')]) if is_variable(x) => Some(Answer::List(
            '(',
            vec![infinite(true), bound.clone()],
            close(operator),
        )),
        ([x, bound], &[operator @ ('>' | '≥')]) if is_variable(x) => Some(Answer::List(
            open(operator),
            vec![bound.clone(), infinite(false)],
            ')',
        )),
        ([bound, x], &[operator]) if is_variable(x) => {
            interval(&[x.clone(), bound.clone()], &[flipped(operator)?])
        }
        ([low, x, high], &[first @ ('<' | '≤'), second @ ('<' | '≤')]) if is_variable(x) => {
            Some(Answer::List(
                open(first),
                vec![low.clone(), high.clone()],
                close(second),
            ))
        }
        ([high, x, low], &[first @ ('>' | '≥'), second @ ('>' | '≥')]) if is_variable(x) => {
            Some(Answer::List(
                open(second),
                vec![low.clone(), high.clone()],
                close(first),
            ))
        }
        _ => None,
    }
}

fn flipped(operator: char) -> Option<char> {
    Some(match operator {
        '<' => '>',
        '>' => '<',
        '≤' => '≥',
        '≥' => '≤',
        '=' | '≠' => operator,
        _ => return None,
    })
}

type Parts<'a> = (&'a [Answer], &'a [char]);

fn relations_same((terms_a, operators_a): Parts<'_>, (terms_b, operators_b): Parts<'_>) -> bool {
    if operators_a == operators_b && in_order(terms_a, terms_b) {
        return true;
    }
    // The same read from right to left.
    let turned: Option<Vec<char>> = operators_b
        .iter()
        .rev()
        .map(|&operator| flipped(operator))
        .collect();
    let reversed: Vec<Answer> = terms_b.iter().rev().cloned().collect();
    if turned.is_some_and(|turned| operators_a == turned) && in_order(terms_a, &reversed) {
        return true;
    }
    if let (
        [Answer::Scalar(la), Answer::Scalar(ra)],
        ['='],
        [Answer::Scalar(lb), Answer::Scalar(rb)],
        ['='],
    ) = (terms_a, operators_a, terms_b, operators_b)
    {
        // `x = 3` and `y = 3` say the same of an unnamed answer; other equations are the same up to a factor.
        let values = is_variable(&terms_a[0]) && is_variable(&terms_b[0]);
        return values && scalars_equal(ra, rb)
            || proportional(&difference(la, ra), &difference(lb, rb));
    }
    match interval(terms_a, operators_a).zip(interval(terms_b, operators_b)) {
        Some((a, b)) => same(&a, &b),
        None => false,
    }
}

fn difference(left: &Expr, right: &Expr) -> Expr {
    Expr::Sum(
        Box::new(left.clone()),
        Box::new(Expr::Negated(Box::new(right.clone()))),
    )
}

/// Whether one expression is a constant multiple of the other, but not 0.
fn proportional(a: &Expr, b: &Expr) -> bool {
    let (mut names_a, mut names_b) = (BTreeSet::new(), BTreeSet::new());
    variables(a, &mut names_a);
    variables(b, &mut names_b);
    if names_a != names_b || names_a.is_empty() {
        return false;
    }
    let mut ratio = None;
    for point in 0..8 {
        let quotient = value(a, point).over(value(b, point));
        if !quotient.is_finite() || quotient.abs() < 1e-12 {
            return false;
        }
        let first = *ratio.get_or_insert(quotient);
        if first.minus(quotient).abs() > 1e-9 * first.abs() {
            return false;
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use crate::math::verify;

    #[track_caller]
    fn equal(a: &str, b: &str) {
        assert!(verify(a, b), "{a} = {b}");
        assert!(verify(b, a), "{b} = {a}");
    }

    #[track_caller]
    fn differ(a: &str, b: &str) {
        assert!(!verify(a, b), "{a} = {b}");
        assert!(!verify(b, a), "{b} = {a}");
    }

    #[test]
    fn numbers() {
        equal("0.5", r"\frac{1}{2}");
        equal(r"\frac12", "1/2");
        equal(r"1\frac{1}{2}", "3/2");
        equal("1,000", "1000");
        equal(r"\$5.00", "5");
        equal("50%", "0.5");
        equal(r"50\%", "50");
        equal("0.333333", r"\frac{1}{3}");
        equal(r"2^{10}", "1024");
        equal(r"5!", "120");
        equal(r"\binom{5}{2}", "10");
        equal(r"90^\circ", "90");
        equal(r"10\text{ cm}", "10");
        equal("60 km/h", "60");
        differ("0.33", r"\frac{1}{3}");
        differ("1", "2");
        differ(
            "100000000000000000000000000000000000000000001",
            "100000000000000000000000000000000000000000002",
        );
        differ("", "0");
    }

    #[test]
    fn expressions() {
        equal(r"\sqrt{8}", r"2\sqrt2");
        equal(r"\frac{1}{\sqrt{3}}", r"\frac{\sqrt{3}}{3}");
        equal(r"2\pi", r"\pi \cdot 2");
        equal("(x+1)^2", "x^2+2x+1");
        equal(r"\sin^2 x + \cos^2 x", "1");
        equal(r"\log_2 8", "3");
        equal(r"e^{\ln 3}", "3");
        equal(r"\sqrt[3]{-8}", "-2");
        equal("3+4i", "4i + 3");
        equal(r"|{-3}|", "3");
        equal(r"\lfloor 2.7 \rfloor", "2");
        equal("x**2", "x^2");
        equal(r"\dfrac{x^2-1}{x-1}", "x+1");
        differ("x+1", "y+1");
        differ("x^2", "x^3");
        differ(r"\sqrt{2}", "1.4142");
        equal(r"\infty", "infinity");
        differ(r"\infty", r"-\infty");
    }

    #[test]
    fn structures() {
        equal("(1, 2)", r"\left( 1, \frac{4}{2} \right)");
        differ("(1,2)", "(2,1)");
        differ("[1,2]", "(1,2)");
        equal(r"\{1,2\}", r"\{2,1\}");
        equal("1, 2", "2 and 1");
        equal(r"(-\infty,0)\cup(1,\infty)", r"(1,\infty)\cup(-\infty,0)");
        equal(r"\pm 3", "3, -3");
        equal(r"1\pm\sqrt{2}", r"1-\sqrt2, 1+\sqrt2");
        equal(r"\begin{pmatrix}1\\2\end{pmatrix}", "(1,2)");
        equal(
            r"\begin{bmatrix}1&2\\3&4\end{bmatrix}",
            r"\begin{pmatrix}1&2\\3&\frac{8}{2}\end{pmatrix}",
        );
        differ(r"\{1,1\}", r"\{1,2\}");
        equal(r"\text{East}", "east");
        differ("east", "west");
        equal(r"\text{(A)}", "(A)");
    }

    #[test]
    fn relations() {
        equal("x=3", "3");
        equal("x = 3", "y=3");
        equal("2x+2y=4", "x+y=2");
        equal("x>3", "3<x");
        equal("x>3", r"(3,\infty)");
        equal(r"1<x\le 2", "(1,2]");
        equal(r"x\in[0,1]", "[0,1]");
        equal("(x,y)=(1,2)", "(1,2)");
        differ("x>3", r"x\ge 3");
        differ("x+y=2", "x+y=3");
    }

    #[test]
    fn answers_in_prose() {
        equal(r"Thus $x=5$, so the answer is $\boxed{5}$.", "5");
        equal("The final answer is $5$. I hope it is correct.", "$5$");
        equal("The answer is: 42.", "42");
        differ("I don't know", "42");
    }
}
