//! What is kept of a conversation, and in how many tokens.

use internlm_agent::agent::Memory;
use internlm_core::scripted::Reply;
use internlm_core::{Message, Role, ToolCall};
use serde_json::json;

use crate::{messages, scripted};

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
