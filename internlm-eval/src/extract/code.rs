//! Code out of answers: HumanEval and MBPP as OpenCompass reads them. Nothing is run here.

use std::sync::LazyLock;

use crate::error::Result;
use crate::extract::python_literal;
use crate::pattern::{Flags, Pattern};
use crate::python_text::{is_word, lstrip, rstrip, strip};

/// The bodies of fenced blocks: three backticks, perhaps a word, a line feed, and all up to the next three backticks.
fn fenced_blocks(text: &str) -> Vec<&str> {
    let mut blocks = Vec::new();
    let mut rest = text;
    while let Some(open) = rest.find("```") {
        let after = &rest[open + 3..];
        let body = after.trim_start_matches(is_word).strip_prefix('\n');
        match body.and_then(|body| body.split_once("```")) {
            Some((block, tail)) => {
                blocks.push(block);
                rest = tail;
            }
            // The fence may begin at the next backtick.
            None => rest = &rest[open + 1..],
        }
    }
    blocks
}

/// `humaneval_postprocess_v2`: the first fenced block or the text, without leading blanks.
pub fn humaneval_first(text: &str) -> String {
    lstrip(fenced_blocks(text).first().unwrap_or(&text)).to_owned()
}

/// `humaneval_postprocess_v3`: the last fenced block or the text, without leading blanks.
pub fn humaneval_last(text: &str) -> String {
    lstrip(fenced_blocks(text).last().unwrap_or(&text)).to_owned()
}

/// `humaneval_internal_v2_postprocess`: the indented lines at the start, up to two blank lines or a fence.
pub fn humaneval_internal_v2(text: &str) -> String {
    // Three blanks of indentation are taken for four that lost one.
    let mended = if text.starts_with("   ") && !text.starts_with("    ") {
        format!(" {text}")
    } else {
        text.to_owned()
    };
    let body = mended.split("\n\n\n").next().unwrap_or_default();
    let body = body.split("\n```").next().unwrap_or_default();
    let lines = body
        .split('\n')
        .take_while(|line| line.is_empty() || line.starts_with(' '));
    lines.collect::<Vec<_>>().join("\n")
}

/// `humaneval_internal_v1_postprocess`: the body of the function, indented by four, whatever stands around it. Upstream
/// evaluates the text; here only a string literal is read as what it means.
pub fn humaneval_internal_v1(text: &str) -> String {
    let literal = python_literal::string(text);
    let mut text = literal
        .as_deref()
        .unwrap_or(text)
        .trim_start_matches('\n')
        .to_owned();
    if text.contains("```") {
        text = first_block(&text);
    }
    if (strip(&text).starts_with("from") || strip(&text).starts_with("import"))
        && let Some(def) = text.find("def")
    {
        text = text[after_line_feed(&text, def)..].to_owned();
    }
    let lines: Vec<&str> = text.split('\n').filter(|line| !line.is_empty()).collect();
    text = lines.join("\n").trim_start_matches('\n').to_owned();
    if strip(&text).starts_with("def") {
        text = text
            .split_once('\n')
            .map(|(_, body)| body.to_owned())
            .unwrap_or_default();
    }
    text = if text.starts_with(' ') {
        format!("    {}", lstrip(&text))
    } else {
        let lines: Vec<String> = text.split('\n').map(|line| format!("    {line}")).collect();
        lines.join("\n")
    };
    until_outdented(&text)
}

/// Between the first two fences; if the fence names a language, from the next line on.
fn first_block(text: &str) -> String {
    let mut parts = text.split("```").skip(1);
    let first = parts.next().unwrap_or_default();
    if parts.next().is_none() || first.starts_with('\n') {
        return first.to_owned();
    }
    first[after_line_feed(first, 0)..].to_owned()
}

/// After the first line feed at or after a position; 0 without one, as upstream has it.
fn after_line_feed(text: &str, from: usize) -> usize {
    text[from..].find('\n').map_or(0, |at| from + at + 1)
}

/// Up to the first line that stands further left than those before it; blank lines, comments and strings don't count.
fn until_outdented(text: &str) -> String {
    let mut least: Option<usize> = None;
    let mut kept = Vec::new();
    for line in text.split('\n') {
        let bare = strip(line);
        if !bare.is_empty() && !bare.starts_with(['\'', '"', '#']) {
            let indent = rstrip(line).chars().count() - bare.chars().count();
            match least {
                None => least = Some(indent),
                Some(least) if indent < least => break,
                Some(_) => {}
            }
        }
        kept.push(line);
    }
    kept.join("\n")
}

/// Marks around MBPP's programs, the surest first.
static MBPP: LazyLock<Vec<Pattern>> = LazyLock::new(|| {
    let marked = |quoted: &str| {
        let marks = [
            r"\[BEGIN\] \[DONE\]",
            r"BEGIN \[DONE\]",
            r"\[BEGIN\] DONE",
            "BEGIN DONE",
        ];
        marks.map(|marks| marks.replace(' ', &format!(r"\s*{quoted}\s*")))
    };
    let loose = [
        r"```python\s*(.*)\s*```",
        r"```\s*(.*)\s*```",
        r"```python\s*(.*)\s*\Z",
        r"```\s*(.*)\s*\Z",
        r"(.*)\s*```.*",
        r"\[BEGIN\]\s*'(.*)",
        r"\[BEGIN\](.*)",
        r"'(.*)'\s*\[DONE\]",
    ];
    let marked = ["'(.*)'", "'(.*)", "(.*)"].into_iter().flat_map(marked);
    let patterns = marked.chain(loose.map(str::to_owned));
    patterns
        .map(|pattern| Pattern::constant(&pattern, Flags::DOT_ALL))
        .collect()
});

static MBPP_END: LazyLock<Pattern> =
    LazyLock::new(|| Pattern::constant(r"'?\s*\[?DONE\]?", Flags::NONE));

/// `MBPPEvaluator._process_answer`: what stands between MBPP's marks or in a fenced block, without quotes.
///
/// # Errors
/// None in practice; the patterns are constants of linear time.
pub fn mbpp(text: &str) -> Result<String> {
    let mut program = text;
    for pattern in MBPP.iter() {
        if let Some(found) = pattern.search(text)? {
            program = found.group(text, 1).unwrap_or_default();
            break;
        }
    }
    let program = program.split("```").next().unwrap_or_default();
    let program = MBPP_END
        .split(program)?
        .first()
        .copied()
        .unwrap_or_default();
    Ok(strip(&program.replace("\\_", "_")).to_owned())
}

static HERE: LazyLock<Pattern> = LazyLock::new(|| Pattern::constant(r"Here(.*?)\n", Flags::NONE));
static DONE: LazyLock<Pattern> =
    LazyLock::new(|| Pattern::constant(r"('\s*|)(\[DONE\]|DONE)", Flags::NONE));
static BEGIN: LazyLock<Pattern> =
    LazyLock::new(|| Pattern::constant(r"(\[BEGIN\]|BEGIN)('\s*|)", Flags::NONE));

/// `MBPPEvaluator2._process_answer`: the first fenced block or the text without a line `Here ...`, up to a test, between
/// MBPP's marks.
///
/// # Errors
/// None in practice; the patterns are constants of linear time.
pub fn mbpp2(text: &str) -> Result<String> {
    let mut program = if text.contains("```") {
        first_block(text)
    } else {
        match HERE.search(text)? {
            Some(found) => {
                let (start, end) = found.span();
                format!("{}{}", &text[..start], &text[end..])
            }
            None => text.to_owned(),
        }
    };
    for test in ["# Test", "#Test", "#test", "# test"] {
        if let Some(at) = program.find(test) {
            program.truncate(at);
        }
    }
    let mut program = strip(&program);
    if let Some(found) = DONE.search(program)? {
        program = &program[..found.span().0];
    }
    if let Some(found) = BEGIN.search(program)? {
        program = &program[found.span().1..];
    }
    let program = strip(program);
    Ok(program.strip_prefix('\'').unwrap_or(program).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fences() {
        assert_eq!(fenced_blocks("````\na```"), ["a"]);
        assert_eq!(fenced_blocks("```a b\nx```y\nz```"), ["z"]);
        assert_eq!(humaneval_last("```\n 1\n```\n```py\n 2\n```"), "2\n");
    }

    #[test]
    fn a_string_literal_is_read_but_no_code_is_run() {
        assert_eq!(humaneval_internal_v1(r#""  return 1\n""#), "    return 1");
        let text = "__import__('os').system('true')";
        assert_eq!(humaneval_internal_v1(text), format!("    {text}"));
    }

    #[test]
    fn programs_of_mbpp() {
        assert_eq!(mbpp("[BEGIN]\nx\\_y = 1\n[DONE]\nmore").unwrap(), "x_y = 1");
        assert_eq!(mbpp("x = 'DONE'").unwrap(), "x =");
        assert_eq!(
            mbpp2("Here it is:\nx = 1\n# Test\nassert x").unwrap(),
            "x = 1"
        );
        let long = format!("[BEGIN]{}", "'[DONE".repeat(20_000));
        assert!(mbpp(&long).is_ok() && mbpp2(&long).is_ok());
    }
}
