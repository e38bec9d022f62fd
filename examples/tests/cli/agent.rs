//! `agent`: the loop end to end against a server that follows a script, and constrained calls of a real model.

use serde_json::json;

use super::scripted::{calls, says, scripted};
use super::support::{program, smollm2};

/// The question of the guide, which has one right answer.
const QUESTION: &str = "小明有37盒笔,每盒12支,又买了5支,一共多少支?";

#[test]
fn a_scripted_model_is_driven_to_the_answer() {
    let (url, server) = scripted(vec![
        calls("calculator", &json!({"expression": "37 × 12 + 5"})),
        says("一共449支。"),
    ]);
    let Some(program) = program("agent") else {
        return;
    };
    let folder = tempfile::tempdir().expect("a folder");
    let (trace, page) = (folder.path().join("t.jsonl"), folder.path().join("t.html"));
    let program = program.args(["--base-url", &url, "--ask", QUESTION]);
    let program = program.arg("--trace").arg(&trace).arg("--page").arg(&page);
    let objects = program.objects([]);
    let called = objects.iter().find(|object| object["tool"] == "calculator");
    assert_eq!(called.expect("a call")["result"], "449", "{objects:?}");
    let answer = objects.last().expect("an answer");
    assert_eq!(answer["answer"], "一共449支。");
    assert_eq!(
        (&answer["ending"], &answer["calls"]),
        (&json!("answered"), &json!(1))
    );
    let asked = server.join().expect("the server ends");
    assert_eq!(asked[0]["tool_choice"], "required");
    assert_eq!(asked[0]["messages"][0]["content"], QUESTION);
    let told = asked[1]["messages"].as_array().expect("messages").last();
    assert_eq!(told.expect("a result")["content"], "449");
    let page = std::fs::read_to_string(page).expect("a page");
    assert!(page.contains("37 × 12 + 5"));
}

#[test]
fn questions_come_from_stdin_too() {
    let (url, server) = scripted(vec![says("Four."), says("Five.")]);
    let Some(program) = program("agent") else {
        return;
    };
    let program = program.args(["--base-url", &url, "--unconstrained"]);
    let output = program.output("2+2?\n\n2+3?\n".as_bytes());
    assert_eq!(String::from_utf8_lossy(&output.stdout), "Four.\nFive.\n");
    let asked = server.join().expect("the server ends");
    assert_eq!(asked.len(), 2);
    assert_ne!(asked[0]["tool_choice"], "required");
}

#[test]
fn every_call_of_a_real_model_is_valid() {
    let (Some(model), Some(_)) = (smollm2(), program("agent")) else {
        return;
    };
    for protocol in ["openai", "react"] {
        let program = program("agent").expect("it was there").model(&model);
        let program = program.args(["--protocol", protocol, "--ask", QUESTION]);
        let objects = program.args(["--max-turns", "2"]).objects([]);
        let calls = objects.iter().filter(|object| !object["tool"].is_null());
        for call in calls {
            assert_eq!(call["tool"], "calculator", "{protocol}: {objects:?}");
            assert!(
                call["arguments"]["expression"].is_string(),
                "{protocol}: {call}"
            );
        }
        let calls = objects.last().map(|answer| &answer["calls"]);
        assert!(
            protocol != "openai" || calls != Some(&json!(0)),
            "{objects:?}"
        );
    }
}

#[test]
fn wrong_names_are_errors() {
    let Some(program) = program("agent") else {
        return;
    };
    let error = program
        .args(["--tools", "abacus", "--ask", "2+2?"])
        .error(b"");
    assert!(
        error.contains("abacus") && error.contains("calculator"),
        "{error}"
    );
}
