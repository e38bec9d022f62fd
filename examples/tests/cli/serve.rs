//! `serve`: what it prints, what it refuses, and how signals end it.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, ChildStdout, Command};

use serde_json::{Value, json};

use super::quantize::{internlm2, quantize, text};
use super::support::{Program, program, smollm2};

/// A server of the real model that runs, its stdout and its address.
fn start() -> Option<(Child, BufReader<ChildStdout>, String)> {
    start_with(&smollm2()?)
}

pub(crate) fn start_with(model: &Path) -> Option<(Child, BufReader<ChildStdout>, String)> {
    start_program(program("serve")?.model(model))
}

fn start_program(program: Program) -> Option<(Child, BufReader<ChildStdout>, String)> {
    let program = program.args(["--port", "0", "--max-context", "8192", "--cache-mib", "512"]);
    let mut child = program.args(["--grace", "60"]).spawn();
    let mut stdout = BufReader::new(child.stdout.take().expect("stdout is piped"));
    let mut line = String::new();
    stdout.read_line(&mut line).expect("a line");
    let address = line.trim_end().strip_prefix("serving at http://");
    let address = address.expect("the address is printed").to_owned();
    Some((child, stdout, address))
}

pub(crate) fn signal(child: &Child, name: &str) {
    let status = Command::new("kill")
        .arg(name)
        .arg(child.id().to_string())
        .status();
    assert!(status.expect("kill runs").success());
}

/// Begins a stream and waits for its head.
fn stream(address: &str, max_tokens: usize) -> BufReader<TcpStream> {
    let messages = json!([{"role": "user", "content": "Count."}]);
    post(
        address,
        &json!({"messages": messages, "stream": true, "ignore_eos": true, "max_tokens": max_tokens}),
    )
}

/// Asks for an answer of a chat and waits for its head.
fn post(address: &str, body: &Value) -> BufReader<TcpStream> {
    let mut stream = send(address, "/v1/chat/completions", body);
    let mut line = String::new();
    stream.read_line(&mut line).expect("a head");
    assert!(line.starts_with("HTTP/1.1 200"), "{line}");
    stream
}

fn send(address: &str, path: &str, body: &Value) -> BufReader<TcpStream> {
    let body = body.to_string();
    let mut stream = TcpStream::connect(address).expect("it listens");
    write!(
        stream,
        "POST {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
    .expect("it reads");
    BufReader::new(stream)
}

/// 24 of the checklist of bad input: the first SIGTERM lets a stream finish.
#[test]
fn a_signal_lets_answers_finish() {
    let Some((mut child, _stdout, address)) = start() else {
        return;
    };
    let mut stream = stream(&address, 40);
    signal(&child, "-TERM");
    let mut rest = String::new();
    stream.read_to_string(&mut rest).expect("a body");
    assert!(
        rest.contains("[DONE]") && !rest.contains("\"error\""),
        "{rest}"
    );
    assert_eq!(child.wait().expect("it ends").code(), Some(0));
    let mut log = String::new();
    let mut stderr = child.stderr.take().expect("stderr is piped");
    stderr.read_to_string(&mut log).expect("a log");
    for word in ["serving", "request", "draining", "done"] {
        assert!(log.contains(word), "{word} is not in {log}");
    }
}

/// 24: the second one does not.
#[test]
fn a_second_signal_ends_at_once() {
    let Some((mut child, _stdout, address)) = start() else {
        return;
    };
    let mut stream = stream(&address, 4000);
    signal(&child, "-TERM");
    // The server says that it has heard of the first.
    let mut stderr = BufReader::new(child.stderr.take().expect("stderr is piped"));
    let mut line = String::new();
    while !line.contains("draining") {
        line.clear();
        assert_ne!(stderr.read_line(&mut line).expect("a log"), 0);
    }
    signal(&child, "-TERM");
    assert_eq!(child.wait().expect("it ends").code(), Some(143));
    let mut rest = String::new();
    let cut = stream.read_to_string(&mut rest);
    assert!(cut.is_err() || !rest.contains("[DONE]"));
}

/// A model of InternLM2's shape in 4 bits: what `generate` makes of a rendered chat is what `chat` and the
/// server answer.
#[test]
fn a_chat_with_a_quantized_internlm2() {
    let scratch = tempfile::tempdir().expect("a folder");
    let Some(model) = internlm2(scratch.path()) else {
        return;
    };
    let folder = scratch.path().join("w4");
    let Some(run) = quantize(&model, &folder) else {
        return;
    };
    let run = run.args(["--group-size", "64", "--samples", "2", "--seq-len", "64"]);
    run.arg("--calib").arg(text(scratch.path())).objects([]);

    let said = "敏捷的棕色狐狸 jumps over";
    let messages = json!([{"role": "user", "content": said}]);
    let rendered = program("template").expect("is built").model(&folder);
    let rendered =
        rendered.objects([&json!({"messages": messages, "add_generation_prompt": true})]);
    let generated = program("generate").expect("is built").model(&folder);
    let generated = generated
        .args(["--greedy", "--max-new-tokens", "16"])
        .objects([&json!({"ids": rendered[0]["ids"]})]);
    let want = generated[0]["text"].as_str().expect("a text");
    assert!(!want.is_empty(), "{}", generated[0]);

    let chat = program("chat").expect("is built").model(&folder);
    let chat = chat.args(["--greedy", "--max-new-tokens", "16"]);
    let answer = chat.args(["--once", said]).objects([]);
    assert_eq!(answer[0]["text"], want);

    let Some((mut child, _stdout, address)) = start_with(&folder) else {
        return;
    };
    let asked = json!({
        "messages": messages, "temperature": 0, "max_tokens": 16,
    });
    let mut response = String::new();
    let mut stream = post(&address, &asked);
    stream.read_to_string(&mut response).expect("a body");
    let (_, body) = response.split_once("\r\n\r\n").expect("a body");
    let body: Value = serde_json::from_str(body).expect("JSON");
    assert_eq!(body["choices"][0]["message"]["content"], want);
    signal(&child, "-TERM");
    assert_eq!(child.wait().expect("it ends").code(), Some(0));
}

/// 21 of the checklist: a request that there is no memory for, then one that there is memory for.
#[cfg(target_os = "linux")]
#[test]
fn a_request_that_memory_does_not_hold_is_refused() {
    let Some((model, serve)) = smollm2().zip(program("serve")) else {
        return;
    };
    let reply = |address: &str, words: usize| {
        let prompt = "word ".repeat(words);
        let body = json!({"prompt": prompt, "max_tokens": 0, "echo": true, "logprobs": 1});
        let mut reply = String::new();
        let mut stream = send(address, "/v1/completions", &body);
        stream.read_to_string(&mut reply).expect("a reply");
        reply
    };
    // What a server takes that has answered a small request.
    let (mut child, _stdout, address) = start_program(serve.model(&model)).expect("it was there");
    assert!(reply(&address, 8).starts_with("HTTP/1.1 200"));
    let status = std::fs::read_to_string(format!("/proc/{}/status", child.id()));
    let status = status.expect("it runs");
    let peak = status.lines().find_map(|line| line.strip_prefix("VmPeak:"));
    let peak = peak.and_then(|kib| kib.trim().strip_suffix(" kB")?.parse::<usize>().ok());
    child.kill().expect("it runs");
    child.wait().expect("it ends");

    let serve = program("serve").expect("it was there").model(&model);
    let limited = serve.with_memory_limit(peak.expect("a peak") + (96 << 10));
    let (mut child, _stdout, address) = start_program(limited).expect("it was there");
    assert!(reply(&address, 8).starts_with("HTTP/1.1 200"));
    let refused = reply(&address, 8000);
    assert!(refused.starts_with("HTTP/1.1 503"), "{refused}");
    assert!(
        refused.contains("retry-after: ") && refused.contains("out_of_memory"),
        "{refused}"
    );
    assert!(reply(&address, 8).starts_with("HTTP/1.1 200"));
    signal(&child, "-TERM");
    assert_eq!(child.wait().expect("it ends").code(), Some(0));
}

#[test]
fn an_open_door_is_refused() {
    let Some((model, program)) = smollm2().zip(program("serve")) else {
        return;
    };
    let program = program
        .model(&model)
        .args(["--host", "0.0.0.0", "--port", "0"]);
    let error = program.error(b"");
    assert!(error.contains("API key"), "{error}");
}
