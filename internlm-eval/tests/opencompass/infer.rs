//! Examples that are dropped, scores that are normalised, continuations that are shared.

use internlm_core::message::{Message, Part};
use internlm_core::scorer::{ModelFacts, ScoreRequest, Scorer, TokenScore, Tokens};
use internlm_core::tool::ToolSpec;
use internlm_eval::opencompass::{
    Dialect, InferOptions, Inferencer, Judge, Prompter, Retriever, Spec, default_chat_template,
};
use internlm_eval::{Request, Response, Row};
use serde_json::{Value, json};

/// A model of words: a token for each, and one for BOS.
struct Words(ModelFacts);

impl Words {
    fn new(context_length: usize) -> Self {
        let mut facts = ModelFacts::default();
        facts.context_length = context_length;
        Self(facts)
    }
}

impl Scorer for Words {
    fn score(&self, _: &[ScoreRequest]) -> internlm_core::Result<Vec<Vec<TokenScore>>> {
        Ok(Vec::new())
    }

    fn score_rolling(&self, _: &[Tokens]) -> internlm_core::Result<Vec<Vec<TokenScore>>> {
        Ok(Vec::new())
    }

    fn encode_parts(&self, parts: &[Part], add_bos: bool) -> internlm_core::Result<Vec<u32>> {
        let words = |part: &Part| match part {
            Part::Text { text } => text.split_whitespace().count(),
            Part::Marker { .. } => 1,
        };
        let words: usize = parts.iter().map(words).sum();
        Ok(vec![1; words + usize::from(add_bos)])
    }

    fn render_chat(
        &self,
        messages: &[Message],
        _: &[ToolSpec],
        _: bool,
    ) -> internlm_core::Result<Vec<Part>> {
        let texts: Vec<String> = messages.iter().map(Message::text).collect();
        let said = Part::text(texts.join(" "));
        Ok(vec![
            Part::marker("<user>"),
            said,
            Part::marker("<assistant>"),
        ])
    }

    fn facts(&self) -> &ModelFacts {
        &self.0
    }
}

fn spec(value: Value) -> Spec {
    serde_json::from_value(value).unwrap()
}

fn row(value: Value) -> Row {
    value.as_object().unwrap().clone()
}

#[test]
fn examples_are_dropped_from_the_end() {
    let spec = spec(json!({
        "output_column": "a",
        "ice_template": {"text": "{q} {a}"},
        "prompt_template": {"text": "</E>{q}", "ice_token": "</E>"},
        "retriever": {"kind": "fix_k", "ids": [0, 1, 2]},
        "inferencer": {"kind": "gen"},
    }));
    let index: Vec<Row> = ["one", "two", "three"]
        .map(|q| row(json!({"q": q, "a": "x"})))
        .into();
    let item = (0, row(json!({"q": "last", "a": "y"})));
    for (length, examples) in [(8, 3), (7, 2), (6, 2), (5, 1), (3, 0), (1, 0)] {
        let scorer = Words::new(length);
        let options = InferOptions::default();
        let prompter = Prompter::new(&spec, &options, &index, Some(&scorer));
        let items = prompter.items(std::slice::from_ref(&item)).unwrap();
        let text = serde_json::to_string(&items[0].requests[0]).unwrap();
        assert_eq!(text.matches(" x").count(), examples, "{length}: {text}");
        // What ends the examples stays when none is left.
        assert!(text.contains("\\nlast"), "{text}");
    }
    // With a chat template its own words count too.
    let scorer = Words::new(8);
    let options = InferOptions {
        dialect: Dialect::Chat(None),
        ..InferOptions::default()
    };
    let prompter = Prompter::new(&spec, &options, &index, Some(&scorer));
    let text = serde_json::to_string(&prompter.items(&[item]).unwrap()[0].requests[0]).unwrap();
    assert_eq!(text.matches(" x").count(), 2, "{text}");
    assert_eq!(default_chat_template().round.len(), 3);
}

#[test]
fn a_normalised_score_is_a_difference() {
    let spec = spec(json!({
        "output_column": "a",
        "prompt_template": {"sep_token": "</S>", "labels": [
            {"label": "x", "text": "Is {q}?</S> yes"}, {"label": "y", "text": "Is {q}?</S> no way"}]},
        "inferencer": {"kind": "ppl", "normalizing_str": "Answer:"},
    }));
    let rows = [(0, row(json!({"q": "it so", "a": "y"})))];
    let options = InferOptions::default();
    assert!(
        Prompter::new(&spec, &options, &[], None)
            .items(&rows)
            .is_err()
    );
    let scorer = Words::new(100);
    let prompter = Prompter::new(&spec, &options, &[], Some(&scorer));
    let items = prompter.items(&rows).unwrap();
    let request = |text: &str, mask| Request::Perplexity {
        text: text.into(),
        mask_length: Some(mask),
    };
    assert_eq!(
        items[0].requests,
        [
            request("Is it so? yes", 4),
            request("Answer: yes", 2),
            request("Is it so? no way", 4),
            request("Answer: no way", 2)
        ]
    );
    let judge = Judge::new("t", &spec, &Dialect::Plain).unwrap();
    let labels = prompter.labels(&[]).unwrap();
    let values = [3.0, 1.0, 2.5, 1.0].map(|value| Response::Perplexity { value, tokens: 5 });
    let sample = judge.judge(&items[0], &labels, &values, None).unwrap();
    assert_eq!(
        (sample.prediction, sample.correct),
        (json!("y"), Some(true))
    );
}

/// ChatML.
fn meta() -> Dialect {
    Dialect::Meta(
        serde_json::from_value(json!({"round": [
            {"role": "HUMAN", "begin": "<|im_start|>user\n", "end": "<|im_end|>\n"},
            {"role": "BOT", "begin": "<|im_start|>assistant\n", "generate": true}]}))
        .unwrap(),
    )
}

#[test]
fn special_tokens_of_a_meta_template_are_scored_as_such_and_those_of_a_row_as_text() {
    let round = json!({"round": [
        {"role": "HUMAN", "prompt": "Is {q}?"}, {"role": "BOT", "prompt": "</S>{a}"}]});
    let mut spec = spec(json!({
        "output_column": "a",
        "prompt_template": {"sep_token": "</S>", "labels": [
            {"label": "x", "round": round["round"]}]},
        "inferencer": {"kind": "ppl", "normalizing_str": "Answer:"},
    }));
    let rows = [(
        0,
        row(json!({"q": "it <|im_end|> so", "a": "yes", "cont": "yes"})),
    )];
    let options = InferOptions {
        dialect: meta(),
        ..InferOptions::default()
    };
    let scorer = Words::new(100);
    let items = |spec: &Spec| {
        let prompter = Prompter::new(spec, &options, &[], Some(&scorer));
        prompter.items(&rows).unwrap().remove(0).requests
    };
    let context = || {
        vec![
            Part::marker("<|im_start|>"),
            Part::text("user\nIs it <|im_end|> so?"),
            Part::marker("<|im_end|>"),
            Part::text("\n"),
            Part::marker("<|im_start|>"),
            Part::text("assistant\n"),
        ]
    };
    let with = |answer: &str| {
        let mut parts = context();
        parts.push(Part::text(answer));
        Tokens::from(parts)
    };
    let [
        Request::Perplexity { text, mask_length },
        Request::Perplexity { text: alone, .. },
    ] = &items(&spec)[..]
    else {
        panic!("{:?}", items(&spec));
    };
    // Three markers, and user, Is, it, <|im_end|>, so?, assistant.
    assert_eq!((text, mask_length), (&with("yes"), &Some(3 + 6 + 1)));
    assert_eq!(alone, &Tokens::from("Answer:yes"));

    spec.inferencer = Inferencer::Ll {
        labels: None,
        upstream_quirk: false,
    };
    let text = json!({"labels": [{"label": "x", "round": [
        {"role": "HUMAN", "prompt": "Is {q}?"}, {"role": "BOT", "prompt": "{a}"}]}]});
    spec.prompt_template = serde_json::from_value(text).unwrap();
    let want = Request::Loglikelihood {
        context: context().into(),
        continuation: "yes".to_owned(),
    };
    assert_eq!(items(&spec), [want]);
}

#[test]
fn a_shared_continuation_is_scored_after_each_context() {
    let mut spec = spec(json!({
        "output_column": "answer",
        "prompt_template": {"labels": [{"label": "1", "text": "{opt1}"}, {"label": "2", "text": "{opt2}"}]},
        "inferencer": {"kind": "ll"},
    }));
    let rows = [(
        0,
        row(
            json!({"opt1": "Ann is ill.", "opt2": "Bob is ill.", "cont": " is ill.", "answer": "2"}),
        ),
    )];
    let options = InferOptions::default();
    let items = Prompter::new(&spec, &options, &[], None)
        .items(&rows)
        .unwrap();
    let request = |context: &str| Request::Loglikelihood {
        context: context.into(),
        continuation: " is ill.".into(),
    };
    assert_eq!(items[0].requests, [request("Ann"), request("Bob")]);
    let judge = Judge::new("t", &spec, &Dialect::Plain).unwrap();
    let labels = ["1".to_owned(), "2".to_owned()];
    let scores = [-2.0, -1.0].map(|logprob| Response::Scores {
        tokens: vec![TokenScore {
            id: 0,
            logprob,
            is_argmax: false,
        }],
    });
    let sample = judge.judge(&items[0], &labels, &scores, None).unwrap();
    assert_eq!(
        (sample.prediction, sample.correct),
        (json!("2"), Some(true))
    );

    // Upstream's newer wrapper leaves out the front, and as many tokens as the continuation has.
    spec.inferencer = Inferencer::Ll {
        labels: None,
        upstream_quirk: true,
    };
    let scorer = Words::new(100);
    let items = Prompter::new(&spec, &options, &[], Some(&scorer))
        .items(&rows)
        .unwrap();
    let masked = Request::Perplexity {
        text: "Ann is ill.".into(),
        mask_length: Some(2),
    };
    assert_eq!(items[0].requests[0], masked);
    let judge = Judge::new("t", &spec, &Dialect::Plain).unwrap();
    let values = [1.0, 2.0].map(|value| Response::Perplexity { value, tokens: 3 });
    let sample = judge.judge(&items[0], &labels, &values, None).unwrap();
    assert_eq!(sample.prediction, json!("1"));
}

#[test]
fn ties_go_to_the_first_label_and_absent_labels_are_left_out() {
    let mut spec = spec(json!({
        "output_column": "a",
        "prompt_template": {"labels": [{"label": "x", "text": "{p}"}, {"label": "y", "text": "{q}"}]},
        "inferencer": {"kind": "ppl", "absent": {"x": "p"}},
    }));
    let rows = [
        (0, row(json!({"p": null, "q": "q", "a": "y"}))),
        (1, row(json!({"p": "p", "q": "q", "a": "y"}))),
    ];
    let options = InferOptions::default();
    let items = Prompter::new(&spec, &options, &[], None)
        .items(&rows)
        .unwrap();
    assert_eq!((items[0].requests.len(), items[1].requests.len()), (1, 2));
    let judge = Judge::new("t", &spec, &Dialect::Plain).unwrap();
    let labels = ["x".to_owned(), "y".to_owned()];
    let tie = [1.0, 1.0].map(|value| Response::Perplexity { value, tokens: 1 });
    let sample = judge.judge(&items[1], &labels, &tie, None).unwrap();
    assert_eq!(sample.prediction, json!("x"));
    let sample = judge.judge(&items[0], &labels, &tie[..1], None).unwrap();
    assert_eq!(sample.prediction, json!("y"));
    assert!(judge.judge(&items[0], &labels, &tie, None).is_err());

    // A list of messages has no perplexity.
    let options = InferOptions {
        dialect: Dialect::Chat(None),
        ..InferOptions::default()
    };
    spec.prompt_template = serde_json::from_value(json!({"labels": [
        {"label": "x", "round": [{"role": "HUMAN", "prompt": "{p}"}]}]}))
    .unwrap();
    assert!(
        Prompter::new(&spec, &options, &[], None)
            .items(&rows)
            .is_err()
    );
}

#[test]
fn retrievers() {
    let index: Vec<Row> = ["the cat sat", "a dog ran", "the dog sat down", "birds fly"]
        .map(|q| row(json!({"q": q})))
        .into();
    let items: Vec<Row> = ["a dog", "birds", "cat"]
        .map(|q| row(json!({"q": q})))
        .into();
    let columns = ["q".to_owned()];
    let ids = |retriever: Retriever| retriever.retrieve(&index, &items, &columns).unwrap();
    assert_eq!(ids(Retriever::Zero), [[0_usize; 0]; 3]);
    assert_eq!(ids(Retriever::FixK { ids: vec![2, 0] }), [[2, 0]; 3]);
    assert_eq!(
        ids(Retriever::SlidingWindow { count: 2 }),
        [[2, 3], [3, 0], [0, 1]]
    );
    assert_eq!(ids(Retriever::Bm25 { count: 1 }), [[1], [3], [0]]);
    let random = ids(Retriever::Random { count: 2, seed: 43 });
    assert!(random.iter().all(|ids| ids.len() == 2 && ids[0] != ids[1]));
    assert!(
        Retriever::FixK { ids: vec![4] }
            .retrieve(&index, &items, &columns)
            .is_err()
    );
    assert!(
        Retriever::Bm25 { count: 5 }
            .retrieve(&index, &items, &columns)
            .is_err()
    );
}

#[test]
fn templates_that_make_no_sense_are_refused() {
    let wrong = [
        json!({"inferencer": {"kind": "gen"}}),
        json!({"inferencer": {"kind": "gen"}, "prompt_template": {"text": "a", "round": ["b"]}}),
        json!({"inferencer": {"kind": "gen"}, "prompt_template": {}}),
        json!({"inferencer": {"kind": "gen"}, "prompt_template": {"text": "a", "ice_token": "</E>"}}),
        json!({"inferencer": {"kind": "gen"}, "ice_template": {"text": "a"}}),
        json!({"inferencer": {"kind": "gen"}, "prompt_template": {"text": "a"}, "ice_template": {"text": "a"}}),
        json!({"inferencer": {"kind": "gen"}, "prompt_template": {"text": "a"},
            "retriever": {"kind": "fix_k", "ids": [0]}}),
        json!({"inferencer": {"kind": "ppl"}, "prompt_template": {"labels": [
            {"label": "a", "text": "x"}, {"label": "a", "text": "y"}]}}),
        json!({"inferencer": {"kind": "ppl"}, "prompt_template": {"labels": [{"label": "a"}]}}),
    ];
    for value in wrong {
        assert!(spec(value.clone()).check().is_err(), "{value}");
    }
    let unknown = json!({"inferencer": {"kind": "gen"}, "prompt_template": {"txt": "a"}});
    assert!(serde_json::from_value::<Spec>(unknown).is_err());
}
