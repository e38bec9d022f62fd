//! What an agent's loop costs without the model: `cargo bench -p internlm-agent --bench steps`.
//!
//! A scripted model makes a call of the calculator in each turn and answers in the last. A step is a turn with its
//! call. The conversation grows, so a step is measured in runs of several lengths.
#![allow(clippy::print_stdout, clippy::unwrap_used, missing_docs)]

use std::time::Instant;

use internlm_agent::{Agent, tools};
use internlm_core::ToolCall;
use internlm_core::scripted::{Reply, ScriptedModel};
use serde_json::json;

const RUNS: usize = 200;

fn main() {
    for steps in [1, 4, 16, 64] {
        let call = || ToolCall::new("calculator", json!({"expression": "37*12+5"}));
        let run = || {
            let calls = (0..steps).map(|_| Reply::tool_calls(vec![call()]));
            calls.chain([Reply::text("449")])
        };
        let model = ScriptedModel::new((0..RUNS).flat_map(|_| run()));
        let agent = Agent::new(model)
            .with_tool(tools::calculator())
            .with_max_turns(steps + 1);
        let mut times: Vec<f64> = (0..RUNS)
            .map(|_| {
                let begin = Instant::now();
                let report = agent.run("37 boxes of 12, and 5 more?").unwrap();
                let seconds = begin.elapsed().as_secs_f64();
                assert_eq!((report.answer.as_str(), report.calls.len()), ("449", steps));
                seconds
            })
            .collect();
        times.sort_unstable_by(f64::total_cmp);
        let median = times[RUNS / 2] / steps as f64 * 1e6;
        println!("{steps:>3} steps a run: median {median:>7.1} us a step");
    }
}
