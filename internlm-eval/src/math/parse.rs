//! From tokens to the meaning of an answer: its structure. Expressions are read in [`factor`](super::factor).

use super::answer::Answer;
use super::token::{Token, tokens};

/// Characters of an answer that is parsed at all.
const MAX_LENGTH: usize = 1000;
/// Nesting of brackets, arguments and signs.
const MAX_DEPTH: usize = 48;

/// The meaning of a text, if it has one.
pub(super) fn parse(text: &str) -> Option<Answer> {
    if text.len() > MAX_LENGTH {
        return None;
    }
    let tokens = tokens(text.trim().trim_end_matches('.'))?;
    let mut parser = Parser {
        tokens,
        at: 0,
        depth: 0,
        bars: 0,
    };
    let answer = parser.answer()?;
    (parser.at == parser.tokens.len()).then_some(answer)
}

pub(super) struct Parser {
    pub(super) tokens: Vec<Token>,
    pub(super) at: usize,
    depth: usize,
    /// Open absolute values, within which a bar closes.
    pub(super) bars: usize,
}

impl Parser {
    pub(super) fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.at)
    }

    pub(super) fn is(&self, symbol: char) -> bool {
        self.is_at(self.at, symbol)
    }

    pub(super) fn is_at(&self, at: usize, symbol: char) -> bool {
        self.tokens.get(at) == Some(&Token::Symbol(symbol))
    }

    pub(super) fn eat(&mut self, symbol: char) -> bool {
        let there = self.is(symbol);
        self.at += usize::from(there);
        there
    }

    pub(super) fn deeper<T>(&mut self, parse: impl FnOnce(&mut Self) -> Option<T>) -> Option<T> {
        if self.depth == MAX_DEPTH {
            return None;
        }
        self.depth += 1;
        let parsed = parse(self);
        self.depth -= 1;
        parsed
    }

    /// Elements between commas.
    fn answer(&mut self) -> Option<Answer> {
        let mut elements = vec![self.element()?];
        while self.eat(',') {
            elements.push(self.element()?);
        }
        let single = elements.len() == 1;
        if single {
            elements.pop()
        } else {
            Some(Answer::Bare(elements))
        }
    }

    /// Items between union signs.
    fn element(&mut self) -> Option<Answer> {
        let mut items = vec![self.item()?];
        while self.eat('∪') {
            items.push(self.item()?);
        }
        let single = items.len() == 1;
        if single {
            items.pop()
        } else {
            Some(Answer::Union(items))
        }
    }

    fn item(&mut self) -> Option<Answer> {
        let mut words = Vec::new();
        while let Some(Token::Text(word)) = self.peek() {
            words.push(word.clone());
            self.at += 1;
        }
        let ended = matches!(
            self.peek(),
            None | Some(Token::Symbol(',' | ')' | ']' | '⟩' | '}' | '&' | '\n'))
        );
        if !words.is_empty() && ended {
            return Some(Answer::Text(words.join(" ")));
        }
        if let Some(list) = self.bracketed() {
            return self.relation_from(list);
        }
        if self.peek() == Some(&Token::Command("begin".to_owned())) {
            return self.matrix();
        }
        self.relation()
    }

    /// A tuple, interval or set, if that is what the brackets here enclose.
    fn bracketed(&mut self) -> Option<Answer> {
        let Some(&Token::Symbol(open @ ('(' | '[' | '⟨'))) = self.peek() else {
            return None;
        };
        let start = self.at;
        let parsed = self.deeper(|parser| {
            parser.at += 1;
            let mut elements = vec![parser.element()?];
            while parser.eat(',') {
                elements.push(parser.element()?);
            }
            let Some(&Token::Symbol(close @ (')' | ']' | '⟩'))) = parser.peek() else {
                return None;
            };
            parser.at += 1;
            match (open, close) {
                ('⟨', '⟩') => Some(Answer::Set(elements)),
                ('⟨', _) | (_, '⟩') => None,
                _ if elements.len() > 1 => Some(Answer::List(open, elements, close)),
                _ => None,
            }
        });
        if parsed.is_none() {
            self.at = start;
        }
        parsed
    }

    /// `\begin{pmatrix} a & b \\ c & d \end{pmatrix}`.
    fn matrix(&mut self) -> Option<Answer> {
        self.at += 1;
        self.environment()?;
        let mut rows = vec![Vec::new()];
        loop {
            let cell = self.deeper(Self::element)?;
            rows.last_mut()?.push(cell);
            if self.eat('&') {
                continue;
            }
            if self.eat('\n') && self.peek() != Some(&Token::Command("end".to_owned())) {
                rows.push(Vec::new());
                continue;
            }
            if self.peek() != Some(&Token::Command("end".to_owned())) {
                return None;
            }
            self.at += 1;
            self.environment()?;
            return Some(Answer::Matrix(rows));
        }
    }

    /// The name of an environment in braces.
    fn environment(&mut self) -> Option<()> {
        let matrix = |name: &str| name.ends_with("matrix") || name == "array";
        let named = self.eat('{') && matches!(self.peek(), Some(Token::Text(name)) if matrix(name));
        self.at += 1;
        (named && self.eat('}')).then_some(())
    }

    /// Terms between equals signs and inequalities.
    fn relation(&mut self) -> Option<Answer> {
        let first = Answer::Scalar(self.sum()?);
        self.relation_from(first)
    }

    fn relation_from(&mut self, first: Answer) -> Option<Answer> {
        let mut terms = vec![first];
        let mut operators = Vec::new();
        while let Some(&Token::Symbol(operator @ ('=' | '<' | '>' | '≤' | '≥' | '≠' | '∈'))) =
            self.peek()
        {
            self.at += 1;
            // The right side of an equation may be a tuple, a set or words.
            terms.push(self.deeper(|parser| match operator {
                '=' | '∈' => parser.element_without_relation(),
                _ => parser.sum().map(Answer::Scalar),
            })?);
            operators.push(operator);
        }
        let single = terms.len() == 1;
        if single {
            terms.pop()
        } else {
            Some(Answer::Relation(terms, operators))
        }
    }

    fn element_without_relation(&mut self) -> Option<Answer> {
        match self.element()? {
            // `a = b = c` is one relation: flattened here it would lose its parts.
            Answer::Relation(..) => None,
            other => Some(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::math::answer::Expr;

    #[test]
    fn kinds_of_answers() {
        assert!(matches!(parse("[1, 2)"), Some(Answer::List('[', items, ')')) if items.len() == 2));
        assert!(matches!(parse(r"\{1\}"), Some(Answer::Set(items)) if items.len() == 1));
        assert!(matches!(parse("1, 2"), Some(Answer::Bare(_))));
        assert!(matches!(
            parse(r"(0,1)\cup[2,\infty)"),
            Some(Answer::Union(_))
        ));
        assert!(matches!(parse("x = (1,2)"), Some(Answer::Relation(..))));
        assert!(matches!(parse(r"\text{east}"), Some(Answer::Text(_))));
        assert!(matches!(
            parse(r"5\text{ cm}^2"),
            Some(Answer::Scalar(Expr::Number(..)))
        ));
        let matrix = parse(r"\begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix}");
        assert!(matches!(matrix, Some(Answer::Matrix(rows)) if rows.len() == 2));
    }

    #[test]
    fn what_is_no_answer() {
        for text in [
            "",
            "(",
            "1+",
            r"\frac{1}",
            "1 2",
            r"\unknown",
            "{",
            ")",
            "x^",
            "|x",
            r"\begin{pmatrix}1",
            "∈",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
        assert_eq!(parse(&"(".repeat(900)), None);
        assert_eq!(parse(&"-".repeat(900)), None);
        assert_eq!(parse(&"1+".repeat(600)), None);
    }
}
