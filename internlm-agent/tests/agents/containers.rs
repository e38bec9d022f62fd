//! Agents together.

use std::time::{Duration, Instant};

use internlm_agent::agent::Ending;
use internlm_agent::container::{AgentDict, AgentList, AgentTool, Sequential, Worker};
use internlm_agent::error::{Error, Limit};
use internlm_agent::tool;
use internlm_agent::tool::{CancelToken, Tool, ToolContext};
use internlm_core::ToolCall;
use internlm_core::scripted::Reply;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;

use crate::{messages, scripted, stop};

/// Says it again.
#[derive(Deserialize, JsonSchema)]
struct Echo {
    text: String,
}

#[test]
fn one_after_the_other() {
    let (first, _) = scripted(["draft", "draft 2"]);
    let (second, asked) = scripted(["final"]);
    let both = Sequential::new(first).then(second);
    assert_eq!(both.work("write").unwrap().answer, "final");
    assert_eq!(messages(&asked.requests()[0])[0].text(), "draft");
    assert_eq!(
        both.with_exit_at(0).work("write").unwrap().answer,
        "draft 2"
    );
}

#[test]
fn round_again() {
    let (first, asked) = scripted(["a", "c"]);
    let (second, _) = scripted(["b"]);
    let both = Sequential::new(first).then(second).with_exit_at(2);
    assert_eq!(both.work("q").unwrap().answer, "c");
    assert_eq!(messages(&asked.requests()[1])[0].text(), "b");
}

#[test]
fn by_name_and_by_place() {
    let (a, _) = scripted(["1", "3"]);
    let (b, _) = scripted(["2"]);
    let list = AgentList::new().with(a.clone()).with(b.clone());
    let answers: Vec<String> = list
        .work_all("q")
        .into_iter()
        .map(|r| r.unwrap().answer)
        .collect();
    assert_eq!(answers, ["1", "2"]);
    assert_eq!(
        (list.len(), list.is_empty(), list.get(2).is_none()),
        (2, false, true)
    );
    let dict = AgentDict::new().with("a", a).unwrap();
    assert_eq!(dict.get("a").unwrap().work("q").unwrap().answer, "3");
    assert_eq!(dict.names().collect::<Vec<_>>(), ["a"]);
    assert!(matches!(dict.get("b"), Err(Error::UnknownAgent { .. })));
    assert!(matches!(
        dict.clone().with("a", b.clone()),
        Err(Error::DuplicateName { .. })
    ));
    assert!(matches!(dict.with("a.b", b), Err(Error::Name { .. })));
}

#[test]
fn as_a_tool_of_another() {
    let (expert, asked) = scripted(["42"]);
    let call = |arguments| Reply::tool_calls(vec![ToolCall::new("expert", arguments)]);
    let (agent, _) = scripted([
        call(json!({"task": "the answer?"})),
        call(json!({})),
        call(json!({"task": "more"})),
        Reply::text("ok"),
    ]);
    let agent = agent.with_tool(AgentTool::new("expert", "Knows answers.", expert));
    let report = agent.run("q").unwrap();
    let told: Vec<String> = report.calls.iter().map(|c| c.observed.text()).collect();
    assert_eq!(told[0], "42");
    assert_eq!(
        told[1],
        "Error: wrong arguments for `expert`: `task` is missing"
    );
    // The expert's script is over: its failure is an error of the call.
    assert!(told[2].starts_with("Error: "), "{}", told[2]);
    assert_eq!(messages(&asked.requests()[0])[0].text(), "the answer?");
}

#[test]
fn who_gives_no_answer_fails_the_call() {
    let call = |name: &str, arguments| Reply::tool_calls(vec![ToolCall::new(name, arguments)]);
    let guarded = tool("echo", |echo: Echo| Ok(echo.text)).with_approval();
    let (waits, _) = scripted([call("echo", json!({"text": "x"}))]);
    let waits = waits.with_tool(guarded);
    let free = tool("echo", |echo: Echo| Ok(echo.text));
    let (goes_on, _) = scripted([call("echo", json!({"text": "x"}))]);
    let goes_on = goes_on.with_tool(free).with_max_turns(1);
    let (agent, _) = scripted([
        call("waits", json!({"task": "a"})),
        call("goes_on", json!({"task": "b"})),
        Reply::text("ok"),
    ]);
    let report = agent
        .with_tool(AgentTool::new("waits", "Waits.", waits.clone()))
        .with_tool(AgentTool::new("goes_on", "Goes on.", goes_on))
        .run("q")
        .unwrap();
    let told: Vec<String> = report.calls.iter().map(|c| c.observed.text()).collect();
    assert!(told[0].contains("waits for an approval"), "{told:?}");
    assert!(told[1].contains("turns were used up"), "{told:?}");
    assert!(!report.calls.iter().any(|c| c.observed.is_ok()));

    // Nothing is lost in a sequence: the report of who waits is the last, and its run can be resumed.
    let (waits, _) = scripted([call("echo", json!({"text": "x"}))]);
    let guarded = tool("echo", |echo: Echo| Ok(echo.text)).with_approval();
    let (second, asked) = scripted(["never"]);
    let both = Sequential::new(waits.with_tool(guarded)).then(second);
    let report = both.work("q").unwrap();
    assert_eq!(report.ending, Ending::Paused);
    assert!(report.paused.is_some() && asked.requests().is_empty());
}

#[test]
fn an_agent_searches_for_a_planner() {
    let (searcher, asked) = scripted(["8,848 m"]);
    let tool = AgentTool::searcher("searcher", "Searches.", searcher);
    let earlier = json!([{"question": "Where?", "answer": "Nepal"}]);
    let arguments = json!({"question": "How high?", "topic": "Mountains", "history": earlier});
    let output = tool.call(&arguments, &ToolContext::default()).unwrap();
    assert_eq!(output.to_text(), "8,848 m");
    assert_eq!(
        messages(&asked.requests()[0])[0].text(),
        "# Topic\n\nMountains\n\n# Found out: Where?\n\nNepal\n\n# Question\n\nHow high?"
    );
}

#[test]
fn who_works_for_another_is_bound_by_its_limits() {
    // The expert's tool cancels the run of who asked the expert.
    let cancel = CancelToken::new();
    let call = |name: &str, arguments| Reply::tool_calls(vec![ToolCall::new(name, arguments)]);
    let (expert, asked) = scripted([call("stop", json!({"text": ""})), Reply::text("never")]);
    let task = json!({"task": "the answer?"});
    let (agent, _) = scripted([call("expert", task), Reply::text("never")]);
    let expert = AgentTool::new("expert", "Knows answers.", expert.with_tool(stop(&cancel)));
    let agent = agent.with_tool(expert).with_cancel(cancel);
    assert!(matches!(agent.run("q"), Err(Error::Cancelled)));
    assert_eq!(asked.requests().len(), 1);

    // Two one after the other, when no time is left.
    let (first, asked) = scripted(["a"]);
    let (second, _) = scripted(["b"]);
    let bounds = {
        let mut bounds = ToolContext::default();
        bounds.deadline = Some(Instant::now());
        bounds
    };
    let report = Sequential::new(first)
        .then(second)
        .work_within("q", &bounds)
        .unwrap();
    assert_eq!(report.ending, Ending::Limit(Limit::Time(Duration::ZERO)));
    assert_eq!(asked.requests().len(), 0);
}
