//! `agent --protocol`: a script for each way to write calls, driven to the answer.

use serde_json::{Value, json};

use super::scripted::{calls, cut, says, scripted, told};
use super::support::{program, smollm2};

/// Runs the agent over a script; what it printed and what it asked. Nothing if it was not built.
fn run(arguments: &[&str], script: Vec<Value>) -> Option<(Vec<Value>, Vec<Value>)> {
    let mut program = program("agent")?;
    let (url, server) = scripted(script);
    program = program.args(["--base-url", &url, "--ask", "What is 6 times 7?"]);
    for argument in arguments {
        program = program.arg(argument);
    }
    let objects = program.objects([]);
    Some((objects, server.join().expect("the server ends")))
}

/// What the tool that was called first gave.
fn result(objects: &[Value]) -> &Value {
    let called = objects.iter().find(|object| !object["tool"].is_null());
    &called.expect("a call")["result"]
}

fn answer(objects: &[Value]) -> (&Value, &Value) {
    let last = objects.last().expect("an answer");
    (&last["answer"], &last["ending"])
}

#[test]
fn thoughts_and_actions_in_text() {
    let script = vec![
        says("Thought: I multiply.\nAction: calculator\nAction Input: {\"expression\": \"6*7\"}"),
        says("Thought: I know.\nFinal Answer: 42"),
    ];
    let Some((objects, asked)) = run(&["--protocol", "react-text"], script) else {
        return;
    };
    assert_eq!(result(&objects), "42");
    assert_eq!(answer(&objects), (&json!("42"), &json!("answered")));
    let system = asked[0]["messages"][0]["content"].as_str();
    assert!(system.expect("instructions").contains("Action Input:"));
    assert_eq!(told(&asked[1]), "Response:42\n");
}

/// What an engine writes with them is tested in `internlm-agent`; here a model that knows none answers in words.
#[test]
fn markers_of_internlm2() {
    let Some(agent) = program("agent") else {
        return;
    };
    let agent = agent.args(["--base-url", "http://127.0.0.1:9/v1", "--ask", "q"]);
    let error = agent.args(["--protocol", "internlm"]).error(b"");
    assert!(error.contains("--protocol openai"), "{error}");
    let (Some(model), Some(agent)) = (smollm2(), program("agent")) else {
        return;
    };
    let agent = agent
        .model(&model)
        .args(["--protocol", "internlm", "--ask", "Hi"]);
    let agent = agent.args(["--max-turns", "1", "--max-new-tokens", "8", "--greedy"]);
    let objects = agent.objects([]);
    assert_eq!(
        objects.last().expect("an answer")["turns"],
        1,
        "{objects:?}"
    );
}

#[test]
fn a_plan_first() {
    let script = vec![
        says("Plan: multiply.\n#E1 = calculator[{\"expression\": \"6*7\"}]"),
        says("It is 42."),
    ];
    let Some((objects, asked)) = run(&["--protocol", "rewoo"], script) else {
        return;
    };
    assert_eq!(result(&objects), "42");
    assert_eq!(answer(&objects), (&json!("It is 42."), &json!("answered")));
    assert!(told(&asked[1]).contains("Response: 42"));
}

/// Where there is no sandbox, the program says so and runs nothing.
#[cfg(target_os = "linux")]
#[test]
fn programs_as_actions() {
    let Some(program) = program("agent") else {
        return;
    };
    let (url, server) = scripted(vec![
        says("I compute.\n```python\nprint(6 * 7)\n```"),
        says("It is 42."),
    ]);
    let program = program.args(["--base-url", &url, "--ask", "What is 6 times 7?"]);
    let objects = program.args(["--protocol", "code"]).objects([]);
    let asked = server.join().expect("the server ends");
    assert!(result(&objects).as_str().expect("a text").contains("42"));
    assert_eq!(answer(&objects), (&json!("It is 42."), &json!("answered")));
    assert!(told(&asked[1]).starts_with("Output:\n42"), "{asked:?}");
}

#[test]
fn a_graph_of_questions() {
    let graph = "```python\ngraph = WebSearchGraph()\n\
        graph.add_root_node(node_content=\"What is 6 times 7?\", node_name=\"root\")\n\
        graph.add_node(node_name=\"product\", node_content=\"6 times 7\")\n\
        graph.add_edge(start_node=\"root\", end_node=\"product\")\n```";
    let script = vec![
        says(graph),
        calls("calculator", &json!({"expression": "6*7"})),
        says("42, says the calculator."),
        says("It is 42."),
    ];
    let folder = tempfile::tempdir().expect("a folder");
    let trace = folder.path().join("t.jsonl");
    let trace = trace.to_str().expect("a path");
    let Some((objects, asked)) = run(&["--protocol", "planner", "--trace", trace], script) else {
        return;
    };
    assert_eq!(result(&objects), "42, says the calculator.");
    assert_eq!(answer(&objects), (&json!("It is 42."), &json!("answered")));
    // The searcher has the tools, and the planner has not.
    assert!(asked[0]["tools"].is_null());
    assert_eq!(asked[1]["tools"][0]["function"]["name"], "calculator");
    assert!(told(&asked[1]).contains("# Question\n\n6 times 7"));
    assert!(told(&asked[3]).contains("42, says the calculator."));
    let lines = std::fs::read_to_string(trace).expect("a trace");
    assert!(lines.contains("\"agent\":\"searcher\"") && lines.contains("\"agent\":\"planner\""));
}

#[test]
fn an_answer_that_was_cut_is_called_so() {
    let script = vec![cut(says("It is 4"))];
    let Some((objects, _)) = run(&["--unconstrained"], script) else {
        return;
    };
    assert_eq!(answer(&objects), (&json!("It is 4"), &json!("truncated")));
    assert_eq!(objects[0]["finish_reason"], "length");
}

#[test]
fn a_protocol_that_there_is_not_is_wrong_usage() {
    let Some(program) = program("agent") else {
        return;
    };
    let output = program.args(["--protocol", "autogpt"]).output(b"");
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        said.contains("react-text") && said.contains("planner"),
        "{said}"
    );
}
