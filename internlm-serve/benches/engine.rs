//! What the engine costs beside plain generation, and what batching brings.
//!
//! `cargo bench -p internlm-serve -- MODEL [ROUNDS] [TOKENS]`: each round generates the same answer by
//! `CausalLm::generate` and by an engine with one client, one after the other, then answers for 4, 16 and 32
//! clients at once. Prompts of 64 tokens, all different; medians over rounds.
#![allow(clippy::print_stdout, clippy::unwrap_used, missing_docs)]

use std::time::Instant;

use internlm_core::chat_model::Input;
use internlm_core::{ChatRequest, SamplingParams};
use internlm_model::generate::TokenEvent;
use internlm_model::{LoadConfig, TextModel};
use internlm_serve::{Engine, EngineConfig};

const CLIENTS: [usize; 4] = [1, 4, 16, 32];

fn prompt(seed: u32, vocab_size: usize) -> Vec<u32> {
    (0..64u32)
        .map(|i| (i * 7919 + seed * 104_729) % vocab_size as u32)
        .collect()
}

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
    let (rounds, tokens) = (number(5usize), number(128usize));
    let load = || TextModel::load(&path, LoadConfig::default()).unwrap();
    let plain = load();
    let vocab_size = plain.tokenizer().vocab_size();
    let engine = Engine::new(load(), EngineConfig::default().with_prefix_caching(false)).unwrap();
    let params = SamplingParams::greedy()
        .with_max_new_tokens(tokens)
        .with_ignore_eos(true);
    let mut rates: Vec<Vec<f64>> = vec![Vec::new(); 1 + CLIENTS.len()];
    for round in 0..=rounds as u32 {
        let begin = Instant::now();
        let ids = prompt(round, vocab_size);
        let events = plain.model().generate(&ids, &params).unwrap();
        let made = events
            .filter(|e| matches!(e, Ok(TokenEvent::Token { .. })))
            .count();
        let rate = |count: usize, begin: Instant| count as f64 / begin.elapsed().as_secs_f64();
        let mut now = vec![rate(made, begin)];
        for clients in CLIENTS {
            let begin = Instant::now();
            let running: Vec<_> = (0..clients as u32)
                .map(|client| {
                    let ids = prompt(round + 1000 * client, vocab_size);
                    let request = ChatRequest::new(Input::Ids(ids)).with_sampling(params.clone());
                    engine.submit(request).unwrap()
                })
                .collect();
            let made: usize = running
                .into_iter()
                .map(|response| response.complete().unwrap().ids.len())
                .sum();
            now.push(rate(made, begin));
        }
        println!("round {round}: {now:.1?}");
        // The first one warms up.
        if round > 0 {
            rates
                .iter_mut()
                .zip(now)
                .for_each(|(all, rate)| all.push(rate));
        }
    }
    let medians: Vec<f64> = rates.iter_mut().map(|all| median(all)).collect();
    println!("| | tokens/s, prompt included | beside plain generation |");
    println!("| --- | --- | --- |");
    println!("| plain generation | {:.1} | 1 |", medians[0]);
    for (clients, rate) in CLIENTS.iter().zip(&medians[1..]) {
        let ratio = rate / medians[0];
        println!("| engine, {clients} at once | {rate:.1} | {ratio:.3} |");
    }
}
