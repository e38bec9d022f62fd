//! What is written down of runs.

use std::sync::{Arc, Mutex};

use internlm_agent::agent::AgentEvent;
use internlm_agent::error::Error;
use internlm_agent::trace;
use internlm_core::ToolCall;
use internlm_core::scripted::Reply;
use serde_json::json;

use crate::scripted;

/// Keeps the names and the fields of spans.
#[derive(Clone, Default)]
struct Spans(Arc<Mutex<Vec<(String, String)>>>);

impl tracing::Subscriber for Spans {
    fn enabled(&self, _: &tracing::Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, attributes: &tracing::span::Attributes<'_>) -> tracing::Id {
        let mut spans = self.0.lock().unwrap();
        spans.push((attributes.metadata().name().to_owned(), String::new()));
        let id = spans.len() as u64;
        attributes.record(&mut Fields(&mut spans.last_mut().unwrap().1));
        tracing::Id::from_u64(id)
    }

    fn record(&self, id: &tracing::Id, values: &tracing::span::Record<'_>) {
        let mut spans = self.0.lock().unwrap();
        let place = usize::try_from(id.into_u64()).unwrap() - 1;
        values.record(&mut Fields(&mut spans[place].1));
    }

    fn record_follows_from(&self, _: &tracing::Id, _: &tracing::Id) {}
    fn event(&self, _: &tracing::Event<'_>) {}
    fn enter(&self, _: &tracing::Id) {}
    fn exit(&self, _: &tracing::Id) {}
}

struct Fields<'a>(&'a mut String);

impl tracing::field::Visit for Fields<'_> {
    fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn std::fmt::Debug) {
        self.0.push_str(&format!("{}={value:?} ", field.name()));
    }
}

#[test]
fn spans_have_the_names_of_the_conventions() {
    let call = Reply::tool_calls(vec![ToolCall::new("bold", json!({"text": "a"}))]);
    let (agent, _) = scripted([call, Reply::text("ok")]);
    let spans = Spans::default();
    tracing::subscriber::with_default(spans.clone(), || {
        agent.with_name("writer").run("q").unwrap();
    });
    let spans = spans.0.lock().unwrap();
    let names: Vec<&str> = spans.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["invoke_agent", "chat", "execute_tool", "chat"]);
    assert!(
        spans[0].1.contains("gen_ai.agent.name=writer"),
        "{}",
        spans[0].1
    );
    assert!(
        spans[2]
            .1
            .contains("gen_ai.tool.name=bold gen_ai.tool.call.id=call_0"),
        "{}",
        spans[2].1
    );
    for field in [
        "gen_ai.usage.input_tokens=",
        "gen_ai.usage.output_tokens=",
        "finish_reasons=\"stop\"",
    ] {
        assert!(spans[3].1.contains(field), "{field}: {}", spans[3].1);
    }
}

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
