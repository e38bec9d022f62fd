//! `${NAME}` in an `mcpServers` file, so that secrets need not stand in it.

/// The text with `${NAME}`, `${env:NAME}` and `${NAME:-otherwise}` replaced by what `lookup` has for the name.
///
/// # Errors
/// What is wrong: a variable that is not set, or a bracket that is not closed.
pub(super) fn expand(
    text: &str,
    lookup: &dyn Fn(&str) -> Option<String>,
) -> Result<String, String> {
    let mut expanded = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${") {
        expanded.push_str(before);
        let (inner, after) = after
            .split_once('}')
            .ok_or("a `${` is not closed by a `}`")?;
        let (name, otherwise) = match inner.split_once(":-") {
            Some((name, otherwise)) => (name, Some(otherwise)),
            None => (inner, None),
        };
        let name = name.strip_prefix("env:").unwrap_or(name);
        let value = lookup(name).or(otherwise.map(str::to_owned));
        let value = value.ok_or_else(|| format!("the variable `{name}` is not set"))?;
        expanded.push_str(&value);
        rest = after;
    }
    expanded.push_str(rest);
    Ok(expanded)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, want: Result<&str, &str>) {
        let lookup = |name: &str| (name == "KEY").then(|| "${KEY}".to_owned());
        let got = expand(text, &lookup);
        assert_eq!(got.as_deref().map_err(String::as_str), want);
    }

    #[test]
    fn variables_are_replaced_once() {
        check("plain $KEY {KEY}", Ok("plain $KEY {KEY}"));
        check("a ${KEY} b ${env:KEY}", Ok("a ${KEY} b ${KEY}"));
        check("${NONE:-x y}${KEY:-z}", Ok("x y${KEY}"));
        check("${NONE:-}", Ok(""));
        check("${NONE}", Err("the variable `NONE` is not set"));
        check("${input:key}", Err("the variable `input:key` is not set"));
        check("${KEY", Err("a `${` is not closed by a `}`"));
    }
}
