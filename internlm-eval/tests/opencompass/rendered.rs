//! Combinations of templates, examples and meta templates, rendered by OpenCompass's own code.
//!
//! The fixture was made by running `PromptTemplate`, `BaseRetriever`, `LMTemplateParser` and `APITemplateParser` of
//! OpenCompass 0.5.2 on the templates in it. Where upstream raises an exception, an error or nothing at all is wanted.

use std::collections::BTreeMap;

use internlm_core::chat_model::Input;
use internlm_core::message::join;
use internlm_eval::opencompass::{
    Dialect, InferOptions, Inferencer, MetaTemplate, Mode, Prompt, PromptTemplate, Prompter,
    Retriever, Spec,
};
use internlm_eval::{Request, Row};
use serde::Deserialize;
use serde_json::Value;

#[derive(Deserialize)]
struct Fixture {
    metas: BTreeMap<String, MetaTemplate>,
    rows: Vec<Row>,
    templates: BTreeMap<String, PromptTemplate>,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    prompt: String,
    ice: Option<String>,
    ids: Vec<usize>,
    mode: Mode,
    label: Option<String>,
    #[serde(default)]
    error: bool,
    base: Option<String>,
    #[serde(flatten)]
    rendered: BTreeMap<String, Value>,
}

/// The text of the one request, or None for an error.
fn text(fixture: &Fixture, case: &Case, dialect: Dialect) -> Option<String> {
    let template = |name: &str| fixture.templates[name].clone();
    let spec = Spec {
        output_column: Some("label".into()),
        ice_template: case.ice.as_deref().map(template),
        prompt_template: Some(template(&case.prompt)),
        retriever: match &case.ice {
            None => Retriever::Zero,
            Some(_) => Retriever::FixK {
                ids: case.ids.clone(),
            },
        },
        inferencer: match case.mode {
            Mode::Ppl => Inferencer::Ppl {
                labels: case.label.clone().map(|label| vec![label]),
                absent: BTreeMap::new(),
                normalizing_str: None,
            },
            Mode::Gen => Inferencer::default(),
        },
        ..Spec::default()
    };
    let options = InferOptions {
        dialect,
        ..InferOptions::default()
    };
    let prompter = Prompter::new(&spec, &options, &fixture.rows, None);
    let items = prompter.items(&[(3, fixture.rows[3].clone())]).ok()?;
    match &items[0].requests[..] {
        [Request::Perplexity { text, .. }] => Some(text.spelled().into_owned()),
        [
            Request::Generate {
                input: Input::Prompt(parts),
                ..
            },
        ] => Some(join(parts)),
        other => panic!("{other:?}"),
    }
}

/// The prompt before any model's template.
fn prompt(fixture: &Fixture, case: &Case) -> Option<Prompt> {
    let template = &fixture.templates[&case.prompt];
    let none = Prompt::Text(String::new());
    // Only cases without examples are asked for as messages.
    match case.mode {
        Mode::Ppl => template
            .labelled(
                &fixture.rows[3],
                &none,
                case.label.as_deref().unwrap(),
                false,
            )
            .ok(),
        Mode::Gen => template
            .open(&fixture.rows[3], &none, Some("label"), "")
            .ok(),
    }
}

#[test]
fn combinations_are_rendered_as_upstream() {
    let fixture: Fixture = serde_json::from_str(include_str!("fixtures/rendered.json")).unwrap();
    let mut compared = 0;
    for case in &fixture.cases {
        let id = format!(
            "{} {:?} {:?} {:?}",
            case.prompt, case.ice, case.ids, case.mode
        );
        let base = text(&fixture, case, Dialect::Plain);
        if case.error {
            assert_eq!(base, None, "{id}");
            continue;
        }
        assert_eq!(base, case.base, "{id}");
        for (name, meta) in &fixture.metas {
            let got = text(&fixture, case, Dialect::Meta(meta.clone()));
            let want = case.rendered[name].as_str();
            assert_eq!(got.as_deref(), want, "{id} {name}");
            compared += 1;
            let (Some(want), true) = (
                case.rendered.get(&format!("api_{name}")),
                case.ice.is_none(),
            ) else {
                continue;
            };
            let messages = prompt(&fixture, case).and_then(|prompt| {
                let messages = meta.messages(&prompt, case.mode);
                Some((messages.ok()?, prompt))
            });
            let got = match messages {
                None => Value::Null,
                Some((None, prompt)) => prompt.plain().into(),
                Some((Some(messages), _)) => {
                    let begin = !meta.begin.is_empty();
                    let pairs = messages.into_iter().enumerate().map(|(i, message)| {
                        let role = if begin && i == 0 {
                            "<begin>".into()
                        } else {
                            message.role
                        };
                        serde_json::json!([role, message.prompt])
                    });
                    Value::Array(pairs.collect())
                }
            };
            assert_eq!(got, *want, "{id} api {name}");
        }
    }
    assert!(compared > 200, "{compared}");
}
