//! Runs on tokio.

use std::time::Duration;

use internlm_agent::agent::{AgentEvent, Limits};
use internlm_agent::error::Error;
use internlm_agent::tool::tool_async;
use internlm_core::ToolCall;
use internlm_core::scripted::Reply;
use serde_json::json;

use crate::{Bold, scripted};

fn call() -> Reply {
    Reply::tool_calls(vec![ToolCall::new("slow", json!({"text": "a"}))])
}

#[tokio::test]
async fn async_tools_in_async_runs() {
    let (agent, _) = scripted([call(), Reply::text("ok")]);
    let slow = tool_async("slow", |b: Bold| async move {
        tokio::time::sleep(Duration::from_millis(1)).await;
        Ok(format!("slow {}", b.text))
    });
    let agent = agent.with_tool(slow);
    let mut stream = agent.stream("q");
    let mut text = String::new();
    let mut calls = 0;
    while let Some(event) = stream.next().await {
        match event.unwrap() {
            AgentEvent::Delta { text: more } => text.push_str(&more),
            AgentEvent::CallFinished { observed, .. } => {
                assert_eq!(observed.text(), "slow a");
                calls += 1;
            }
            _ => {}
        }
    }
    assert_eq!((text.as_str(), calls), ("ok", 1));
    assert!(matches!(agent.run_async("q").await, Err(Error::Model(_))));
}

#[test]
fn async_tools_in_runs_without_a_runtime() {
    let (agent, _) = scripted([call(), Reply::text("ok")]);
    let slow = tool_async("slow", |b: Bold| async move { Ok(b.text) });
    let report = agent.with_tool(slow).run("q").unwrap();
    assert_eq!(report.calls[0].observed.text(), "a");
}

#[tokio::test]
async fn a_tool_that_never_ends_meets_the_time() {
    let (agent, _) = scripted([call(), Reply::text("ok")]);
    let never = tool_async("slow", |_: Bold| {
        std::future::pending::<Result<String, _>>()
    });
    // Long enough for a busy system to get to the call.
    let limits = Limits::default().with_max_time(Duration::from_secs(1));
    let report = agent
        .with_tool(never)
        .with_limits(limits)
        .run_async("q")
        .await
        .unwrap();
    assert_eq!(report.calls[0].observed.text(), "Error: the time is up");
    assert!(matches!(
        report.ending,
        internlm_agent::agent::Ending::Limit(_)
    ));
}
