//! The list of tools as a page.

use std::fmt::Write;

use serde_json::Value;

use super::CatalogEntry;

/// How deep arguments within arguments are shown.
const DEPTH: usize = 4;

/// The page: a table of all, then a section for each.
pub fn markdown(entries: &[CatalogEntry]) -> String {
    let mut page = String::from(HEAD);
    for entry in entries {
        let name = &entry.spec.name;
        let feature = entry.feature.map_or(String::new(), |f| format!("`{f}`"));
        let set = if entry.in_default_set { "yes" } else { "" };
        let asks = if entry.approval { "yes" } else { "" };
        let first = first_sentence(&entry.spec.description);
        line(
            &mut page,
            &format!(
                "| [`{name}`](#{name}) | {} | {feature} | {set} | {asks} |",
                cell(first)
            ),
        );
    }
    for entry in entries {
        page.push('\n');
        page.push_str(&section(entry));
    }
    page
}

const HEAD: &str = "\
# Tools

<!-- Made from the catalog in `internlm-agent/src/tools/catalog.rs`:
INTERNLM_WRITE_DOCS=1 cargo test -p internlm-agent --features async,documents,fetch,images,mcp,sandbox --test tools -->

The tools that come with `internlm-agent`. Each is something that implements `Tool`, with limits that can be set; the
numbers below are the defaults. `tools::default_set(&root)` has those that need no feature, change nothing and read
only what is below a folder; any other is added by name. Where *asks* says yes, a run stops for approval before each
call. How to write one: [agents](agents.md#a-tool-in-ten-lines). Every operation of an
[OpenAPI document](agents.md#tools-of-a-service-with-an-openapi-document) is one, too.

| tool | what it does | feature | default set | asks |
|---|---|---|---|---|
";

/// One tool: what the model is told, its arguments and its limits.
pub fn section(entry: &CatalogEntry) -> String {
    let mut text = format!("## {}\n\n{}\n\n", entry.spec.name, entry.spec.description);
    let schema = &entry.spec.parameters;
    let mut rows = Vec::new();
    arguments(schema, schema, "", DEPTH, &mut rows);
    if rows.is_empty() {
        text.push_str("It takes no arguments.\n");
    } else {
        text.push_str("| argument | type | meaning |\n|---|---|---|\n");
        for row in rows {
            line(&mut text, &row);
        }
    }
    let feature = match entry.feature {
        Some(feature) => format!(" (feature `{feature}`)"),
        None => String::new(),
    };
    line(
        &mut text,
        &format!("\nMade by: `{}`{feature}.", entry.made_by),
    );
    line(&mut text, &format!("\nLimits: {}", entry.limits));
    text
}

fn line(text: &mut String, line: &str) {
    // Writing to a string does not fail.
    writeln!(text, "{line}").ok();
}

/// A row for each argument, and for each argument within it.
fn arguments(root: &Value, schema: &Value, path: &str, depth: usize, rows: &mut Vec<String>) {
    let Some(properties) = schema["properties"].as_object() else {
        return;
    };
    let required: Vec<&str> = schema["required"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    for (name, property) in properties {
        let target = resolved(root, property);
        let described = [property, target].map(|schema| schema["description"].as_str());
        let meaning = described.into_iter().flatten().next().unwrap_or_default();
        let optional = match required.contains(&name.as_str()) {
            true => "",
            false => ", optional",
        };
        rows.push(format!(
            "| `{path}{name}` | {}{optional} | {} |",
            cell(&type_of(root, property)),
            cell(meaning)
        ));
        if depth > 0 {
            let (inner, path) = match is_array(target) {
                true => (resolved(root, &target["items"]), format!("{path}{name}[].")),
                false => (target, format!("{path}{name}.")),
            };
            arguments(root, inner, &path, depth - 1, rows);
        }
    }
}

/// A schema behind references and behind "or null".
fn resolved<'a>(root: &'a Value, schema: &'a Value) -> &'a Value {
    let mut at = schema;
    for _ in 0..DEPTH {
        let other = at["anyOf"].as_array().and_then(|options| {
            let mut options = options.iter().filter(|option| option["type"] != "null");
            options.next().filter(|_| options.next().is_none())
        });
        let named = at["$ref"].as_str().and_then(|path| path.strip_prefix('#'));
        match (other, named.and_then(|path| root.pointer(path))) {
            (Some(next), _) | (None, Some(next)) => at = next,
            (None, None) => break,
        }
    }
    at
}

/// Whether it is an array, or one or null.
fn is_array(schema: &Value) -> bool {
    let kinds = schema["type"].as_array();
    schema["type"] == "array" || kinds.is_some_and(|kinds| kinds.iter().any(|kind| kind == "array"))
}

fn type_of(root: &Value, schema: &Value) -> String {
    let schema = resolved(root, schema);
    let words = |values: &[Value]| {
        let words = values.iter().map(|value| format!("`{value}`"));
        words.collect::<Vec<_>>().join(" or ")
    };
    if let Some(values) = schema["enum"].as_array() {
        return words(values);
    }
    if let Some(options) = schema["oneOf"].as_array().or(schema["anyOf"].as_array()) {
        let options = options.iter().map(|option| match option.get("const") {
            Some(value) => format!("`{value}`"),
            None => type_of(root, option),
        });
        return options.collect::<Vec<_>>().join(" or ");
    }
    if let Some(value) = schema.get("const") {
        return format!("`{value}`");
    }
    match &schema["type"] {
        Value::String(kind) if kind == "array" => {
            format!("array of {}", type_of(root, &schema["items"]))
        }
        Value::String(kind) => kind.clone(),
        Value::Array(kinds) => {
            let kinds = kinds.iter().filter_map(Value::as_str);
            let kinds: Vec<&str> = kinds.filter(|kind| *kind != "null").collect();
            match kinds.as_slice() {
                ["array"] => format!("array of {}", type_of(root, &schema["items"])),
                kinds => kinds.join(" or "),
            }
        }
        _ => "any".to_owned(),
    }
}

fn first_sentence(text: &str) -> &str {
    let paragraph = text.split("\n\n").next().unwrap_or_default();
    match paragraph.find(". ").or_else(|| paragraph.find(".\n")) {
        Some(end) => &paragraph[..=end],
        None => paragraph,
    }
}

/// A text that can stand in a table.
fn cell(text: &str) -> String {
    text.replace('\n', " ").replace('|', "\\|")
}

#[cfg(test)]
mod tests {
    use schemars::JsonSchema;
    use serde::Deserialize;

    use super::*;

    /// Does a thing. And more.
    ///
    /// At length.
    #[derive(Deserialize, JsonSchema)]
    #[expect(dead_code, reason = "only its schema is looked at")]
    struct Thing {
        /// How many | much.
        count: u32,
        name: Option<String>,
        /// Parts of it.
        #[serde(default)]
        parts: Option<Vec<Part>>,
        kind: Option<Kind>,
    }

    #[derive(Deserialize, JsonSchema)]
    #[expect(dead_code, reason = "only its schema is looked at")]
    struct Part {
        /// In metres.
        length: f64,
    }

    /// Which.
    #[derive(Deserialize, JsonSchema)]
    #[serde(rename_all = "snake_case")]
    enum Kind {
        Red,
        Blue,
    }

    #[test]
    fn a_section_shows_arguments_within_arguments() {
        let entry = CatalogEntry::of::<Thing>("thing", "tools::thing", "None.").with_feature("f");
        let want = "\
## thing

Does a thing. And more.

At length.

| argument | type | meaning |
|---|---|---|
| `count` | integer | How many \\| much. |
| `name` | string, optional |  |
| `parts` | array of object, optional | Parts of it. |
| `parts[].length` | number | In metres. |
| `kind` | `\"red\"` or `\"blue\"`, optional | Which. |

Made by: `tools::thing` (feature `f`).

Limits: None.
";
        assert_eq!(section(&entry), want);
        let page = markdown(&[entry]);
        assert!(
            page.contains("| [`thing`](#thing) | Does a thing. | `f` |  |  |\n"),
            "{page}"
        );
    }
}
