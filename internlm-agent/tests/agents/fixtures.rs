//! Recorded runs of every protocol (`tests/fixtures/runs.json`), also with the run written down and read back
//! between any two events, and with the model's text cut into pieces of any size.

use internlm_agent::agent::{Ending, SavedRun};
use internlm_agent::protocol::{AnyMachine, Machine, Observation, Observed, Protocol, Start, Step};
use internlm_agent::tool::ToolContext;
use internlm_core::scripted::{Reply, ScriptedModel};
use internlm_core::{ChatModel, Message, ToolCall};
use serde_json::Value;

use crate::{messages, scripted, tools};

fn cases() -> Vec<Value> {
    serde_json::from_str(include_str!("../fixtures/runs.json")).unwrap()
}

fn script(case: &Value) -> Vec<Reply> {
    let replies = case["script"].as_array().unwrap().iter();
    let reply = |reply: &Value| {
        let calls: Vec<ToolCall> =
            serde_json::from_value(reply["tool_calls"].clone()).unwrap_or_default();
        Reply::text(reply["text"].as_str().unwrap()).with_tool_calls(calls)
    };
    replies.map(reply).collect()
}

fn protocol(case: &Value) -> Protocol {
    serde_json::from_value(case["protocol"].clone()).unwrap()
}

#[track_caller]
fn check_message(id: &str, got: &Message, want: &Value) {
    let text = got.text();
    assert_eq!(got.role.as_str(), want["role"], "{id}");
    assert_eq!(got.name.as_deref(), want["name"].as_str(), "{id}");
    assert_eq!(
        got.tool_call_id.as_deref(),
        want["tool_call_id"].as_str(),
        "{id}"
    );
    if let Some(content) = want["content"].as_str() {
        assert_eq!(text, content, "{id}");
    }
    for (key, found) in [
        (
            "starts_with",
            text.find(want["starts_with"].as_str().unwrap_or_default()) == Some(0),
        ),
        (
            "contains",
            text.contains(want["contains"].as_str().unwrap_or_default()),
        ),
    ] {
        assert!(found, "{id}: {key} {}: {text}", want[key]);
    }
}

#[test]
fn what_is_sent_and_what_comes_back() {
    for case in cases() {
        let id = case["id"].as_str().unwrap();
        let (agent, model) = scripted(script(&case));
        let report = agent
            .with_protocol(protocol(&case))
            .run("the task")
            .unwrap();
        assert_eq!(report.answer, case["answer"], "{id}");
        assert_eq!(report.ending, Ending::Answered, "{id}");
        let requests = model.requests();
        let told = case["told"].as_array().unwrap();
        assert_eq!(requests.len(), told.len() + 1, "{id}");
        for (request, told) in requests[1..].iter().zip(told) {
            let told = told.as_array().unwrap();
            let sent = messages(request);
            for (got, want) in sent[sent.len() - told.len()..].iter().zip(told) {
                check_message(id, got, want);
            }
        }
        // The conversation is kept and does not hold what the protocol puts before it.
        assert!(
            report.messages[0].text() == "the task",
            "{id}: {:?}",
            report.messages
        );
    }
}

#[test]
fn a_run_that_is_written_down_goes_on_as_it_would_have() {
    for case in cases() {
        let id = case["id"].as_str().unwrap();
        let model = ScriptedModel::new(script(&case));
        let tools = tools();
        let mut machine = protocol(&case).start(Start {
            tools: tools.specs(),
            messages: vec![Message::user("the task")],
            ..Start::default()
        });
        let answer = loop {
            let text = serde_json::to_string(&machine).unwrap();
            let read: AnyMachine = serde_json::from_str(&text).unwrap();
            assert_eq!(read, machine, "{id}");
            machine = read;
            match machine.step().unwrap() {
                Step::Ask(request) => machine
                    .reply(model.complete(&request).unwrap().into())
                    .unwrap(),
                Step::Done(outcome) => break outcome.answer,
                Step::Call(calls) => {
                    let observed = calls.into_iter().map(|call| {
                        let result =
                            tools.call(&call.name, &call.arguments, &ToolContext::default());
                        Observation {
                            id: call.id,
                            observed: result.map_or_else(
                                |error| Observed::Fault(error.to_string()),
                                Observed::Output,
                            ),
                        }
                    });
                    machine.observe(observed.collect()).unwrap();
                }
            }
        };
        assert_eq!(answer, case["answer"], "{id}");
    }
}

#[test]
fn a_run_can_be_taken_up_after_any_event() {
    for case in cases() {
        let id = case["id"].as_str().unwrap();
        let (agent, _) = scripted(script(&case));
        let agent = agent.with_protocol(protocol(&case));
        let events = agent.start("the task").unwrap().count();
        for stop in 0..events {
            let (agent, model) = scripted(script(&case));
            let agent = agent.with_protocol(protocol(&case));
            let mut run = agent.start("the task").unwrap();
            for _ in 0..stop {
                run.next().unwrap().unwrap();
            }
            let saved: SavedRun =
                serde_json::from_value(serde_json::to_value(run.save()).unwrap()).unwrap();
            drop(run);
            // An answer that was being given is asked for once more.
            let replies = script(&case);
            let turns = serde_json::to_value(&saved).unwrap()["turns"]
                .as_u64()
                .unwrap();
            let turns = usize::try_from(turns).unwrap();
            drop(model);
            let (agent, _) = scripted(replies.into_iter().skip(turns).collect::<Vec<_>>());
            let report = agent
                .with_protocol(protocol(&case))
                .resume(saved)
                .unwrap()
                .finish()
                .unwrap();
            assert_eq!(report.answer, case["answer"], "{id} after {stop}");
        }
    }
}

#[test]
fn pieces_of_any_size_make_the_same_run() {
    for case in cases() {
        let id = case["id"].as_str().unwrap();
        for size in 1..40 {
            let model = ScriptedModel::new(script(&case)).with_delta_chars(size);
            let agent = internlm_agent::Agent::new(model)
                .with_tools(tools())
                .with_protocol(protocol(&case));
            let report = agent.run("the task").unwrap();
            assert_eq!(report.answer, case["answer"], "{id} in pieces of {size}");
        }
    }
}
