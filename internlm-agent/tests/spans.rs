//! Spans of a run. In a process of its own: `tracing` remembers of each place in the code whether anybody listens, and
//! other tests, who don't, may come there first.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::sync::{Arc, Mutex};

use internlm_agent::{Agent, tool};
use internlm_core::ToolCall;
use internlm_core::scripted::{Reply, ScriptedModel};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;

/// Makes text bold.
#[derive(Deserialize, JsonSchema)]
struct Bold {
    /// The text.
    text: String,
}

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
    let model = ScriptedModel::new([call, Reply::text("ok")]);
    let agent = Agent::new(model).with_tool(tool("bold", |b: Bold| Ok(format!("**{}**", b.text))));
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
    for span in [0, 1, 3] {
        let fields = &spans[span].1;
        for field in [
            "gen_ai.request.model=\"script\"",
            "gen_ai.provider.name=\"scripted\"",
        ] {
            assert!(fields.contains(field), "{span}: {fields}");
        }
    }
    for field in [
        "gen_ai.usage.input_tokens=",
        "gen_ai.usage.output_tokens=",
        "finish_reasons=\"stop\"",
    ] {
        assert!(spans[3].1.contains(field), "{field}: {}", spans[3].1);
    }
}
