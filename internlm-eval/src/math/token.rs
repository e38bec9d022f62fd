//! Answers in LaTeX or plain text, cut into tokens.

/// A piece of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Token {
    /// Digits with perhaps a full stop; separators of thousands are gone.
    Number(String),
    /// A variable or one of `e`, `i`.
    Letter(char),
    /// A function, a constant, `\frac` and other commands, by name.
    Command(String),
    /// Words: units and answers that are no formulas.
    Text(String),
    /// An operator, bracket or comma; `⟨` and `⟩` for `\{` and `\}`.
    Symbol(char),
}

/// Commands that only change how a formula looks.
const LAYOUT: &[&str] = &[
    "left",
    "right",
    "big",
    "Big",
    "bigl",
    "bigr",
    "Bigl",
    "Bigr",
    "displaystyle",
    "quad",
    "qquad",
    "limits",
    "boxed",
    "mathbf",
    "mathit",
    "bf",
    "it",
    "rm",
];

/// Commands whose argument is words.
const WORDS: &[&str] = &[
    "text",
    "mathrm",
    "textbf",
    "textit",
    "mbox",
    "operatorname",
    "textrm",
    "mathsf",
];

/// Plain words that mean commands.
const PLAIN: &[&str] = &[
    "sqrt", "sin", "cos", "tan", "cot", "sec", "csc", "arcsin", "arccos", "arctan", "log", "ln",
    "exp", "pi", "infty", "theta", "alpha", "beta",
];

/// Letters that often stand side by side as factors.
const FACTORS: &str = "abcdkmnpqrstuvwxyz";

/// The tokens of an answer; none for a brace of words that is not closed.
pub(super) fn tokens(text: &str) -> Option<Vec<Token>> {
    let chars: Vec<char> = text.chars().collect();
    let mut tokens = Vec::new();
    // Within brackets a comma separates; elsewhere it may be one of thousands.
    let mut depth = 0_usize;
    let mut at = 0;
    while at < chars.len() {
        let c = chars[at];
        if c.is_ascii_digit() || c == '.' && chars.get(at + 1).is_some_and(char::is_ascii_digit) {
            let (number, end) = number(&chars, at, depth == 0);
            tokens.push(Token::Number(number));
            at = end;
        } else if c.is_alphabetic() && is_plain_letter(c) {
            let end = run(&chars, at, |c| c.is_ascii_alphabetic());
            word(&chars[at..end].iter().collect::<String>(), &mut tokens);
            at = end;
        } else if c == '\\' {
            at = command(&chars, at, &mut tokens, &mut depth)?;
        } else {
            if let Some(token) = symbol(c) {
                match token {
                    Token::Symbol('(' | '[') => depth += 1,
                    Token::Symbol(')' | ']') => depth = depth.saturating_sub(1),
                    _ => {}
                }
                tokens.push(token);
            }
            at += 1;
        }
    }
    Some(tokens)
}

fn is_plain_letter(c: char) -> bool {
    c.is_ascii_alphabetic()
}

fn run(chars: &[char], from: usize, belongs: impl Fn(char) -> bool) -> usize {
    from + chars[from..].iter().take_while(|&&c| belongs(c)).count()
}

/// A number from a position on, and where it ends.
fn number(chars: &[char], from: usize, thousands: bool) -> (String, usize) {
    let mut end = run(chars, from, |c| c.is_ascii_digit());
    let mut digits: String = chars[from..end].iter().collect();
    if (1..=3).contains(&digits.len()) {
        while let Some(next) = group_of_three(chars, end, thousands) {
            digits.extend(&chars[next - 3..next]);
            end = next;
        }
    }
    if chars.get(end) == Some(&'.') && chars.get(end + 1).is_some_and(char::is_ascii_digit) {
        let fraction = run(chars, end + 1, |c| c.is_ascii_digit());
        digits.extend(&chars[end..fraction]);
        end = fraction;
    }
    (digits, end)
}

/// The end of three digits after a separator of thousands: `,`, `{,}`, `,\!` or `\,`.
fn group_of_three(chars: &[char], from: usize, thousands: bool) -> Option<usize> {
    let separators: &[&str] = if thousands {
        &["{,}", ",\\!", "\\,", ","]
    } else {
        &["{,}", ",\\!", "\\,"]
    };
    let fits = |separator: &str| {
        chars[from..]
            .iter()
            .copied()
            .take(separator.len())
            .eq(separator.chars())
    };
    let separator = separators.iter().find(|separator| fits(separator))?;
    let start = from + separator.len();
    (run(chars, start, |c| c.is_ascii_digit()) == start + 3).then_some(start + 3)
}

/// A word of plain letters: a function, factors side by side, or text.
fn word(word: &str, tokens: &mut Vec<Token>) {
    let lower = word.to_ascii_lowercase();
    if PLAIN.contains(&word) {
        tokens.push(Token::Command(word.to_owned()));
    } else if matches!(lower.as_str(), "infinity" | "inf" | "oo") {
        tokens.push(Token::Command("infty".to_owned()));
    } else if lower == "and" {
        tokens.push(Token::Symbol(','));
    } else if word.len() <= 2 || word.len() == 3 && word.chars().all(|c| FACTORS.contains(c)) {
        match lower.as_str() {
            "or" => tokens.push(Token::Symbol(',')),
            "cm" | "mm" | "km" | "kg" | "ft" | "mi" | "no" => tokens.push(Token::Text(lower)),
            _ => tokens.extend(word.chars().map(Token::Letter)),
        }
    } else {
        tokens.push(Token::Text(lower));
    }
}

/// A command and where it ends.
fn command(chars: &[char], at: usize, tokens: &mut Vec<Token>, depth: &mut usize) -> Option<usize> {
    let end = run(chars, at + 1, |c| c.is_ascii_alphabetic());
    if end == at + 1 {
        match chars.get(end) {
            Some('{') => {
                *depth += 1;
                tokens.push(Token::Symbol('⟨'));
            }
            Some('}') => {
                *depth = depth.saturating_sub(1);
                tokens.push(Token::Symbol('⟩'));
            }
            Some('%') => tokens.push(Token::Symbol('%')),
            Some('\\') => tokens.push(Token::Symbol('\n')),
            Some('|') => tokens.push(Token::Symbol('|')),
            // Blanks and money.
            _ => {}
        }
        return Some(end + 1);
    }
    let name: String = chars[at + 1..end].iter().collect();
    if WORDS.contains(&name.as_str()) {
        return words(chars, end, tokens);
    }
    let symbol = match name.as_str() {
        "cdot" | "times" | "ast" => Some('*'),
        "div" => Some('/'),
        "le" | "leq" | "leqslant" => Some('≤'),
        "ge" | "geq" | "geqslant" => Some('≥'),
        "lt" => Some('<'),
        "gt" => Some('>'),
        "ne" | "neq" => Some('≠'),
        "in" => Some('∈'),
        "cup" => Some('∪'),
        "pm" => Some('±'),
        "lvert" | "rvert" | "vert" | "mid" => Some('|'),
        "approx" | "equiv" => Some('='),
        "lbrace" => Some('⟨'),
        "rbrace" => Some('⟩'),
        "circ" | "degree" => Some('°'),
        _ => None,
    };
    if let Some(symbol) = symbol {
        tokens.push(Token::Symbol(symbol));
    } else if matches!(name.as_str(), "dfrac" | "tfrac" | "cfrac") {
        tokens.push(Token::Command("frac".to_owned()));
    } else if !LAYOUT.contains(&name.as_str()) {
        tokens.push(Token::Command(name));
    }
    Some(end)
}

/// The words in the braces after a command.
fn words(chars: &[char], from: usize, tokens: &mut Vec<Token>) -> Option<usize> {
    let open = from
        + chars[from..]
            .iter()
            .take_while(|c| c.is_whitespace())
            .count();
    if chars.get(open) != Some(&'{') {
        return Some(from);
    }
    let close = open + chars[open..].iter().position(|&c| c == '}')?;
    let text: String = chars[open + 1..close].iter().collect();
    let text = text.trim().to_lowercase();
    match text.as_str() {
        "" => {}
        "and" | "or" => tokens.push(Token::Symbol(',')),
        _ => tokens.push(Token::Text(text)),
    }
    Some(close + 1)
}

fn symbol(c: char) -> Option<Token> {
    Some(match c {
        '$' | '~' | '"' | '\'' => return None,
        c if c.is_whitespace() => return None,
        '×' | '·' | '⋅' => Token::Symbol('*'),
        '÷' => Token::Symbol('/'),
        '−' | '–' => Token::Symbol('-'),
        '，' | ';' | '；' | '、' => Token::Symbol(','),
        '（' => Token::Symbol('('),
        '）' => Token::Symbol(')'),
        'π' => Token::Command("pi".to_owned()),
        '√' => Token::Command("sqrt".to_owned()),
        '∞' => Token::Command("infty".to_owned()),
        c if c.is_alphabetic() => Token::Text(c.to_string()),
        c => Token::Symbol(c),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, want: &[Token]) {
        assert_eq!(tokens(text).unwrap(), want, "{text}");
    }

    fn number(text: &str) -> Token {
        Token::Number(text.to_owned())
    }

    #[test]
    fn thousands_and_tuples() {
        check("1,234.5", &[number("1234.5")]);
        check(r"1{,}234", &[number("1234")]);
        check(
            "(1,234)",
            &[
                Token::Symbol('('),
                number("1"),
                Token::Symbol(','),
                number("234"),
                Token::Symbol(')'),
            ],
        );
        check("1,23", &[number("1"), Token::Symbol(','), number("23")]);
    }

    #[test]
    fn words_and_commands() {
        check(
            r"\$5\text{ cm}",
            &[number("5"), Token::Text("cm".to_owned())],
        );
        check("xy", &[Token::Letter('x'), Token::Letter('y')]);
        check("East", &[Token::Text("east".to_owned())]);
        check(
            r"\dfrac12",
            &[Token::Command("frac".to_owned()), number("12")],
        );
        assert_eq!(tokens(r"\text{x"), None);
    }
}
