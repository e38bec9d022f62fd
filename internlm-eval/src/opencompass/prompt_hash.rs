//! The hash by which OpenCompass names versions of a configuration.

use serde_json::{Map, Value, json};

use super::prompt::{Entry, Turn};
use super::retriever::Retriever;
use super::spec::{Inferencer, Spec};
use super::template::PromptTemplate;
use crate::hash::sha256_hex;

/// SHA-256 of upstream's `infer_cfg`, in hex. The first six digits are the version in a summary, and stand in the
/// name of the configuration's file where it holds one data set.
///
/// It hashes what Python's `json.dumps(infer_cfg, sort_keys=True)` writes, with the classes that the configuration
/// names as texts, so a task that says the same as upstream's configuration has upstream's hash.
pub fn prompt_hash(spec: &Spec) -> String {
    let mut config = Map::new();
    if let Some(template) = &spec.ice_template {
        config.insert("ice_template".into(), template_config(template));
    }
    if let Some(template) = &spec.prompt_template {
        config.insert("prompt_template".into(), template_config(template));
    }
    let (retriever, fixed, count) = match &spec.retriever {
        Retriever::Zero => ("ZeroRetriever", None, None),
        Retriever::FixK { ids } => ("FixKRetriever", Some(ids), None),
        Retriever::Random { count, .. } => ("RandomRetriever", None, Some(count)),
        Retriever::Bm25 { count } => ("BM25Retriever", None, Some(count)),
        Retriever::SlidingWindow { count } => ("SlidingWindowRetriever", None, Some(count)),
    };
    let mut retriever = json!({"type": format!("opencompass.openicl.icl_retriever.{retriever}")});
    if let Some(count) = count {
        retriever["ice_num"] = json!(count);
    }
    config.insert("retriever".into(), retriever);
    let mut inferencer = match &spec.inferencer {
        Inferencer::Ppl {
            labels,
            normalizing_str,
            ..
        } => with(
            "PPLInferencer",
            [
                ("labels", labels.as_ref().map(|labels| json!(labels))),
                (
                    "normalizing_str",
                    normalizing_str.as_ref().map(|text| json!(text)),
                ),
            ],
        ),
        Inferencer::Ll { labels, .. } => with(
            "LLInferencer",
            [("labels", labels.as_ref().map(|labels| json!(labels)))],
        ),
        Inferencer::Clp => with("CLPInferencer", []),
        Inferencer::Gen {
            max_out_len,
            stopping_criteria,
            ..
        } => with(
            "GenInferencer",
            [
                ("max_out_len", max_out_len.map(|most| json!(most))),
                (
                    "stopping_criteria",
                    (!stopping_criteria.is_empty()).then(|| json!(stopping_criteria)),
                ),
            ],
        ),
    };
    // Upstream moves the list here before it hashes.
    if let Some(ids) = fixed {
        inferencer["fix_id_list"] = json!(ids);
    }
    config.insert("inferencer".into(), inferencer);
    let mut text = String::new();
    dump(&Value::Object(config), &mut text);
    sha256_hex(text.as_bytes())
}

/// The hash of several configurations: upstream's for a file that holds more than one data set.
pub fn joined_hash(hashes: &[String]) -> String {
    match hashes {
        [hash] => hash.clone(),
        _ => sha256_hex(hashes.join(",").as_bytes()),
    }
}

fn with<const N: usize>(class: &str, options: [(&str, Option<Value>); N]) -> Value {
    let mut config = json!({"type": format!("opencompass.openicl.icl_inferencer.{class}")});
    for (name, value) in options {
        if let Some(value) = value {
            config[name] = value;
        }
    }
    config
}

fn template_config(template: &PromptTemplate) -> Value {
    let body = |text: &Option<String>, begin: &[Entry], round: &[Entry], end: &[Entry]| match text {
        Some(text) => json!(text),
        None => {
            let mut dialogue = Map::new();
            for (name, entries) in [("begin", begin), ("round", round), ("end", end)] {
                match entries {
                    [] if name != "round" => continue,
                    [Entry::Text(text)] => dialogue.insert(name.into(), json!(text)),
                    _ => dialogue.insert(name.into(), entries.iter().map(entry_config).collect()),
                };
            }
            Value::Object(dialogue)
        }
    };
    let content = if template.labels.is_empty() {
        body(
            &template.text,
            &template.begin,
            &template.round,
            &template.end,
        )
    } else {
        let labels = template.labels.iter();
        labels
            .map(|label| {
                let body = body(&label.text, &label.begin, &label.round, &label.end);
                (label.label.clone(), body)
            })
            .collect::<Map<_, _>>()
            .into()
    };
    let mut config = json!({
        "type": "opencompass.openicl.icl_prompt_template.PromptTemplate",
        "template": content,
    });
    for (name, token) in [
        ("ice_token", &template.ice_token),
        ("sep_token", &template.sep_token),
    ] {
        if let Some(token) = token {
            config[name] = json!(token);
        }
    }
    config
}

fn entry_config(entry: &Entry) -> Value {
    match entry {
        Entry::Text(text) => json!(text),
        Entry::Turn(turn) => turn_config(turn),
    }
}

fn turn_config(turn: &Turn) -> Value {
    let mut config = json!({"role": turn.role});
    for (name, text) in [
        ("prompt", &turn.prompt),
        ("fallback_role", &turn.fallback_role),
        ("begin", &turn.begin),
        ("end", &turn.end),
        ("api_role", &turn.api_role),
    ] {
        if let Some(text) = text {
            config[name] = json!(text);
        }
    }
    if let Some(generate) = turn.generate {
        config["generate"] = json!(generate);
    }
    config
}

/// As Python's `json.dumps(value, sort_keys=True)` writes it.
fn dump(value: &Value, text: &mut String) {
    match value {
        Value::Array(values) => {
            text.push('[');
            for (i, value) in values.iter().enumerate() {
                if i > 0 {
                    text.push_str(", ");
                }
                dump(value, text);
            }
            text.push(']');
        }
        Value::Object(fields) => {
            let mut fields: Vec<_> = fields.iter().collect();
            fields.sort_by_key(|(name, _)| *name);
            text.push('{');
            for (i, (name, value)) in fields.into_iter().enumerate() {
                if i > 0 {
                    text.push_str(", ");
                }
                dump_text(name, text);
                text.push_str(": ");
                dump(value, text);
            }
            text.push('}');
        }
        Value::String(string) => dump_text(string, text),
        other => text.push_str(&other.to_string()),
    }
}

fn dump_text(string: &str, text: &mut String) {
    text.push('"');
    for unit in string.encode_utf16() {
        match unit {
            0x22 => text.push_str("\\\""),
            0x5c => text.push_str("\\\\"),
            0x0a => text.push_str("\\n"),
            0x0d => text.push_str("\\r"),
            0x09 => text.push_str("\\t"),
            0x08 => text.push_str("\\b"),
            0x0c => text.push_str("\\f"),
            0x20..=0x7e => text.push(char::from(unit as u8)),
            _ => text.push_str(&format!("\\u{unit:04x}")),
        }
    }
    text.push('"');
}
