//! What is kept of a conversation, and in how many tokens.

use internlm_agent::agent::{Ending, Limits, Memory};
use internlm_agent::protocol::Protocol;
use internlm_agent::protocol::internlm::InternLm;
use internlm_agent::protocol::react_text::ReActText;
use internlm_agent::tool;
use internlm_core::scripted::Reply;
use internlm_core::{Message, Role, ToolCall};
use serde_json::json;

use crate::{Bold, messages, scripted};

#[test]
fn a_conversation_is_remembered() {
    let (agent, model) = scripted(["Hello, Ann.", "Ann."]);
    let mut memory = Memory::new();
    agent.chat(&mut memory, "I am Ann.").unwrap();
    assert_eq!(agent.chat(&mut memory, "Who am I?").unwrap().answer, "Ann.");
    let requests = model.requests();
    let texts: Vec<String> = messages(&requests[1]).iter().map(Message::text).collect();
    assert_eq!(texts, ["I am Ann.", "Hello, Ann.", "Who am I?"]);
    assert_eq!(memory.messages.len(), 4);
    let text = serde_json::to_string(&memory).unwrap();
    let read: Memory = serde_json::from_str(&text).unwrap();
    assert_eq!(
        (read.tokens(), read.messages),
        (memory.tokens(), memory.messages)
    );
}

#[test]
fn what_is_too_old_is_summarized() {
    let call = Reply::tool_calls(vec![ToolCall::new("bold", json!({"text": "x"}))]);
    let (agent, model) = scripted([
        call,
        Reply::text("a".repeat(400)),
        Reply::text("IN SHORT"),
        Reply::text("b"),
        Reply::text("c"),
    ]);
    let mut memory = Memory::new().with_budget(100);
    agent.chat(&mut memory, "first").unwrap();
    agent.chat(&mut memory, "second").unwrap();
    assert_eq!(memory.summary.as_deref(), Some("IN SHORT"));
    assert_eq!(agent.chat(&mut memory, "third").unwrap().answer, "c");
    let requests = model.requests();
    let asked = messages(&requests[2])[0].text();
    assert!(
        asked.contains("first") && asked.contains(&"a".repeat(400)),
        "{asked}"
    );
    let texts: Vec<String> = messages(&requests[4]).iter().map(Message::text).collect();
    assert_eq!(texts[0], "What was said before, in short: IN SHORT");
    assert_eq!(texts[1..], ["second", "b", "third"]);
    assert!(memory.tokens() <= 100);
    // The summary is no message of its own and does not pile up.
    assert!(
        memory
            .messages
            .iter()
            .all(|m| !m.text().contains("IN SHORT"))
    );
}

#[test]
fn cuts_never_part_a_result_from_its_call() {
    let mut memory = Memory::new().with_budget(60).with_count(str::len);
    for i in 0..9 {
        memory.push(Message::user(format!("task {i}")));
        let call = ToolCall::new("f", json!({})).with_id(i.to_string());
        memory.push(Message::assistant("").with_tool_calls(vec![call]));
        memory.push(Message::environment("r").with_tool_call_id(i.to_string()));
        memory.push(Message::assistant("done"));
    }
    memory.fit(None).unwrap();
    assert!(memory.messages.len() < 36);
    assert_eq!(memory.messages[0].role, Role::User);
    assert_eq!(memory.messages.last().unwrap().text(), "done");
    let mut long = Memory::new().with_budget(10);
    long.push(Message::user("a".repeat(1000)));
    long.fit(None).unwrap();
    assert_eq!(long.messages.len(), 1);
}

/// Every call of a request has a result behind it, before anything else.
fn assert_closed(request: &internlm_core::ChatRequest) {
    let sent = messages(request);
    for (i, message) in sent.iter().enumerate() {
        for (call, result) in message.tool_calls.iter().zip(&sent[i + 1..]) {
            assert_eq!(result.role, Role::Environment, "{sent:?}");
            assert_eq!(result.tool_call_id, call.id, "{sent:?}");
        }
        let behind = sent[i + 1..].len();
        assert!(behind >= message.tool_calls.len(), "{sent:?}");
    }
}

#[test]
fn a_task_that_waits_for_approval_does_not_spoil_the_next() {
    let guarded = || tool("guarded", |b: Bold| Ok(format!("did {}", b.text))).with_approval();
    let calls = ["a", "b"].map(|text| ToolCall::new("guarded", json!({"text": text})));
    let (agent, model) = scripted([
        Reply::tool_calls(calls.to_vec()),
        Reply::text("Hello."),
        Reply::text("Both are done."),
    ]);
    let agent = agent.with_tool(guarded());
    let mut memory = Memory::new();
    let paused = agent.chat(&mut memory, "do a and b").unwrap();
    assert_eq!(paused.ending, Ending::Paused);
    let mut other = memory.clone();
    assert_eq!(agent.chat(&mut other, "hello").unwrap().answer, "Hello.");
    assert_closed(&model.requests()[1]);
    let told = messages(&model.requests()[1])[2].text();
    assert_eq!(told, "Error: it was not run: nobody has allowed it yet");

    // The run itself goes on with its calls open, and then the memory has the results.
    let saved = paused.paused.unwrap().allow_all();
    let report = agent.resume_chat(&mut memory, saved).unwrap();
    assert_eq!(report.answer, "Both are done.");
    let texts: Vec<String> = memory.messages.iter().map(Message::text).collect();
    assert_eq!(
        texts,
        ["do a and b", "", "did a", "did b", "Both are done."]
    );
}

#[test]
fn calls_that_passed_a_limit_are_told_as_not_run() {
    let call = || Reply::tool_calls(vec![ToolCall::new("bold", json!({"text": "x"}))]);
    let (agent, model) = scripted([call(), Reply::text("ok")]);
    let agent = agent.with_limits(Limits::default().with_max_calls(0));
    let mut memory = Memory::new();
    let report = agent.chat(&mut memory, "q").unwrap();
    assert!(matches!(report.ending, Ending::Limit(_)));
    agent.chat(&mut memory, "and now?").unwrap();
    assert_closed(&model.requests()[1]);
    // In protocols that write calls into the text the result is told as they tell it.
    let begun = [
        (
            Protocol::InternLm(InternLm::default()),
            "<|action_start|><|plugin|>\n{\"name\": \"bold\", \"parameters\": {\"text\": \"x\"}}<|action_end|>",
        ),
        (
            Protocol::ReActText(ReActText::default()),
            "Action: bold\nAction Input: {\"text\": \"x\"}",
        ),
    ];
    for (protocol, text) in begun {
        let (agent, _) = scripted([text]);
        let limits = Limits::default().with_max_calls(0);
        let agent = agent.with_protocol(protocol).with_limits(limits);
        let report = agent.run("q").unwrap();
        let last = report.messages.last().unwrap().text();
        assert!(last.contains("it was not run: the limit of"), "{last}");
    }
}

#[test]
fn a_task_that_failed_is_forgotten() {
    let (agent, _) = scripted(Vec::<Reply>::new());
    let mut memory = Memory::new();
    agent.chat(&mut memory, "first").unwrap_err();
    assert!(memory.messages.is_empty());

    // Nor is anything lost where the summary can't be made.
    let mut memory = Memory::new().with_budget(10);
    memory.push(Message::user("a long time ago, and far away from here"));
    memory.push(Message::assistant("indeed"));
    agent.chat(&mut memory, "second").unwrap_err();
    assert_eq!(memory.messages.len(), 2);
}
