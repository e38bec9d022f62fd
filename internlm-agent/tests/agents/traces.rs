//! What is written down of runs.

use std::path::PathBuf;
use std::time::Duration;

use internlm_agent::agent::{AgentEvent, Limits, Retry};
use internlm_agent::error::Error;
use internlm_agent::tool::{Media, MediaSource, OutputPart, ToolOutput, tool};
use internlm_agent::trace;
use internlm_core::ToolCall;
use internlm_core::chat_model::FinishReason;
use internlm_core::scripted::Reply;
use serde_json::json;

use crate::{Bold, scripted};

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

/// Markup that would do something if it were taken for markup.
const HOSTILE: &str = "<img src=x onerror=\"document.title='broken'\"></script><script>document.title='broken'</script>";

/// A page of everything that is hard to show; `tests/page/run.mjs` opens it in a browser. With
/// `INTERNLM_AGENT_TEST_PAGES=FOLDER` the pages stay there.
#[test]
fn pages_of_everything_that_is_hard_to_show() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("trace.jsonl");
    let call = |name: &str, text: &str| {
        Reply::tool_calls(vec![ToolCall::new(name, json!({"text": text}))])
    };
    let long = "很长的文字_and_long_text_".repeat(200);
    let image = OutputPart::Image {
        image: Media {
            mime: "image/png".to_owned(),
            source: MediaSource::Path("plot.png".into()),
        },
    };
    let agent = |name: &str, replies: Vec<Reply>| {
        let (agent, _) = scripted(replies);
        let image = image.clone();
        agent
            .with_name(name)
            .with_trace(&file)
            .with_retry(Retry::default().with_wait(Duration::ZERO))
            .with_tool(tool("bold", |b: Bold| Ok(format!("**{}**", b.text))).with_approval())
            .with_tool(tool("draw", move |_: Bold| {
                Ok(ToolOutput::text(HOSTILE).with(image.clone()))
            }))
    };
    let both = Reply::tool_calls(vec![
        ToolCall::new("draw", json!({"text": HOSTILE})),
        ToolCall::new("draw", json!({"txt": 1})),
    ]);
    let all = vec![
        Reply::error(crate::driver::flaky()),
        both.clone(),
        call("nobody", &long),
        Reply::text(&long).with_finish_reason(FinishReason::Length),
    ];
    agent(HOSTILE, all).run(HOSTILE).unwrap();
    agent("waits", vec![call("bold", "a")]).run("q").unwrap();
    let limits = Limits::default().with_max_calls(1);
    let limited = agent("limited", vec![both]).with_limits(limits);
    limited.run("q").unwrap();

    let (page, empty) = (trace::html(&trace::read(&file).unwrap()), trace::html(&[]));
    assert!(!page.contains("<img") && page.contains("\\u003cimg"));
    if let Some(folder) = std::env::var_os("INTERNLM_AGENT_TEST_PAGES").map(PathBuf::from) {
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("trace.html"), page).unwrap();
        std::fs::write(folder.join("empty.html"), empty).unwrap();
    }
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
