//! Around a run: events, hooks, approval, retries, limits, cancellation.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use internlm_agent::agent::{AgentEvent, Decision, Ending, Hook, Limits, Retry, SavedRun};
use internlm_agent::error::{Error, Limit};
use internlm_agent::protocol::react_json::ReActJson;
use internlm_agent::protocol::tools::Tools;
use internlm_agent::protocol::{Call, Observed, Protocol};
use internlm_agent::tool::{CancelToken, ToolError, ToolOutput, TypedTool};
use internlm_agent::{Agent, tool};
use internlm_core::chat_model::{Events, FinishReason, ResponseFormat};
use internlm_core::scripted::{Reply, ScriptedModel};
use internlm_core::tool::ToolChoice;
use internlm_core::{ChatModel, ChatRequest, Message, SamplingParams, ToolCall};
use serde_json::json;

use crate::{Bold, messages, scripted, stop, tools};

fn bold(text: &str) -> Reply {
    Reply::tool_calls(vec![ToolCall::new("bold", json!({"text": text}))])
}

pub(crate) fn flaky() -> internlm_core::Error {
    internlm_core::Error::backend("computing", std::io::Error::other("no power"))
}

#[test]
fn events_tell_what_happens() {
    let (agent, _) = scripted([
        bold("a").with_tool_calls(vec![]),
        Reply::text("**a** it is"),
    ]);
    let run = agent.start("bold a").unwrap();
    let mut text = String::new();
    let names: Vec<String> = run
        .map(|event| {
            let event = event.unwrap();
            if let AgentEvent::Delta { text: more } = &event {
                text.push_str(more);
            }
            serde_json::to_value(&event).unwrap()["event"]
                .as_str()
                .unwrap()
                .to_owned()
        })
        .filter(|name| name != "delta")
        .collect();
    let want = [
        "turn_started",
        "turn_finished",
        "call_started",
        "call_finished",
        "turn_started",
        "turn_finished",
        "finished",
    ];
    assert_eq!(names, want);
    assert_eq!(text, "**a** it is");
}

#[test]
fn only_new_messages_are_told() {
    let (agent, _) = scripted([bold("a"), Reply::text("ok")]);
    let counts: Vec<usize> = agent
        .with_system("Be brief.")
        .start("q")
        .unwrap()
        .filter_map(|event| match event.unwrap() {
            AgentEvent::TurnStarted { new_messages, .. } => Some(new_messages.len()),
            _ => None,
        })
        .collect();
    assert_eq!(counts, [2, 2]);
}

#[test]
fn a_conversation_goes_on() {
    let (agent, model) = scripted(["one", "two"]);
    let first = agent.run("a").unwrap();
    let mut messages_so_far = first.messages;
    messages_so_far.push(Message::user("b"));
    let second = agent.start_with(messages_so_far).unwrap().finish().unwrap();
    assert_eq!(second.answer, "two");
    let requests = model.requests();
    let texts: Vec<String> = messages(&requests[1]).iter().map(Message::text).collect();
    assert_eq!(texts, ["a", "one", "b"]);
}

struct Shout;

impl Hook for Shout {
    fn before_model(&self, request: &mut ChatRequest) {
        request.sampling.seed = Some(7);
    }

    fn after_model(&self, reply: &mut internlm_agent::protocol::Reply) {
        reply.text = reply.text.to_uppercase();
    }

    fn before_tool(&self, call: &mut Call) -> Option<Observed> {
        call.arguments["text"] = json!("changed");
        (call.name == "cached").then(|| Observed::Output(ToolOutput::text("from the cache")))
    }

    fn after_tool(&self, _: &Call, observed: &mut Observed) {
        if let Observed::Output(output) = observed {
            *observed = Observed::Output(ToolOutput::text(format!("<{}>", output.to_text())));
        }
    }
}

#[test]
fn hooks_see_and_change() {
    let cached = Reply::tool_calls(vec![ToolCall::new("cached", json!({"text": "a"}))]);
    let (agent, model) = scripted([bold("a"), cached, Reply::text("done")]);
    let never = tool("cached", |_: Bold| -> Result<String, ToolError> {
        Err("must not run".into())
    });
    let report = agent.with_tool(never).with_hook(Shout).run("q").unwrap();
    assert_eq!(report.answer, "DONE");
    assert_eq!(report.calls[0].observed.text(), "<**changed**>");
    assert_eq!(report.calls[1].observed.text(), "<from the cache>");
    assert!(model.requests().iter().all(|r| r.sampling.seed == Some(7)));
}

#[test]
fn approval_by_a_rule() {
    let (agent, model) = scripted([bold("a"), bold("b"), Reply::text("done")]);
    let report = agent
        .with_approval(|call| match call.arguments["text"] == "a" {
            true => Decision::Allow,
            false => Decision::Deny("only a".to_owned()),
        })
        .run("q")
        .unwrap();
    assert!(report.calls[0].observed.is_ok());
    assert!(!report.calls[1].observed.is_ok());
    let requests = model.requests();
    let told = messages(&requests[2]).last().unwrap().text();
    assert_eq!(told, "Error: the call was not allowed: only a");
}

#[test]
fn a_run_waits_for_approval_on_paper() {
    let guarded = || -> TypedTool {
        tool("guarded", |b: Bold| Ok(format!("did {}", b.text))).with_approval()
    };
    let call = || Reply::tool_calls(vec![ToolCall::new("guarded", json!({"text": "it"}))]);
    let (agent, model) = scripted([call()]);
    let paused = agent.with_tool(guarded()).run("q").unwrap();
    assert_eq!(paused.ending, Ending::Paused);
    assert!(paused.calls.is_empty());
    assert_eq!(model.requests().len(), 1);
    let text = serde_json::to_string(&paused.paused.unwrap()).unwrap();

    // Another process, another day.
    let saved: SavedRun = serde_json::from_str(&text).unwrap();
    assert_eq!(saved.waiting()[0].name, "guarded");
    let (agent, model) = scripted(["done"]);
    let agent = agent.with_tool(guarded());
    let still = agent.resume(saved.clone()).unwrap().finish().unwrap();
    assert_eq!(still.ending, Ending::Paused);
    let report = agent.resume(saved.allow_all()).unwrap().finish().unwrap();
    assert_eq!((report.answer.as_str(), report.turns), ("done", 2));
    assert_eq!(report.calls[0].observed.text(), "did it");
    assert_eq!(
        messages(&model.requests()[0]).last().unwrap().text(),
        "did it"
    );

    let other = text.replacen("\"version\":1", "\"version\":99", 1);
    let other: SavedRun = serde_json::from_str(&other).unwrap();
    assert!(matches!(agent.resume(other), Err(Error::State { .. })));
}

#[test]
fn failures_of_the_model_are_tried_again() {
    let retry = Retry::default().with_attempts(2).with_wait(Duration::ZERO);
    let broken = Reply::text("half an ans").with_failure(flaky());
    let (agent, _) = scripted([Reply::error(flaky()), broken, Reply::text("whole")]);
    let agent = agent.with_retry(retry);
    let events: Vec<AgentEvent> = agent.start("q").unwrap().map(Result::unwrap).collect();
    let retried = events
        .iter()
        .filter(|e| matches!(e, AgentEvent::Retried { .. }));
    assert_eq!(retried.count(), 2);
    let Some(AgentEvent::Finished { report }) = events.last() else {
        panic!("{events:?}");
    };
    assert_eq!(report.answer, "whole");

    let (agent, model) = scripted(vec![Reply::error(flaky()); 9]);
    assert!(matches!(
        agent.with_retry(retry).run("q"),
        Err(Error::Model(_))
    ));
    assert_eq!(model.requests().len(), 3);

    let hopeless = internlm_core::Error::PromptTooLong {
        prompt_tokens: 9,
        context_length: 8,
    };
    let (agent, model) = scripted([Reply::error(hopeless), Reply::text("x")]);
    assert!(agent.with_retry(retry).run("q").is_err());
    assert_eq!(model.requests().len(), 1);
}

#[test]
fn limits_end_a_run_with_what_there_is() {
    let (agent, _) = scripted(vec![bold("a"); 9]);
    let report = agent.clone().with_max_turns(2).run("q").unwrap();
    assert_eq!((report.ending, report.turns), (Ending::OutOfTurns, 2));

    let (agent, _) = scripted(vec![bold("a"); 9]);
    let limits = Limits::default().with_max_tokens(1);
    let report = agent.with_limits(limits).run("quite a long task").unwrap();
    assert_eq!(report.ending, Ending::Limit(Limit::Tokens(1)));
    assert_eq!(report.turns, 1);

    let (agent, _) = scripted(vec![bold("a"); 9]);
    let limits = Limits::default().with_max_time(Duration::ZERO);
    let report = agent.with_limits(limits).run("q").unwrap();
    assert_eq!(report.ending, Ending::Limit(Limit::Time(Duration::ZERO)));
    assert_eq!(report.turns, 0);

    let (agent, model) = scripted([bold(&"a".repeat(1000)), Reply::text("ok")]);
    let limits = Limits::default().with_max_tool_output(10);
    agent.with_limits(limits).run("q").unwrap();
    let told = messages(&model.requests()[1]).last().unwrap().text();
    assert_eq!(told, "**aaaaaaaa… [994 more bytes were cut]");

    // So is what a tool says of its failure.
    let (agent, model) = scripted([bold("a"), Reply::text("ok")]);
    let failing = tool("bold", |b: Bold| -> Result<String, ToolError> {
        Err(b.text.repeat(1000).into())
    });
    let agent = agent.with_tool(failing).with_limits(limits);
    agent.run("q").unwrap();
    let told = messages(&model.requests()[1]).last().unwrap().text();
    assert_eq!(told, "Error: aaaaaaaaaa… [990 more bytes were cut]");
}

#[test]
fn the_limit_of_time_ends_an_answer() {
    let limit = Duration::from_millis(300);
    let (agent, _) = scripted(["one two three four"]);
    let agent = agent.with_limits(Limits::default().with_max_time(limit));
    let (mut heard, mut report) = (String::new(), None);
    for event in agent.start("q").unwrap() {
        match event.unwrap() {
            AgentEvent::Delta { text } => {
                heard.push_str(&text);
                std::thread::sleep(limit);
            }
            AgentEvent::Finished { report: last } => report = Some(last),
            _ => {}
        }
    }
    let report = report.unwrap();
    assert_eq!(report.ending, Ending::Limit(Limit::Time(limit)));
    assert_eq!(report.answer, heard);
    assert!(heard.len() < "one two three four".len(), "{heard}");
}

#[test]
fn the_last_turn_is_for_an_answer() {
    let (agent, model) = scripted([bold("a"), Reply::text("ok")]);
    agent.with_max_turns(2).run("q").unwrap();
    let choices: Vec<ToolChoice> = model
        .requests()
        .into_iter()
        .map(|r| r.tool_choice)
        .collect();
    assert_eq!(choices, [ToolChoice::Auto, ToolChoice::None]);
}

#[test]
fn a_call_that_was_cut_off_is_no_answer() {
    let begun =
        "<|action_start|><|plugin|>\n{\"name\": \"bold\", \"parameters\": {\"text\": \"aaaa";
    let cut = Reply::text(begun).with_finish_reason(FinishReason::Length);
    let (agent, model) = scripted([cut, bold("a"), Reply::text("ok")]);
    assert_eq!(agent.run("q").unwrap().answer, "ok");
    let told = messages(&model.requests()[1]).last().unwrap().text();
    assert!(told.starts_with("Error: the call is not whole"), "{told}");
    // Words that were cut off are an answer, and the report says that they were.
    let (agent, _) = scripted([Reply::text("so").with_finish_reason(FinishReason::Length)]);
    let report = agent.run("q").unwrap();
    assert_eq!(
        (report.answer.as_str(), report.ending),
        ("so", Ending::Truncated)
    );
    let (agent, _) = scripted([Reply::text("so").with_finish_reason(FinishReason::Stop)]);
    assert_eq!(agent.run("q").unwrap().ending, Ending::Answered);
}

#[test]
fn a_run_can_be_cancelled() {
    let cancel = CancelToken::new();
    let call = Reply::tool_calls(vec![ToolCall::new("stop", json!({"text": ""}))]);
    let (agent, model) = scripted([call, Reply::text("never")]);
    let result = agent
        .with_tool(stop(&cancel))
        .with_cancel(cancel.clone())
        .run("q");
    assert!(matches!(result, Err(Error::Cancelled)));
    assert_eq!(model.requests().len(), 1);
    let child = CancelToken::new().child();
    child.cancel();
    assert!(cancel.child().is_cancelled() && child.is_cancelled());
}

#[test]
fn calls_run_together_and_are_told_in_order() {
    // Each waits for the other: one after the other they would wait for ever.
    let barrier = Arc::new(std::sync::Barrier::new(2));
    let wait = tool("wait", move |b: Bold| {
        barrier.wait();
        Ok(b.text)
    });
    let calls = ["a", "b"].map(|text| ToolCall::new("wait", json!({"text": text})));
    let (agent, _) = scripted([Reply::tool_calls(calls.into()), Reply::text("ok")]);
    let report = agent.with_tool(wait).run("q").unwrap();
    let texts: Vec<String> = report.calls.iter().map(|c| c.observed.text()).collect();
    assert_eq!(texts, ["a", "b"]);
}

/// An engine without guided decoding.
struct Unguided(ScriptedModel, AtomicUsize);

impl ChatModel for Unguided {
    fn generate(&self, request: &ChatRequest) -> internlm_core::Result<Events<'_>> {
        if request.response_format != ResponseFormat::Text
            || request.tool_choice == ToolChoice::Required
        {
            self.1.fetch_add(1, Ordering::Relaxed);
            return Err(internlm_core::Error::Request {
                field: "response_format",
                what: "not offered".to_owned(),
            });
        }
        self.0.generate(request)
    }
}

#[test]
fn calls_are_constrained_where_the_engine_can() {
    let answer = "{\"thought_process\": \"\", \"conclusion\": \"yes\"}";
    let (agent, model) = scripted([answer]);
    let constrained = Protocol::ReActJson(ReActJson::default().with_constrained(true));
    assert_eq!(
        agent
            .with_protocol(constrained.clone())
            .run("q")
            .unwrap()
            .answer,
        "yes"
    );
    let ResponseFormat::JsonSchema(schema) = &model.requests()[0].response_format else {
        panic!("no schema");
    };
    let names: Vec<_> = schema["anyOf"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|shape| shape["properties"]["action"]["properties"]["name"]["const"].as_str())
        .collect();
    assert_eq!(names, ["bold", "Calculator.add", "python"]);

    let model = Arc::new(Unguided(ScriptedModel::new([answer]), AtomicUsize::new(0)));
    let agent = Agent::shared(model.clone())
        .with_tools(tools())
        .with_protocol(constrained);
    assert_eq!(agent.run("q").unwrap().answer, "yes");
    assert_eq!(model.1.load(Ordering::Relaxed), 1);

    let (agent, model) = scripted([bold("a"), Reply::text("ok")]);
    let required = Protocol::Tools(Tools::default().with_require_call(true));
    agent.with_protocol(required).run("q").unwrap();
    let choices: Vec<ToolChoice> = model
        .requests()
        .into_iter()
        .map(|r| r.tool_choice)
        .collect();
    assert_eq!(choices, [ToolChoice::Required, ToolChoice::Auto]);
}

#[test]
fn sampling_is_the_callers_and_stops_are_the_protocols() {
    let (agent, model) = scripted(["Final Answer: x"]);
    let protocol = Protocol::ReActText(internlm_agent::protocol::react_text::ReActText::default());
    let sampling = SamplingParams::greedy().with_temperature(0.5);
    agent
        .with_protocol(protocol)
        .with_sampling(sampling)
        .run("q")
        .unwrap();
    let sampling = &model.requests()[0].sampling;
    assert_eq!(sampling.temperature, 0.5);
    assert_eq!(sampling.stop, ["\nResponse:"]);
}

#[test]
fn tools_can_be_left_out() {
    let (_, model) = scripted(["x"]);
    let agent = Agent::shared(model.clone()).with_tools(tools().only(&["bold", "none"]));
    agent.run("q").unwrap();
    let names: Vec<String> = model.requests()[0]
        .tools
        .iter()
        .map(|t| t.name.clone())
        .collect();
    assert_eq!(names, ["bold"]);
    let twice = tools().with(tool("bold", |b: Bold| Ok(b.text)));
    assert!(matches!(twice, Err(Error::DuplicateName { .. })));
}

#[test]
fn the_calculator_answers() {
    let call = |expression: &str| {
        Reply::tool_calls(vec![ToolCall::new(
            "calculator",
            json!({"expression": expression}),
        )])
    };
    let (_, model) = scripted([call("37×12+5"), call("1/0"), Reply::text("449")]);
    let agent = Agent::shared(model).with_tool(internlm_agent::tools::calculator());
    let report = agent.run("how many?").unwrap();
    assert_eq!(report.calls[0].observed.text(), "449");
    assert_eq!(report.calls[1].observed.text(), "Error: division by zero");
    let stats = internlm_agent::tools::text_stats();
    let set = internlm_agent::tool::ToolSet::new().with(stats).unwrap();
    let output = set.call(
        "text_stats",
        &json!({"text": "strawberry", "part": "r"}),
        &Default::default(),
    );
    assert_eq!(
        output.unwrap().to_text(),
        r#"{"characters": 10, "words": 1, "lines": 1, "occurrences": 3}"#
    );
}
