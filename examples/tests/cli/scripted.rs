//! A server of OpenAI's interface that follows a script.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread::JoinHandle;

use serde_json::{Value, json};

/// A reply in words.
pub(crate) fn says(text: &str) -> Value {
    json!({"role": "assistant", "content": text})
}

/// A reply that calls a tool.
pub(crate) fn calls(name: &str, arguments: &Value) -> Value {
    let function = json!({"name": name, "arguments": arguments.to_string()});
    let call = json!({"index": 0, "id": "a", "type": "function", "function": function});
    json!({"role": "assistant", "tool_calls": [call]})
}

/// The same reply, cut at the limit of its tokens.
pub(crate) fn cut(mut reply: Value) -> Value {
    reply["finish_reason"] = json!("length");
    reply
}

/// What the model was told last in a request.
pub(crate) fn told(request: &Value) -> &str {
    let messages = request["messages"].as_array().expect("messages");
    let last = messages.last().expect("a message");
    last["content"].as_str().expect("a text")
}

/// A server that answers chats by a script of deltas; the bodies of the requests are handed back in the end.
pub(crate) fn scripted(replies: Vec<Value>) -> (String, JoinHandle<Vec<Value>>) {
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
                let mut delta = replies.next().expect("a reply is left");
                let reason = delta["finish_reason"].take();
                let reason = reason.as_str().unwrap_or("stop");
                let choice = json!({"index": 0, "delta": delta, "finish_reason": reason});
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
