//! Many agents on one engine: `cargo bench -p internlm-examples --bench agents -- MODEL [AGENTS]`.
//!
//! Each agent has a thread, asks a question of its own with a calculator at hand, and has two turns: a call, which the
//! engine keeps to the tool's form, and an answer, of at most 64 tokens each. The engine batches them.
#![allow(clippy::print_stdout, clippy::unwrap_used, missing_docs)]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use internlm_agent::protocol::Protocol;
use internlm_agent::protocol::tools::Tools;
use internlm_agent::{Agent, tools};
use internlm_core::{ChatModel, SamplingParams};
use internlm_model::{LoadConfig, TextModel};
use internlm_serve::{Engine, EngineConfig};

fn main() {
    let mut arguments = std::env::args().skip(1).filter(|a| a != "--bench");
    let Some(path) = arguments.next() else {
        println!("skipped: no model was named");
        return;
    };
    let agents = arguments.next().map_or(1000, |a| a.parse().unwrap());
    let model = TextModel::load(path, LoadConfig::default()).unwrap();
    let config = EngineConfig::default().with_max_waiting(agents);
    let engine: Arc<dyn ChatModel> = Arc::new(Engine::new(model, config).unwrap());
    let sampling = SamplingParams::greedy().with_max_new_tokens(64);
    let (turns, calls, tokens) = (
        AtomicUsize::new(0),
        AtomicUsize::new(0),
        AtomicUsize::new(0),
    );
    let begin = Instant::now();
    std::thread::scope(|scope| {
        for i in 0..agents {
            let agent = Agent::shared(Arc::clone(&engine))
                .with_protocol(Protocol::Tools(Tools::default().with_require_call(true)))
                .with_tool(tools::calculator())
                .with_sampling(sampling.clone())
                .with_max_turns(2);
            let (turns, calls, tokens) = (&turns, &calls, &tokens);
            scope.spawn(move || {
                let report = agent.run(format!("What is {i} times 12?")).unwrap();
                turns.fetch_add(report.turns, Ordering::Relaxed);
                calls.fetch_add(report.calls.len(), Ordering::Relaxed);
                tokens.fetch_add(report.usage.total_tokens(), Ordering::Relaxed);
            });
        }
    });
    let seconds = begin.elapsed().as_secs_f64();
    let [turns, calls, tokens] = [turns, calls, tokens].map(AtomicUsize::into_inner);
    println!(
        "{agents} agents: {seconds:.1} s, {:.1} agents/s, {turns} turns, {calls} calls, {:.0} tokens/s with prompts",
        agents as f64 / seconds,
        tokens as f64 / seconds
    );
}
