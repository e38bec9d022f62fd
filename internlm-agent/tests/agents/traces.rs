//! What is written down of runs.

use internlm_agent::agent::AgentEvent;
use internlm_agent::error::Error;
use internlm_agent::trace;
use internlm_core::ToolCall;
use internlm_core::scripted::Reply;
use serde_json::json;

use crate::scripted;

#[test]
fn a_trace_is_read_back_and_shown() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("trace.jsonl");
    let call = Reply::tool_calls(vec![ToolCall::new("bold", json!({"text": "</script><b>"}))]);
    let (agent, _) = scripted([call, Reply::text("ok"), Reply::text("again")]);
    let agent = agent.with_name("writer").with_trace(&file);
    agent.run("q </script>").unwrap();
    agent.run("once more").unwrap();
    let lines = trace::read(&file).unwrap();
    let runs: std::collections::BTreeSet<u64> = lines.iter().map(|line| line.run).collect();
    assert_eq!((lines.len(), runs.len()), (10, 2));
    assert!(lines.iter().all(|line| line.agent == "writer"));
    assert!(matches!(&lines[6].event, AgentEvent::Finished { report } if report.answer == "ok"));

    let page = trace::html(&lines);
    // Nothing of the run can end the script, and nothing is loaded.
    assert_eq!(page.matches("</script>").count(), 2);
    assert!(page.contains("\\u003c/script>") && !page.contains("/*TRACE*/"));
    assert!(!page.contains("http"));

    // A writer that was killed leaves half a line.
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, &text[..text.len() - 5]).unwrap();
    assert_eq!(trace::read(&file).unwrap().len(), 9);
    std::fs::write(&file, "{}\n").unwrap();
    assert!(matches!(trace::read(&file), Err(Error::State { .. })));
    assert!(matches!(
        trace::read(folder.path().join("none")),
        Err(Error::Io { .. })
    ));
    let (agent, _) = scripted(["x"]);
    assert!(matches!(
        agent.with_trace(folder.path()).run("q"),
        Err(Error::Io { .. })
    ));
}

/// The one that README reads with `jq`.
#[test]
fn the_example_of_a_trace_is_one() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/trace.jsonl");
    let lines = trace::read(file).unwrap();
    let answers = lines.iter().filter_map(|line| match &line.event {
        AgentEvent::Finished { report } => Some(report.answer.as_str()),
        _ => None,
    });
    assert_eq!(answers.collect::<Vec<_>>(), ["ok", "again"]);
}
