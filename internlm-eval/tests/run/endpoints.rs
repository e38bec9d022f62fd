//! Servers that hang, answer HTML, break off or give no log-probabilities: failed items, never holes.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use internlm_core::remote::{Dialect, RemoteConfig, RemoteModel};
use internlm_eval::{Report, Run, RunConfig};

use crate::toy::{Kind, Made, as_benchmarks};

/// A server that answers the n-th connection as it is told.
struct Server {
    address: SocketAddr,
    stop: Arc<AtomicBool>,
    asked: Arc<AtomicUsize>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// `None` keeps the connection open without a word.
    fn start(answer: impl Fn(usize) -> Option<String> + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let asked = Arc::new(AtomicUsize::new(0));
        let (stopped, count) = (Arc::clone(&stop), Arc::clone(&asked));
        let thread = std::thread::spawn(move || {
            let mut held = Vec::new();
            for stream in listener.incoming() {
                if stopped.load(Ordering::SeqCst) {
                    return;
                }
                let Ok(mut stream) = stream else { continue };
                read_request(&mut stream);
                match answer(count.fetch_add(1, Ordering::SeqCst)) {
                    // A client may be gone.
                    Some(text) => drop(stream.write_all(text.as_bytes())),
                    None => held.push(stream),
                }
            }
        });
        Self {
            address,
            stop,
            asked,
            thread: Some(thread),
        }
    }

    fn model(&self, set: impl FnOnce(RemoteConfig) -> RemoteConfig) -> RemoteModel {
        let config = RemoteConfig::new(format!("http://{}", self.address), "m")
            .with_dialect(Dialect::Vllm)
            .with_backoff(Duration::from_millis(1))
            .with_read_timeout(Duration::from_secs(30))
            .with_prefix_token(1);
        RemoteModel::new(set(config)).unwrap()
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        // Wakes the thread that waits for a connection.
        let _ = TcpStream::connect(self.address);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn read_request(stream: &mut TcpStream) {
    let _ = stream.set_read_timeout(Some(Duration::from_secs(30)));
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        if stream.read_exact(&mut byte).is_err() {
            return;
        }
        head.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&head).to_ascii_lowercase();
    let length = head
        .split("content-length: ")
        .nth(1)
        .and_then(|l| l.lines().next()?.parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    let _ = stream.read_exact(&mut body);
}

fn response(kind: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n\r\n{body}"
    )
}

fn stream(text: &str, whole: bool) -> String {
    let event = |json: String| format!("data: {json}\n\n");
    let mut body = event(format!(
        r#"{{"choices":[{{"index":0,"text":"{text}","finish_reason":null}}]}}"#
    ));
    if whole {
        body += &event(r#"{"choices":[{"index":0,"text":"","finish_reason":"stop"}]}"#.to_owned());
        body += "data: [DONE]\n\n";
        return response("text/event-stream", &body);
    }
    // The end of the last chunk is missing.
    let length = body.len();
    format!(
        "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Type: text/event-stream\r\n\
         Transfer-Encoding: chunked\r\n\r\n{length:x}\r\n{body}\r\n"
    )
}

fn run(model: &RemoteModel, kind: Kind, config: RunConfig) -> Report {
    let made = vec![Made::new("b", kind, 3)];
    Run::new(
        config
            .with_concurrency(1)
            .with_backoff(Duration::from_millis(1)),
    )
    .with_chat_model(model)
    .with_scorer(model)
    .with_benchmarks(as_benchmarks(&made))
    .execute()
    .unwrap()
}

fn errors(report: &Report) -> Vec<Option<&str>> {
    let records = report.benchmarks[0].records.iter();
    records.map(|record| record.error.as_deref()).collect()
}

#[test]
fn a_stream_that_broke_is_asked_for_again() {
    let server = Server::start(|n| Some(stream("a", n != 1)));
    let model = server.model(|config| config);
    let report = run(&model, Kind::Text(1), RunConfig::default());
    assert_eq!((report.failed(), server.asked()), (0, 4));
}

#[test]
fn a_server_that_always_breaks_off_fails_each_item_after_its_retries() {
    let server = Server::start(|_| Some(stream("a", false)));
    let model = server.model(|config| config);
    let report = run(&model, Kind::Text(1), RunConfig::default().with_retries(1));
    assert_eq!((report.failed(), server.asked()), (3, 6));
    assert!(report.benchmarks[0].scores.is_empty());
}

#[test]
fn html_in_place_of_an_answer_is_a_failed_item() {
    let server = Server::start(|n| match n {
        1 => Some(response("text/html", "<h1>Welcome</h1>")),
        _ => Some(stream("a", true)),
    });
    let model = server.model(|config| config);
    let report = run(&model, Kind::Text(1), RunConfig::default());
    let errors = errors(&report);
    assert_eq!(errors.iter().flatten().count(), 1);
    let error = errors.into_iter().flatten().next().unwrap();
    assert!(error.contains("text/html"), "{error}");
}

#[test]
fn a_server_that_hangs_fails_its_item_when_its_time_is_up() {
    let server = Server::start(|n| (n != 1).then(|| stream("a", true)));
    let model = server.model(|config| config.with_read_timeout(Duration::from_millis(200)));
    let report = run(&model, Kind::Text(1), RunConfig::default());
    assert_eq!((report.failed(), server.asked()), (1, 3));
}

#[test]
fn a_server_without_log_probabilities_fails_items_with_the_reason() {
    let tokens = r#"{"tokens": [1, 2, 3, 4, 5, 6, 7, 8], "count": 8}"#;
    let completion =
        r#"{"choices": [{"index": 0, "text": "", "finish_reason": "length", "logprobs": null}]}"#;
    let server = Server::start(move |n| {
        let body = if n % 2 == 0 { tokens } else { completion };
        Some(response("application/json", body))
    });
    let model = server.model(|config| config);
    let report = run(&model, Kind::Rolling, RunConfig::default());
    assert_eq!(report.failed(), 3);
    for error in errors(&report) {
        let error = error.unwrap();
        assert!(!error.is_empty() && !error.contains('\n'), "{error}");
    }
}

#[test]
fn nobody_listens() {
    let address = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let config = RemoteConfig::new(format!("http://{address}"), "m")
        .with_retries(0)
        .with_prefix_token(1);
    let model = RemoteModel::new(config).unwrap();
    for kind in [Kind::Text(1), Kind::Choice, Kind::Perplexity] {
        assert_eq!(run(&model, kind, RunConfig::default()).failed(), 3);
    }
}
