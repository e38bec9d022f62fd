//! `agent`: the loop end to end against a server that follows a script, and constrained calls of a real model.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread::JoinHandle;

use serde_json::{Value, json};

use super::support::{program, smollm2};

/// The question of the guide, which has one right answer.
const QUESTION: &str = "小明有37盒笔,每盒12支,又买了5支,一共多少支?";

/// A server that answers chats by a script; its requests are handed back in the end.
fn scripted(replies: Vec<Value>) -> (String, JoinHandle<Vec<Value>>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}/v1", listener.local_addr().expect("an address"));
    let server = std::thread::spawn(move || {
        let mut replies = replies.into_iter().peekable();
        let mut asked = Vec::new();
        while replies.peek().is_some() {
            let (mut stream, _) = listener.accept().expect("a connection");
            let (line, body) = request(&stream);
            let (kind, text) = if line.starts_with("GET /v1/models ") {
                let models =
                    json!({"object": "list", "data": [{"id": "script", "object": "model"}]});
                ("application/json", models.to_string())
            } else if line.starts_with("POST /v1/chat/completions ") {
                asked.push(body);
                let delta = replies.next().expect("a reply is left");
                let choice = json!({"index": 0, "delta": delta, "finish_reason": "stop"});
                let event =
                    json!({"id": "1", "object": "chat.completion.chunk", "choices": [choice]});
                (
                    "text/event-stream",
                    format!("data: {event}\n\ndata: [DONE]\n\n"),
                )
            } else {
                ("text/plain", String::new())
            };
            let status = if text.is_empty() {
                "404 Not Found"
            } else {
                "200 OK"
            };
            let length = text.len();
            let head = format!(
                "HTTP/1.1 {status}\r\nconnection: close\r\ncontent-type: {kind}\r\ncontent-length: {length}\r\n\r\n"
            );
            stream
                .write_all((head + &text).as_bytes())
                .expect("it reads");
        }
        asked
    });
    (url, server)
}

/// The first line of a request, and its body.
fn request(stream: &TcpStream) -> (String, Value) {
    let mut reader = BufReader::new(stream);
    let mut head = Vec::new();
    let mut length = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).expect("a line");
        if line.trim().is_empty() {
            break;
        }
        if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().expect("a length");
        }
        head.push(line);
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).expect("a body");
    let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
    (head.into_iter().next().unwrap_or_default(), body)
}

#[test]
fn a_scripted_model_is_driven_to_the_answer() {
    let call = json!({"index": 0, "id": "a", "type": "function",
        "function": {"name": "calculator", "arguments": "{\"expression\": \"37 × 12 + 5\"}"}});
    let (url, server) = scripted(vec![
        json!({"role": "assistant", "tool_calls": [call]}),
        json!({"role": "assistant", "content": "一共449支。"}),
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
    let (url, server) = scripted(vec![
        json!({"role": "assistant", "content": "Four."}),
        json!({"role": "assistant", "content": "Five."}),
    ]);
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
