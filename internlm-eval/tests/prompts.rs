//! Prompts beyond the goldens: chat templates, prefixes of answers, choosers of examples, several answers and turns.

#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use common::{said, scored};
use internlm_core::chat_model::Input;
use internlm_core::message::join;
use internlm_core::scorer::{ModelFacts, ScoreRequest, Scorer, TokenScore, Tokens};
use internlm_core::{Message, Part, Role, ToolSpec};
use internlm_eval::task::ChatOptions;
use internlm_eval::{Benchmark, Item, Request, Task, TaskOptions, TaskSpec};

const ROWS: &str = r#"{"q": "one", "c": ["x", "yy"], "g": 0, "w": "red apple"}
{"q": "two", "c": ["x", "yy"], "g": 1, "w": "green pear"}
{"q": "three", "c": ["x", "yy"], "g": 0, "w": "red pear"}
{"q": "four", "c": ["x", "yy"], "g": 1, "w": "blue sky"}
"#;

fn task(toml: &str, options: &TaskOptions) -> Task {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("t.jsonl"), ROWS).unwrap();
    let toml = format!("name = 't'\ndata.file = 't.jsonl'\n{toml}");
    let spec = TaskSpec::from_toml(&toml, "t.toml".as_ref()).unwrap();
    Task::new(&spec, None, folder.path(), options).unwrap()
}

const CHOICE: &str = r#"
mode = "multiple_choice"
description = "Say it.\n\n"
prompt = "Q: {{ q }}\nA:"
choices = "c"
gold = "g"
"#;

/// A scorer that only renders: `<role>content` one after the other.
struct Renders(ModelFacts);

impl Scorer for Renders {
    fn score(&self, _: &[ScoreRequest]) -> internlm_core::Result<Vec<Vec<TokenScore>>> {
        Ok(Vec::new())
    }

    fn score_rolling(&self, _: &[Tokens]) -> internlm_core::Result<Vec<Vec<TokenScore>>> {
        Ok(Vec::new())
    }

    fn encode_parts(&self, parts: &[Part], _: bool) -> internlm_core::Result<Vec<u32>> {
        Ok(join(parts).bytes().map(u32::from).collect())
    }

    fn render_chat(
        &self,
        messages: &[Message],
        _: &[ToolSpec],
        add_generation_prompt: bool,
    ) -> internlm_core::Result<Vec<Part>> {
        let mut parts = Vec::new();
        for message in messages {
            parts.push(Part::marker(format!("<{}>", message.role.as_str())));
            parts.push(Part::text(message.text()));
        }
        if add_generation_prompt {
            parts.push(Part::marker("<assistant>"));
        }
        Ok(parts)
    }

    fn facts(&self) -> &ModelFacts {
        &self.0
    }
}

fn scored_pair(item: &Item) -> (String, &str) {
    match &item.requests[0] {
        Request::Loglikelihood {
            context,
            continuation,
        } => (context.spelled().into_owned(), continuation),
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn check_chat(more: &str, chat: ChatOptions, context: &str, continuation: &str) {
    let options = TaskOptions {
        rows: Some(vec![3]),
        chat: Some(chat),
        ..TaskOptions::default()
    };
    let toml = format!("{CHOICE}{more}\n[fewshot]\nshots = 1\nsampler = 'first_n'");
    let items = task(&toml, &options)
        .items(Some(&Renders(ModelFacts::default())))
        .unwrap();
    assert_eq!(scored_pair(&items[0]), (context.to_owned(), continuation));
}

#[test]
fn special_tokens_of_a_chat_template_are_markers_and_those_of_a_row_are_not() {
    let options = TaskOptions {
        rows: Some(vec![3]),
        chat: Some(ChatOptions::default()),
        ..TaskOptions::default()
    };
    let toml = CHOICE.replace("Q: {{ q }}", "Q: <user> {{ q }}");
    let items = task(&toml, &options)
        .items(Some(&Renders(ModelFacts::default())))
        .unwrap();
    let Request::Loglikelihood { context, .. } = &items[0].requests[0] else {
        panic!("{:?}", items[0].requests);
    };
    let want = vec![
        Part::marker("<system>"),
        Part::text("Say it.\n\n"),
        Part::marker("<user>"),
        Part::text("Q: <user> four\nA:"),
        Part::marker("<assistant>"),
    ];
    assert_eq!(context, &Tokens::Parts(want));
}

#[test]
fn chat_templates() {
    let one = ChatOptions::default();
    let turns = ChatOptions {
        system: Some("Be kind.".to_owned()),
        multi_turn: true,
    };
    check_chat(
        "",
        one.clone(),
        "<system>Say it.\n\n<user>Q: one\nA: x\n\nQ: four\nA:<assistant>",
        "x",
    );
    check_chat(
        "",
        turns.clone(),
        "<system>Be kind.\n\nSay it.\n\n<user>Q: one\nA:<assistant>x<user>Q: four\nA:<assistant>",
        "x",
    );
    // What the answer begins with is the assistant's; the delimiter stands after it again.
    check_chat(
        "answer_prefix = 'It is'",
        one,
        "<system>Say it.\n\n<user>Q: one\nA: It is x\n\nQ: four\nA:<assistant>It is",
        " x",
    );
    check_chat(
        "answer_prefix = 'It is '",
        turns,
        "<system>Be kind.\n\nSay it.\n\n<user>Q: one\nA:<assistant>It is x<user>Q: four\nA:<assistant>It is ",
        "x",
    );
}

#[track_caller]
fn check_shots(fewshot: &str, row: usize, want: &[&str]) {
    let options = TaskOptions {
        rows: Some(vec![row]),
        ..TaskOptions::default()
    };
    let items = task(&format!("{CHOICE}\n[fewshot]\n{fewshot}"), &options)
        .items(None)
        .unwrap();
    let (context, _) = scored_pair(&items[0]);
    let questions: Vec<&str> = context
        .split("Q: ")
        .skip(1)
        .map(|part| part.split('\n').next().unwrap())
        .collect();
    assert_eq!(questions[..questions.len() - 1], *want, "{context}");
}

#[test]
fn choosers_of_examples() {
    check_shots("shots = 2\nsampler = 'first_n'", 0, &["one", "two"]);
    check_shots(
        "shots = 2\nsampler = 'first_n'\nleave_self_out = true",
        0,
        &["two", "three"],
    );
    check_shots(
        "shots = 2\nsampler = 'fixed'\nids = [3, 1]",
        0,
        &["four", "two"],
    );
    check_shots("shots = 0", 0, &[]);
    check_shots("shots = 2\nsampler = 'zero'", 0, &[]);
    // A word that half of the rows have weighs nothing; equal ones keep their order.
    let bm25 = "shots = 2\nsampler = 'bm25'\nquery = '{{ w }}'\nleave_self_out = true";
    check_shots(bm25, 3, &["one", "two"]);
    let own = "shots = 1\nsampler = 'bm25'\nquery = '{{ q }} {{ w }}'";
    check_shots(own, 2, &["three"]);
    check_shots(own, 1, &["two"]);
    // random.Random(1234).sample(range(4), 3) is [3, 0, 2] in CPython, of which the item itself is left out.
    check_shots("shots = 2\nleave_self_out = true", 0, &["four", "three"]);
    check_shots("shots = 3", 1, &["four", "one", "three"]);
}

#[test]
fn prompts_of_generation() {
    let toml = r#"
mode = "chat"
prompt = "{{ q }}?"
gold = "c[g]"
samples = 2
temperature = 0.7
max_tokens = 9
[[metric]]
name = "exact_match"
[[filter]]
name = "vote"
steps = ["remove_whitespace", "majority_vote"]
"#;
    let task = task(toml, &TaskOptions::default());
    let items = task.items(None).unwrap();
    let Request::Generate {
        input: Input::Messages(messages),
        sampling,
        samples: 2,
        follow_ups,
    } = &items[0].requests[0]
    else {
        panic!("{:?}", items[0]);
    };
    assert_eq!((messages.len(), messages[0].role), (1, Role::User));
    assert_eq!(messages[0].text(), "one?");
    assert_eq!(
        (sampling.max_new_tokens, sampling.temperature),
        (Some(9), 0.7)
    );
    assert!(sampling.stop.is_empty() && follow_ups.is_empty());
    let sample = task.judge(&items[0], &[said(" x ")], None).unwrap();
    assert_eq!(sample.correct, Some(true));
    assert_eq!(sample.metrics["exact_match,vote"], 1.0);
    let wrong = task.judge(&items[0], &[said("")], None).unwrap();
    assert_eq!(
        (wrong.correct, wrong.note.as_deref()),
        (Some(false), Some("the answer is empty"))
    );
    assert!(task.judge(&items[0], &[scored(0.0, true)], None).is_err());
    assert!(task.judge(&items[0], &[], None).is_err());
}

#[test]
fn turns_and_mutual_information() {
    let turns =
        "mode = 'multi_turn'\nturns = '[q, w]'\ngold = 'w'\nmetric = [{ name = 'contains' }]";
    let items = task(turns, &TaskOptions::default()).items(None).unwrap();
    let Request::Generate { follow_ups, .. } = &items[1].requests[0] else {
        panic!("{:?}", items[1]);
    };
    assert_eq!(follow_ups, &["green pear"]);

    let gain = format!(
        "{CHOICE}metric = [{{ name = 'acc' }}, {{ name = 'acc_mutual_info' }}, {{ name = 'brier_score' }}]"
    );
    let task = task(&gain, &TaskOptions::default());
    let item = &task.items(None).unwrap()[0];
    assert_eq!(item.requests.len(), 4);
    assert_eq!(
        item.requests[3],
        Request::Loglikelihood {
            context: "".into(),
            continuation: " yy".into()
        }
    );
    let responses = [-2.0, -1.0, -5.0, -1.0].map(|ll| scored(ll, false));
    let sample = task.judge(item, &responses, None).unwrap();
    assert_eq!(
        (&sample.metrics["acc"], &sample.metrics["acc_mutual_info"]),
        (&0.0.into(), &1.0.into())
    );
    let share = 1.0 / (1.0 + 1f64.exp());
    let brier = sample.metrics["brier_score"].as_f64().unwrap();
    assert!((brier - 2.0 * (1.0 - share).powi(2)).abs() < 1e-9);
    let scores = task.scores(&[sample]);
    assert_eq!(
        scores.iter().map(|score| score.stderr).collect::<Vec<_>>(),
        [None, None, None]
    );
}
