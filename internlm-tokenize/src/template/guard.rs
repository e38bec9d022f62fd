//! Bounds the values that a template can build.
//!
//! minijinja's fuel pays for instructions and for the size of strings and flat lists, but not for
//! what is *inside* of a list: sixty rounds of `a = [a, a]` cost nothing, and then printing or
//! comparing `a` never ends; thousands of `a = [a]` overflow the stack; a namespace that holds
//! itself does so when printed. So each list, tuple and mapping that a template's source builds is
//! wrapped in a call that measures it as a tree before the source is compiled; so are operands of
//! `+`, `*` and `~`, which add, repeat and print lists lazily or unpaid; and a namespace is only
//! taken where its attributes are used, so that it cannot hold itself.
//!
//! Only text inside of `{% %}` and `{{ }}` changes, and no line breaks, so that line numbers in
//! errors stay right. `{% generation %}`, which marks the assistant's text for training in
//! transformers, becomes an `{% if true %}` here.

use minijinja::value::ValueKind;
use minijinja::{Environment, Error, ErrorKind, State, Value};

use super::lexer::{Kind, Token, lex};

/// Around lists, tuples and mappings.
const CHECK: &str = "__checked";
/// Around operands of `+`.
const TERM: &str = "__term";
/// Around operands of `*`.
const FACTOR: &str = "__factor";
/// Around operands of `~`.
const TEXT: &str = "__text";

/// Most values, counted as a tree, in a list or mapping that a template builds.
const MAX_NODES: usize = 4096;
/// Deepest nesting of such a value.
const MAX_DEPTH: usize = 192;
/// Most names, literals and signs in one tag.
const MAX_TOKENS: usize = 1000;
/// This many unary operators in a row are refused.
const MAX_UNARY: usize = 16;
/// Most `elif` in a source.
const MAX_ELIFS: usize = 200;
/// Longest list that is added to another.
const MAX_TERM: usize = 100_000;

/// Makes the checking functions known.
pub(super) fn add_functions(env: &mut Environment<'_>) {
    env.add_function(CHECK, check);
    env.add_function(TERM, |value: Value| match value.len() {
        Some(length) if length > MAX_TERM && value.as_str().is_none() => {
            too_large("a list is too long to be added to")
        }
        _ => Ok(value),
    });
    env.add_function(FACTOR, |value: Value| match value.kind() {
        ValueKind::Seq | ValueKind::Iterable => too_large("a list is multiplied"),
        _ => Ok(value),
    });
    env.add_function(TEXT, |state: &State, value: Value| {
        pay(state, &value)?;
        Ok::<Value, Error>(value)
    });
}

/// Passes a small value on.
fn check(state: &State, value: Value) -> Result<Value, Error> {
    let mut left = MAX_NODES;
    walk(state, &value, 0, &mut left)?;
    Ok(value)
}

/// Pays for a value that is about to be printed or compared, however large.
pub(super) fn pay(state: &State, value: &Value) -> Result<(), Error> {
    walk(state, value, 0, &mut usize::MAX.clone())
}

fn too_large(what: &'static str) -> Result<Value, Error> {
    Err(Error::new(ErrorKind::InvalidOperation, what))
}

fn walk(state: &State, value: &Value, depth: usize, left: &mut usize) -> Result<(), Error> {
    let is_map = match value.kind() {
        ValueKind::Map => true,
        ValueKind::Seq | ValueKind::Iterable => false,
        _ => return Ok(()),
    };
    if depth > MAX_DEPTH {
        return too_large("a value is nested too deeply").map(drop);
    }
    for item in value.try_iter()? {
        state.consume_fuel(1)?;
        *left -= 1;
        if *left == 0 {
            return too_large("a list or mapping that the template builds is too large").map(drop);
        }
        if is_map {
            walk(state, &value.get_item(&item)?, depth + 1, left)?;
        }
        walk(state, &item, depth + 1, left)?;
    }
    Ok(())
}

/// Wraps what builds lists and mappings.
///
/// # Errors
/// The line, and what is wrong, where a namespace is used as a value. Source that is no valid
/// template is passed on as well as can be; the compiler reports it.
pub(super) fn instrument(source: &str) -> Result<String, (usize, String)> {
    let mut out = String::with_capacity(source.len() + 256);
    let mut namespaces = Vec::new();
    let mut elifs = 0;
    let mut rest = source;
    // Tags are found as the lexer finds them: the earliest of the three openings.
    while let Some(at) = rest.find('{') {
        let (before, tag) = rest.split_at(at);
        out.push_str(before);
        let (closing, is_block) = match tag.as_bytes().get(1) {
            Some(b'%') => ("%}", true),
            Some(b'{') => ("}}", false),
            Some(b'#') => {
                let end = tag.find("#}").map_or(tag.len(), |end| end + 2);
                out.push_str(&tag[..end]);
                rest = &tag[end..];
                continue;
            }
            _ => {
                out.push('{');
                rest = &tag[1..];
                continue;
            }
        };
        let tokens = lex(&tag[2..], closing);
        let inner = &tag[2..2 + tokens.length];
        let words: Vec<&str> = tokens.list.iter().map(|token| token.text(inner)).collect();
        let name_at = words
            .iter()
            .position(|word| !matches!(*word, "-" | "+"))
            .unwrap_or(0);
        let statement = if is_block {
            words.get(name_at).copied().unwrap_or_default()
        } else {
            ""
        };
        out.push_str(&tag[..2]);
        match statement {
            "generation" => out.push_str(&inner.replacen("generation", "if true", 1)),
            "endgeneration" => out.push_str(&inner.replacen("endgeneration", "endif", 1)),
            _ => {
                elifs += usize::from(statement == "elif");
                check_length(&words, elifs)
                    .and_then(|()| check_namespaces(&words, &tokens.list, &mut namespaces))
                    .map_err(|what| {
                        let before = &source[..source.len() - tag.len()];
                        (before.matches('\n').count() + 1, what)
                    })?;
                wrap(inner, &words, &tokens.list, statement == "set", &mut out);
            }
        }
        rest = &tag[2 + tokens.length..];
        if statement == "raw" {
            let end = end_of_raw(rest);
            out.push_str(&rest[..end]);
            rest = &rest[end..];
        }
    }
    out.push_str(rest);
    Ok(out)
}

/// Where the `{% endraw %}` begins.
fn end_of_raw(text: &str) -> usize {
    let mut from = 0;
    while let Some(at) = text[from..].find("{%") {
        let tag = &text[from + at + 2..];
        let word = tag.trim_start_matches(['-', '+']).trim_start();
        if word.starts_with("endraw") {
            return from + at;
        }
        from += at + 2;
    }
    text.len()
}

/// Refuses tags on which minijinja's compiler would recurse too deeply: it bounds the nesting of
/// brackets and blocks, but not chains of operators, attributes, filters and `elif`.
fn check_length(words: &[&str], elifs: usize) -> Result<(), String> {
    let unary = |word: &&str| matches!(*word, "not" | "-" | "+");
    if words.len() > MAX_TOKENS {
        return Err(format!(
            "a tag has {} tokens; expected at most {MAX_TOKENS}",
            words.len()
        ));
    }
    if words.windows(MAX_UNARY).any(|run| run.iter().all(unary)) {
        return Err(format!("{MAX_UNARY} unary operators in a row"));
    }
    if elifs > MAX_ELIFS {
        return Err(format!("more than {MAX_ELIFS} `elif`"));
    }
    Ok(())
}

/// Refuses a namespace as a value; `known` are the names that hold one.
fn check_namespaces<'s>(
    words: &[&'s str],
    tokens: &[Token],
    known: &mut Vec<&'s str>,
) -> Result<(), String> {
    for (index, (&word, token)) in words.iter().zip(tokens).enumerate() {
        let before = |n: usize| index.checked_sub(n).map_or("", |at| words[at]);
        let next = words.get(index + 1).copied().unwrap_or_default();
        if token.kind != Kind::Word || before(1) == "." {
            continue;
        }
        if word == "namespace" {
            if before(1) != "=" || before(3) != "set" || next != "(" {
                return Err("`namespace` is only taken in `{% set name = namespace(…) %}`".into());
            }
            known.push(before(2));
        } else if known.contains(&word) {
            let is_keyword_argument = next == "=" && matches!(before(1), "(" | ",");
            let is_reset = before(1) == "set" && next == "=";
            if next != "." && next != "[" && next != "is" && !is_keyword_argument && !is_reset {
                return Err(format!("the namespace `{word}` is used as a value"));
            }
        }
    }
    Ok(())
}

/// Copies the inside of a tag, with calls of the checking functions around what builds a list or
/// mapping and around the operands of `+`, `*` and `~`.
fn wrap(inner: &str, words: &[&str], tokens: &[Token], is_set: bool, out: &mut String) {
    let operands = Operands::new(words, tokens);
    // (first token, last token, function), both included
    let mut calls: Vec<(usize, usize, &str)> = Vec::new();
    let mut open: Vec<Bracket> = Vec::new();
    let mut assign = None;
    let mut set_tuple = false;
    let mut last = words.len().saturating_sub(1);
    for (index, (&word, token)) in words.iter().zip(tokens).enumerate() {
        if token.kind == Kind::Word && !word.starts_with(|c: char| c.is_ascii_digit()) {
            open.iter_mut().for_each(|bracket| bracket.has_names = true);
        }
        if token.kind != Kind::Sign {
            continue;
        }
        match word {
            "(" | "[" | "{" => open.push(Bracket {
                index,
                is_list: word != "(",
                has_names: false,
            }),
            ")" | "]" | "}" => {
                if let Some(bracket) = open.pop() {
                    // A literal of nothing but literals cannot grow.
                    let is_literal =
                        !operands.is_postfix(bracket.index) && !operands.is_target(bracket.index);
                    if is_literal && bracket.is_list && bracket.has_names {
                        calls.push((bracket.index, index, CHECK));
                    }
                }
            }
            "," => match open.last_mut() {
                Some(bracket) => bracket.is_list = true,
                None => set_tuple |= assign.is_some(),
            },
            "=" if is_set && open.is_empty() && assign.is_none() => assign = Some(index),
            "-" | "+" if index + 1 == words.len() && index > 0 => last = index - 1,
            "+" | "*" | "~" => {
                let function = match word {
                    "+" => TERM,
                    "*" => FACTOR,
                    _ => TEXT,
                };
                if let (Some(left), Some(right)) = (operands.before(index), operands.after(index)) {
                    for (first, last) in [left, right] {
                        let is_constant = first == last && tokens[first].kind == Kind::Text;
                        if !is_constant {
                            calls.push((first, last, function));
                        }
                    }
                }
            }
            _ => {}
        }
    }
    // (position in the text, opening before closing, text); of calls that begin at the same
    // place the longest is the outermost.
    let mut insert: Vec<(usize, String)> = Vec::new();
    calls.sort_by_key(|&(first, last, _)| (first, std::cmp::Reverse(last)));
    if let (true, Some(assign)) = (set_tuple, assign) {
        insert.push((tokens[assign].end, format!(" {CHECK}((")));
        insert.push((tokens[last].end, "))".to_owned()));
    }
    for (first, last, function) in calls {
        insert.push((tokens[first].start, format!("{function}(")));
        insert.push((tokens[last].end, ")".to_owned()));
    }
    insert.sort_by_key(|(at, _)| *at);
    let mut copied = 0;
    for (at, text) in insert {
        out.push_str(&inner[copied..at]);
        out.push_str(&text);
        copied = at;
    }
    out.push_str(&inner[copied..]);
}

struct Bracket {
    index: usize,
    /// Not just parentheses around one expression.
    is_list: bool,
    has_names: bool,
}

/// Finds the operands of an operator: names, literals and brackets with the attributes,
/// subscripts, calls and filters that follow them.
struct Operands<'a> {
    words: &'a [&'a str],
    tokens: &'a [Token],
    /// For each bracket the one that belongs to it.
    partner: Vec<Option<usize>>,
}

impl<'a> Operands<'a> {
    fn new(words: &'a [&'a str], tokens: &'a [Token]) -> Self {
        let mut partner = vec![None; words.len()];
        let mut open = Vec::new();
        for (index, (&word, token)) in words.iter().zip(tokens).enumerate() {
            match word {
                "(" | "[" | "{" if token.kind == Kind::Sign => open.push(index),
                ")" | "]" | "}" if token.kind == Kind::Sign => {
                    if let Some(opening) = open.pop() {
                        partner[opening] = Some(index);
                        partner[index] = Some(opening);
                    }
                }
                _ => {}
            }
        }
        Self {
            words,
            tokens,
            partner,
        }
    }

    fn is(&self, index: usize, sign: &str) -> bool {
        self.tokens
            .get(index)
            .is_some_and(|token| token.kind == Kind::Sign && self.words[index] == sign)
    }

    /// A name or a literal, and no word of the language.
    fn is_atom(&self, index: usize) -> bool {
        match self.tokens.get(index).map(|token| token.kind) {
            None | Some(Kind::Sign) => false,
            Some(Kind::Text) => true,
            Some(Kind::Word) => {
                (index > 0 && self.is(index - 1, "."))
                    || !matches!(
                        self.words[index],
                        "in" | "not" | "and" | "or" | "if" | "elif" | "else" | "is" | "for" | "set"
                    )
            }
        }
    }

    /// Whether an opening bracket is a call or a subscript.
    fn is_postfix(&self, index: usize) -> bool {
        let Some(before) = index.checked_sub(1) else {
            return false;
        };
        !self.is(index, "{")
            && (self.is_atom(before)
                || (self.is(before, ")") || self.is(before, "]") || self.is(before, "}")))
    }

    /// Whether an opening bracket holds the targets of `for (a, b) in` or `set (a, b) =`.
    fn is_target(&self, index: usize) -> bool {
        index
            .checked_sub(1)
            .is_some_and(|before| matches!(self.words[before], "for" | "set"))
    }

    /// First and last token of the operand that ends before `operator`.
    fn before(&self, operator: usize) -> Option<(usize, usize)> {
        let last = operator.checked_sub(1)?;
        let mut at = last;
        loop {
            // Now at the last token of a name, literal or bracket.
            if let Some(opening) = self.partner[at].filter(|&opening| opening < at) {
                at = opening;
                if self.is_postfix(at) {
                    at -= 1;
                    continue;
                }
            } else if !self.is_atom(at) {
                return None;
            }
            match at.checked_sub(1) {
                Some(before) if self.is(before, ".") || self.is(before, "|") => {
                    at = before.checked_sub(1)?;
                }
                _ => return Some((at, last)),
            }
        }
    }

    /// First and last token of the operand that begins after `operator`.
    fn after(&self, operator: usize) -> Option<(usize, usize)> {
        let mut first = operator + 1;
        while self.is(first, "-") || self.is(first, "+") {
            first += 1;
        }
        let mut at = first;
        if let Some(closing) = self.partner.get(at).copied().flatten() {
            at = closing;
        } else if !self.is_atom(at) {
            return None;
        }
        loop {
            let next = at + 1;
            if self.is(next, ".") || self.is(next, "|") {
                at = next + 1;
                self.words.get(at)?;
            } else if (self.is(next, "(") || self.is(next, "[")) && self.partner[next].is_some() {
                at = self.partner[next]?;
            } else {
                return Some((first, at)).filter(|_| first <= at);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(source: &str, want: &str) {
        let got = instrument(source).unwrap();
        let short = [(CHECK, "C"), (TERM, "T"), (FACTOR, "F"), (TEXT, "S")];
        let got = short
            .iter()
            .fold(got, |got, (name, short)| got.replace(name, short));
        assert_eq!(got, want);
    }

    #[track_caller]
    fn same(source: &str) {
        check(source, source);
    }

    #[test]
    fn literals_are_wrapped() {
        check("{{ [a, b] }}", "{{ C([a, b]) }}");
        check(
            "{% set x = [[a]] + y %}",
            "{% set x = C(T([C([a])])) + T(y) %}",
        );
        check("{%- set x = a, b -%}", "{%- set x = C(( a, b)) -%}");
        check("{{ {'a': {'b': x}} }}", "{{ C({'a': C({'b': x})}) }}");
        check("{{ f((a, b)) }}", "{{ f(C((a, b))) }}");
        check("{% if x in (a, b) %}", "{% if x in C((a, b)) %}");
    }

    #[test]
    fn operands_are_wrapped() {
        check("{{- 'a' + b.c -}}", "{{- 'a' + T(b.c) -}}");
        check(
            "{{ a['b'] + c(d, e).f | g(h) + i }}",
            "{{ T(a['b']) + T(T(c(d, e).f | g(h))) + T(i) }}",
        );
        check("{{ (a ~ b) ~ -c }}", "{{ S((S(a) ~ S(b))) ~ -S(c) }}");
        check("{{ x if a * 2 else b }}", "{{ x if F(a) * F(2) else b }}");
        check(
            "{{ a | trim + '\n' }}{{ a is b and c ~ 'd' }}",
            "{{ T(a | trim) + '\n' }}{{ a is b and S(c) ~ 'd' }}",
        );
        check("{{ [a].b ~ c }}", "{{ S(C([a]).b) ~ S(c) }}");
        check(
            "{%- set x = m['in'] + x.if + (not y) %}",
            "{%- set x = T(m['in']) + T(T(x.if)) + T((not y)) %}",
        );
        same("{%+ if a +%}{{ f(*a) }}{{ a ** b }}{{ 'a' ~ 'b' }}{{ (+1) }}");
    }

    #[test]
    fn other_brackets_are_not() {
        same("{{ messages[0]['role'] }}{{ f(a, b)[c](d) }}{{ (a) }}");
        same("{% for (k, v) in x.items() %}{% for m in x[1:] %}");
        same("{% macro f(a, b) %}{{ ['a', 1] }}{{ 'x'[a] }}");
        same("{# [a] #}[a] {a} {% raw %}{{ [a] }}{% endraw %}{{ '[a]}}' }}{ {");
        same("{% set ns = namespace(a=1) %}{% set ns.a = ns.a - 1 %}");
    }

    #[test]
    fn broken_sources_pass() {
        for source in [
            "{{", "{%", "{{ '", "{{ [a", "{{ a] }", "{%raw%}", "{{ ) }}", "{#", "{",
        ] {
            assert_eq!(instrument(source).unwrap(), source);
        }
    }

    #[test]
    fn generation_blocks() {
        check(
            "{%- generation -%}a{% endgeneration %}",
            "{%- if true -%}a{% endif %}",
        );
    }

    #[test]
    fn namespaces_are_no_values() {
        for source in [
            "{% set ns = namespace() %}\n{% set ns.a = ns %}",
            "{% set ns = namespace() %}\n{{ [ns] }}",
            "\n{{ namespace() }}",
            "\n{% set f = namespace %}",
        ] {
            assert_eq!(instrument(source).unwrap_err().0, 2, "{source}");
        }
    }
}
