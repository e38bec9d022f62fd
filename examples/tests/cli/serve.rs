//! `serve`: what it prints, what it refuses, and how signals end it.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, ChildStdout, Command};

use super::support::{program, smollm2};

/// A server that runs, its stdout and its address.
fn start() -> Option<(Child, BufReader<ChildStdout>, String)> {
    let model = smollm2()?;
    let program = program("serve")?.model(&model);
    let program = program.args(["--port", "0", "--max-context", "4096", "--cache-mib", "128"]);
    let mut child = program.args(["--grace", "60"]).spawn();
    let mut stdout = BufReader::new(child.stdout.take().expect("stdout is piped"));
    let mut line = String::new();
    stdout.read_line(&mut line).expect("a line");
    let address = line.trim_end().strip_prefix("serving at http://");
    let address = address.expect("the address is printed").to_owned();
    Some((child, stdout, address))
}

fn signal(child: &Child, name: &str) {
    let status = Command::new("kill")
        .arg(name)
        .arg(child.id().to_string())
        .status();
    assert!(status.expect("kill runs").success());
}

/// Begins a stream and waits for its head.
fn stream(address: &str, max_tokens: usize) -> BufReader<TcpStream> {
    let body = format!(
        "{{\"messages\": [{{\"role\": \"user\", \"content\": \"Count.\"}}], \"stream\": true, \
         \"ignore_eos\": true, \"max_tokens\": {max_tokens}}}"
    );
    let mut stream = TcpStream::connect(address).expect("it listens");
    write!(
        stream,
        "POST /v1/chat/completions HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
    .expect("it reads");
    let mut stream = BufReader::new(stream);
    let mut line = String::new();
    stream.read_line(&mut line).expect("a head");
    assert!(line.starts_with("HTTP/1.1 200"), "{line}");
    stream
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
