//! `embed`: the engine in an axum application.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;

use super::support::{program, smollm2};

fn post(address: &str, path: &str, body: &str) -> String {
    let mut stream = TcpStream::connect(address).expect("it listens");
    write!(
        stream,
        "POST {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    )
    .expect("it reads");
    let mut reply = String::new();
    stream.read_to_string(&mut reply).expect("a reply");
    assert!(reply.starts_with("HTTP/1.1 200"), "{reply}");
    reply
}

#[test]
fn an_application_answers_with_its_own_route_and_with_ours() {
    let Some(model) = smollm2() else { return };
    let Some(program) = program("embed") else {
        return;
    };
    let mut child = program
        .args([model.to_str().expect("a path"), "127.0.0.1:0"])
        .spawn();
    let mut line = String::new();
    BufReader::new(child.stdout.take().expect("stdout is piped"))
        .read_line(&mut line)
        .expect("a line");
    let address = line.trim_end().strip_prefix("listening at http://");
    let address = address.expect("the address is printed");
    let own = post(address, "/ask", "What is the capital of France?");
    assert!(own.contains("Paris"), "{own}");
    let ours = r#"{"messages": [{"role": "user", "content": "What is the capital of France?"}], "temperature": 0}"#;
    let ours = post(address, "/llm/v1/chat/completions", ours);
    assert!(
        ours.contains("Paris") && ours.contains("chat.completion"),
        "{ours}"
    );
    child.kill().expect("it runs");
    child.wait().expect("it ends");
}
