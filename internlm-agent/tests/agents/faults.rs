//! Models that misbehave: the error goes back to the model, no wrong tool runs, and the run ends.

use internlm_agent::agent::{Ending, Limits};
use internlm_agent::protocol::code::CodeAct;
use internlm_agent::protocol::internlm::InternLm;
use internlm_agent::protocol::planner::Planner;
use internlm_agent::protocol::react_json::ReActJson;
use internlm_agent::protocol::react_text::ReActText;
use internlm_agent::protocol::rewoo::ReWoo;
use internlm_agent::protocol::tools::Tools;
use internlm_agent::protocol::{Machine, Protocol, Start, Step};
use internlm_core::chat_model::FinishReason;
use internlm_core::scripted::Reply;
use internlm_core::{Message, Role, ToolCall};
use serde_json::json;

use crate::{messages, scripted, tools};

fn protocols() -> Vec<Protocol> {
    vec![
        Protocol::Tools(Tools::default()),
        Protocol::InternLm(InternLm::default().with_interpreter("python")),
        Protocol::ReActText(ReActText::default()),
        Protocol::ReActJson(ReActJson::default()),
        Protocol::ReWoo(ReWoo::default()),
        Protocol::Code(CodeAct::default()),
        Protocol::Planner(Planner::default()),
    ]
}

/// A call of the tool in each protocol's form.
fn calling(protocol: &Protocol, name: &str) -> Reply {
    match protocol {
        Protocol::Tools(_) => Reply::tool_calls(vec![ToolCall::new(name, json!({"text": "a"}))]),
        Protocol::InternLm(_) => Reply::text(format!(
            "<|action_start|><|plugin|>\n{{\"name\": \"{name}\", \"parameters\": {{\"text\": \"a\"}}}}<|action_end|>"
        )),
        Protocol::ReActText(_) => Reply::text(format!(
            "Thought: t\nAction: {name}\nAction Input: {{\"text\": \"a\"}}"
        )),
        Protocol::ReActJson(_) => Reply::text(format!(
            "{{\"thought_process\": \"\", \"action\": {{\"name\": \"{name}\", \"parameters\": {{\"text\": \"a\"}}}}}}"
        )),
        Protocol::ReWoo(_) => Reply::text(format!("Plan: p\n#E1 = {name}[{{\"text\": \"a\"}}]")),
        Protocol::Code(_) => Reply::text("```python\nprint(1)\n```"),
        _ => Reply::text("```python\ngraph.add_node('a', 'q')\n```"),
    }
}

#[test]
fn an_unknown_tool_is_told() {
    for protocol in protocols() {
        if matches!(protocol, Protocol::Code(_) | Protocol::Planner(_)) {
            continue;
        }
        let (agent, model) = scripted([
            calling(&protocol, "nope"),
            Reply::text("{\"conclusion\": \"x\"}"),
        ]);
        let report = agent
            .with_protocol(protocol.clone())
            .with_max_turns(2)
            .run("q")
            .unwrap();
        assert!(report.calls.is_empty(), "{protocol:?}");
        let requests = model.requests();
        let told = messages(&requests[1]);
        let told = told
            .iter()
            .filter(|m| m.role != Role::Assistant && m.role != Role::System);
        let told: String = told.map(Message::text).collect();
        assert!(
            told.contains("there is no tool `nope`"),
            "{protocol:?}: {told}"
        );
    }
}

/// A model that calls for ever is stopped by the turns, in every protocol.
#[test]
fn the_turn_limit_holds() {
    for protocol in protocols() {
        let name = if matches!(protocol, Protocol::Planner(_)) {
            "searcher"
        } else {
            "bold"
        };
        let (agent, model) = scripted(vec![calling(&protocol, name); 50]);
        let report = agent
            .with_protocol(protocol.clone())
            .with_max_turns(4)
            .run("q")
            .unwrap();
        assert!(
            model.requests().len() <= 4,
            "{protocol:?}: {}",
            model.requests().len()
        );
        assert!(report.turns <= 4, "{protocol:?}");
    }
}

#[test]
fn a_thousand_calls_at_once() {
    let calls: Vec<ToolCall> = (0..1000)
        .map(|i| ToolCall::new("bold", json!({"text": i.to_string()})))
        .collect();
    let (agent, model) = scripted([Reply::tool_calls(calls), Reply::text("ok")]);
    let report = agent.run("q").unwrap();
    assert_eq!(report.answer, "ok");
    assert_eq!(report.calls.len(), 16);
    // Every call has its result, as servers demand.
    let requests = model.requests();
    let sent = messages(&requests[1]);
    let results = sent.iter().filter(|m| m.role == Role::Environment);
    assert_eq!(results.count(), 1000);
    assert!(
        sent.last()
            .unwrap()
            .text()
            .contains("at most 16 calls at once")
    );
    assert_eq!(sent[1].tool_calls.len(), 1000);
}

#[test]
fn a_thousand_turns_of_calls_meet_the_limit_of_calls() {
    let replies =
        (0..1000).map(|_| Reply::tool_calls(vec![ToolCall::new("bold", json!({"text": "a"}))]));
    let (agent, _) = scripted(replies);
    let limits = Limits::default().with_max_turns(1000).with_max_calls(10);
    let report = agent.with_limits(limits).run("q").unwrap();
    assert!(
        matches!(report.ending, Ending::Limit(_)),
        "{:?}",
        report.ending
    );
    assert_eq!(report.calls.len(), 10);
}

/// Garbage of every kind, alone and cut at every byte, never runs a tool that it does not name, never panics
/// and always leads to another request or an answer.
#[test]
fn nested_specials_and_cuts() {
    let texts = [
        "a<|action_start|><|plugin|>\n{\"name\": \"bold\", \"parameters\": {\"text\": \"<|action_start|><|plugin|>x<|action_end|>\"}}<|action_end|>",
        "<|action_start|><|action_start|><|plugin|><|interpreter|><|plugin|><|action_end|><|action_end|>",
        "Thought: Action: Thought: Action Input: Final Answer: Action: bold\nAction Input: {\"text\": \"晴\"}",
        "{\"thought_process\": \"{\\\"action\\\": {}}\", \"action\": {\"name\": \"bold\", \"parameters\": {\"text\": \"}\"}}}",
        "Plan: a\n#E1 = bold[{\"text\": \"[#E1]\"}]\nPlan: b\n#E2 = bold[#E1 #E10 #E0]",
        "```python\ngraph = WebSearchGraph()\ngraph.add_root_node('书', \"root\")\ngraph.node(\"root\")\n```",
    ];
    for protocol in protocols() {
        for text in texts {
            let ends = (0..=text.len()).filter(|end| text.is_char_boundary(*end));
            for end in ends {
                let mut machine = protocol.start(Start {
                    tools: tools().specs(),
                    messages: vec![Message::user("q")],
                    ..Start::default()
                });
                machine
                    .reply(internlm_agent::protocol::Reply::text(&text[..end]))
                    .unwrap();
                if let Step::Call(calls) = machine.step().unwrap() {
                    for call in calls {
                        let named = text[..end].contains(&call.name);
                        let code = ["python", "searcher"].contains(&call.name.as_str());
                        assert!(named || code, "{}: {call:?}", &text[..end]);
                    }
                }
            }
        }
    }
}

/// A reply that its limit of tokens cut, wherever: what runs is the whole call or nothing, and never half of a plan or
/// of a program.
#[test]
fn a_call_that_was_cut_in_the_middle_never_runs() {
    let plan = "Plan: p\n#E1 = bold[some words]\nPlan: q\n#E2 = bold[{\"text\": \"more\"}]";
    let graph =
        "```python\ngraph.add_root_node('q', 'root')\ngraph.add_node('a', 'some words')\n```";
    let texts = [
        (
            0,
            "Well.<|action_start|><|plugin|>\n{\"name\": \"bold\", \"parameters\": {\"text\": \"some words\"}}<|action_end|>",
        ),
        (
            1,
            "Well.<|action_start|><|plugin|>\n{\"name\": \"bold\", \"parameters\": {\"text\": \"some words\"}}<|action_end|>",
        ),
        (
            1,
            "Well.<|action_start|><|interpreter|>\n```python\nprint(1)\nprint(22)\n```<|action_end|>",
        ),
        (
            2,
            "Thought: t\nAction: bold\nAction Input: {\"text\": \"some words\"}",
        ),
        (
            2,
            "Thought: t\nAction: bold\nAction Input: some words\nThought: so",
        ),
        (
            3,
            "{\"thought_process\": \"\", \"action\": {\"name\": \"bold\", \"parameters\": {\"text\": \"some words\"}}}",
        ),
        (4, plan),
        (5, "```python\nprint(1)\nprint(22)\n```\nThen"),
        (6, graph),
    ];
    for (at, text) in texts {
        let protocol = &protocols()[at];
        for end in 0..text.len() {
            let mut machine = protocol.start(Start {
                tools: tools().specs(),
                messages: vec![Message::user("q")],
                ..Start::default()
            });
            let mut reply = internlm_agent::protocol::Reply::text(&text[..end]);
            reply.finish_reason = Some(FinishReason::Length);
            machine.reply(reply).unwrap();
            let Step::Call(calls) = machine.step().unwrap() else {
                continue;
            };
            assert!(at != 4 && at != 6, "{}: {calls:?}", &text[..end]);
            let whole = [
                json!({"text": "some words"}),
                json!({"code": "print(1)\nprint(22)"}),
            ];
            assert_eq!(calls.len(), 1);
            assert!(
                whole.contains(&calls[0].arguments),
                "{}: {calls:?}",
                &text[..end]
            );
        }
    }
    // A server that sends a name and then is cut: nothing says whether arguments would have followed.
    let call = Reply::tool_calls(vec![ToolCall::new("bold", json!({}))]);
    let (agent, model) = scripted([
        call.with_finish_reason(FinishReason::Length),
        Reply::text("ok"),
    ]);
    assert_eq!(agent.run("q").unwrap().answer, "ok");
    let told = messages(&model.requests()[1]).last().unwrap().text();
    assert!(told.starts_with("Error: the call is not whole"), "{told}");
}

#[test]
fn a_tool_that_panics_is_an_error_of_its_call() {
    let (agent, model) = scripted([
        Reply::tool_calls(vec![ToolCall::new("broken", json!({"text": "a"}))]),
        Reply::text("ok"),
    ]);
    let broken = internlm_agent::tool("broken", |b: crate::Bold| -> Result<String, _> {
        assert!(b.text.is_empty(), "this is what the test is about");
        Ok(String::new())
    });
    assert_eq!(agent.with_tool(broken).run("q").unwrap().answer, "ok");
    let requests = model.requests();
    let told = messages(&requests[1]).last().unwrap().text();
    assert_eq!(told, "Error: the tool `broken` failed unexpectedly");
}

#[test]
fn answers_out_of_turn_are_errors() {
    let mut machine = Protocol::default().start(Start::default());
    assert!(machine.observe(Vec::new()).is_err());
    assert!(machine.say(Vec::new()).is_err());
    machine
        .reply(internlm_agent::protocol::Reply::text("a"))
        .unwrap();
    assert!(
        machine
            .reply(internlm_agent::protocol::Reply::text("b"))
            .is_err()
    );
    machine.say(vec![Message::user("more")]).unwrap();
    assert!(matches!(machine.step().unwrap(), Step::Ask(_)));
}
