//! The planner: a graph, searches, citations, an answer.

use std::sync::{Arc, Mutex};

use internlm_agent::agent::Ending;
use internlm_agent::protocol::Protocol;
use internlm_agent::protocol::planner::Planner;
use internlm_agent::tool;
use internlm_agent::tool::{OutputPart, ToolOutput};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{messages, scripted};

/// Searches.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
struct Search {
    question: String,
    topic: String,
    history: Vec<Value>,
}

#[test]
fn a_graph_is_searched_and_answered_from() {
    let first = "First the parts.\n```python\ngraph = WebSearchGraph()\n\
        graph.add_root_node(node_content=\"Which is taller?\", node_name=\"root\")\n\
        graph.add_node(node_name=\"a\", node_content=\"How tall is A?\")\n\
        graph.add_node(node_name=\"b\", node_content=\"How tall is B?\")\n\
        graph.add_edge(start_node=\"root\", end_node=\"a\")\n\
        graph.node(\"a\"), graph.node(\"b\")\n```";
    let second = "<|action_start|><|interpreter|>```python\ngraph.add_node('c', 'The difference?')\n\
        graph.add_edge('a', 'c')\ngraph.node('c')\n```<|action_end|>";
    // An edge to a node that was added before has answers to tell; here it comes after, in the same program.
    let third = "```python\ngraph.add_response_node(node_name=\"response\")\n```";
    let (agent, model) = scripted([first, second, third, "A, by 2 m [[1]][[6]]."]);
    let seen: Arc<Mutex<Vec<Search>>> = Arc::default();
    let log = seen.clone();
    let searcher = tool("searcher", move |search: Search| {
        log.lock().unwrap().push(search.clone());
        let text = format!("About {} [[0]] and [[3]].", search.question);
        Ok(ToolOutput::text(text).with(OutputPart::Json {
            value: json!({"0": "page", "3": "other page"}),
        }))
    });
    let protocol = Protocol::Planner(Planner::default());
    let report = agent
        .with_tool(searcher)
        .with_protocol(protocol)
        .run("Which is taller?")
        .unwrap();
    assert_eq!(report.ending, Ending::Answered);
    assert_eq!(report.answer, "A, by 2 m [[1]][[6]].");
    assert_eq!(report.calls.len(), 3);

    let requests = model.requests();
    let told = messages(&requests[1]).last().unwrap().text();
    let want = "## How tall is A?\n\nAbout How tall is A? [[1]] and [[2]].\n\n\
        ## How tall is B?\n\nAbout How tall is B? [[4]] and [[5]].";
    assert_eq!(told, want);
    assert!(
        messages(&requests[3])
            .last()
            .unwrap()
            .text()
            .starts_with("Answer the question now")
    );

    let seen = seen.lock().unwrap();
    assert!(seen.iter().all(|search| search.topic == "Which is taller?"));
    let last = seen
        .iter()
        .find(|search| search.question == "The difference?")
        .unwrap();
    assert_eq!(last.history[0]["question"], "How tall is A?");
    assert_eq!(report.details["sources"]["1"], "page");
    assert_eq!(report.details["sources"]["5"], "other page");
    assert_eq!(
        report.details["graph"]["nodes"].as_array().unwrap().len(),
        5
    );
}

#[test]
fn a_wrong_program_changes_nothing() {
    let wrong = "```python\ngraph.add_node('a', 'q')\ngraph.add_edge('nobody', 'a')\n```";
    let (agent, model) = scripted([wrong, "Then not."]);
    let searcher = tool(
        "searcher",
        |_: Search| -> Result<String, internlm_agent::tool::ToolError> {
            Err("must not be searched".into())
        },
    );
    let agent = agent
        .with_tool(searcher)
        .with_protocol(Protocol::Planner(Planner::default()));
    let report = agent.run("q").unwrap();
    assert!(report.calls.is_empty());
    assert!(
        report.details["graph"]["nodes"]
            .as_array()
            .unwrap()
            .is_empty()
    );
    let told = messages(&model.requests()[1]).last().unwrap().text();
    assert!(
        told.starts_with("Error: there is no node \"nobody\""),
        "{told}"
    );
}
