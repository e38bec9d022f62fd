//! What guesses bring: the same answers with and without them.
//!
//! `cargo bench --workspace --bench speculate -- MODEL [ROUNDS] [TOKENS]`: each round asks a model with dense f32
//! weights, an engine with prompt lookup, and one with a draft model (the packed weights of the same file, 8-bit
//! activations), one after the other and one client at a time. Half of the prompts ask to repeat a text, half for one
//! of the model's own. Medians over rounds; answers must be the same.
#![allow(clippy::print_stdout, clippy::unwrap_used, missing_docs)]

use std::time::Instant;

use internlm_core::{ChatRequest, Message, SamplingParams};
use internlm_model::candle::DType;
use internlm_model::load::Activation;
use internlm_model::{LoadConfig, TextModel};
use internlm_serve::config::PromptLookup;
use internlm_serve::{Engine, EngineConfig, Models};

const TEXT: &str = "The water of the river rises in spring, when the snow of the hills melts. Millers watch it closely: \
    too little, and the wheels stand still; too much, and the weir is in danger. In the summer of the great drought \
    nobody ground any corn for eleven weeks.";

const TASKS: [(&str, [&str; 2]); 2] = [
    (
        "repeats its prompt",
        [
            "Repeat the following text word by word, nothing else.",
            "Correct the spelling of the following text, and write all of it.",
        ],
    ),
    (
        "writes on its own",
        [
            "Write a story that begins like the following text.",
            "Explain what a weir is for, at length.",
        ],
    ),
];

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn main() {
    let mut arguments = std::env::args().skip(1).filter(|a| a != "--bench");
    let Some(path) = arguments.next() else {
        println!("skipped: no model was named");
        return;
    };
    let mut number = |default| arguments.next().map_or(default, |a| a.parse().unwrap());
    let (rounds, tokens) = (number(3usize), number(128usize));
    let dense = || TextModel::load(&path, LoadConfig::default().with_dtype(DType::F32)).unwrap();
    let packed = LoadConfig::default().with_packed_activation(Activation::Int8);
    let draft = TextModel::load(&path, packed).unwrap();
    let config = || EngineConfig::default().with_prefix_caching(false);
    let lookup = config().with_prompt_lookup(Some(PromptLookup::default()));
    let engines = [
        ("no guesses", Engine::new(dense(), config()).unwrap()),
        ("prompt lookup", Engine::new(dense(), lookup).unwrap()),
        (
            "draft model",
            Engine::new(Models::from(dense()).with_draft(draft), config()).unwrap(),
        ),
    ];
    println!("| answer | guesses | tokens/s | ratio | accepted |");
    println!("| --- | --- | --- | --- | --- |");
    for (task, questions) in TASKS {
        let mut rates = vec![Vec::new(); engines.len()];
        let before: Vec<_> = engines.iter().map(|(_, engine)| engine.metrics()).collect();
        for round in 0..=rounds {
            let mut answers = Vec::new();
            for ((_, engine), rates) in engines.iter().zip(&mut rates) {
                let begin = Instant::now();
                let mut made = 0;
                let mut said = Vec::new();
                for question in questions {
                    let request =
                        ChatRequest::messages(vec![Message::user(format!("{question}\n\n{TEXT}"))]);
                    let sampling = SamplingParams::greedy().with_max_new_tokens(tokens);
                    let request = request.with_sampling(sampling);
                    let answer = engine.submit(request).unwrap().complete().unwrap();
                    made += answer.ids.len();
                    said.push(answer.ids);
                }
                // The first round warms up.
                if round > 0 {
                    rates.push(made as f64 / begin.elapsed().as_secs_f64());
                }
                answers.push(said);
            }
            assert!(
                answers.iter().all(|said| *said == answers[0]),
                "a guess changed an answer"
            );
        }
        let plain = median(&mut rates[0].clone());
        for (((name, engine), rates), before) in engines.iter().zip(&mut rates).zip(before) {
            let now = engine.metrics();
            let drafted = now.drafted_tokens - before.drafted_tokens;
            let accepted = now.accepted_tokens - before.accepted_tokens;
            let share = 100.0 * accepted as f64 / drafted.max(1) as f64;
            let rate = median(rates);
            println!(
                "| {task} | {name} | {rate:.1} | {:.2} | {share:.0} % of {drafted} |",
                rate / plain
            );
        }
    }
}
