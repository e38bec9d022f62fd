//! An HTTP server that follows a script: each connection gets the next answer, and what it asked
//! is kept.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use internlm_core::remote::{Dialect, RemoteConfig, RemoteModel};
use serde_json::Value;

/// One request as it came.
#[derive(Clone, Debug)]
pub(crate) struct Received {
    pub(crate) method: String,
    pub(crate) path: String,
    /// Names in lower case.
    pub(crate) headers: Vec<(String, String)>,
    /// `Null` if there was none.
    pub(crate) body: Value,
}

impl Received {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(other, _)| other == name);
        found.map(|(_, value)| value.as_str())
    }
}

/// What a connection is answered.
pub(crate) struct Answer {
    /// Sent one after the other.
    pieces: Vec<Vec<u8>>,
    /// Wait for the client to close the connection, and tell so.
    hold: Option<Sender<()>>,
}

impl Answer {
    /// These bytes and then the end of the connection.
    pub(crate) fn raw(bytes: impl Into<Vec<u8>>) -> Self {
        Self {
            pieces: vec![bytes.into()],
            hold: None,
        }
    }

    pub(crate) fn status(status: u16, headers: &str, body: &str) -> Self {
        let length = body.len();
        Self::raw(format!(
            "HTTP/1.1 {status} Some Reason\r\nConnection: close\r\nContent-Length: {length}\r\n\
             {headers}\r\n{body}"
        ))
    }

    pub(crate) fn json(value: &Value) -> Self {
        Self::status(
            200,
            "Content-Type: application/json\r\n",
            &value.to_string(),
        )
    }

    /// A stream of events in one piece.
    pub(crate) fn stream(text: &str) -> Self {
        Self::stream_in([text.as_bytes()])
    }

    /// The same text in pieces, each an HTTP chunk of its own.
    pub(crate) fn stream_in<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let mut answer = Self::unfinished(pieces);
        answer.pieces.push(b"0\r\n\r\n".to_vec());
        answer
    }

    /// A stream that is cut: the chunk that ends it is missing.
    pub(crate) fn unfinished<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let mut answer = Self::raw(
            "HTTP/1.1 200 OK\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\
             Content-Type: text/event-stream; charset=utf-8\r\n\r\n",
        );
        for piece in pieces {
            let mut chunk = format!("{:x}\r\n", piece.len()).into_bytes();
            chunk.extend_from_slice(piece);
            chunk.extend_from_slice(b"\r\n");
            answer.pieces.push(chunk);
        }
        answer
    }

    /// Keeps the connection open after the last piece; the receiver hears when the client closed
    /// it.
    pub(crate) fn held(mut self) -> (Self, Receiver<()>) {
        let (sender, receiver) = channel();
        self.hold = Some(sender);
        (self, receiver)
    }

    fn send(self, stream: &mut TcpStream) {
        for piece in self.pieces {
            // A client may be gone before the end.
            if stream
                .write_all(&piece)
                .and_then(|()| stream.flush())
                .is_err()
            {
                break;
            }
        }
        if let Some(closed) = self.hold {
            let mut byte = [0];
            while matches!(stream.read(&mut byte), Ok(count) if count > 0) {}
            let _ = closed.send(());
        }
    }
}

/// A text of events with these data, and its end.
pub(crate) fn events(data: &[Value]) -> String {
    let mut text: String = data
        .iter()
        .map(|data| format!("data: {data}\n\n"))
        .collect();
    text.push_str("data: [DONE]\n\n");
    text
}

pub(crate) struct Server {
    address: SocketAddr,
    received: Arc<Mutex<Vec<Received>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    pub(crate) fn start(answers: impl IntoIterator<Item = Answer>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let received = Arc::new(Mutex::new(Vec::new()));
        let stop = Arc::new(AtomicBool::new(false));
        let answers: Vec<Answer> = answers.into_iter().collect();
        let (list, stopped) = (Arc::clone(&received), Arc::clone(&stop));
        let thread = std::thread::spawn(move || {
            for answer in answers {
                let Ok((mut stream, _)) = listener.accept() else {
                    return;
                };
                if stopped.load(Ordering::SeqCst) {
                    return;
                }
                // No test waits for this; it keeps a broken one from hanging.
                let _ = stream.set_read_timeout(Some(Duration::from_secs(60)));
                if let Some(request) = receive(&mut stream) {
                    list.lock().unwrap().push(request);
                    answer.send(&mut stream);
                }
            }
        });
        Self {
            address,
            received,
            stop,
            thread: Some(thread),
        }
    }

    /// Everything asked so far.
    pub(crate) fn received(&self) -> Vec<Received> {
        self.received.lock().unwrap().clone()
    }

    pub(crate) fn bodies(&self) -> Vec<Value> {
        self.received()
            .into_iter()
            .map(|request| request.body)
            .collect()
    }

    /// Settings that reach this server and hardly wait between attempts.
    pub(crate) fn config(&self) -> RemoteConfig {
        RemoteConfig::new(format!("http://{}", self.address), "m")
            .with_backoff(Duration::from_millis(1))
            .with_read_timeout(Duration::from_secs(60))
    }

    pub(crate) fn model(&self, dialect: Dialect) -> RemoteModel {
        RemoteModel::new(self.config().with_dialect(dialect)).unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        // Wakes a thread that waits for a connection.
        let _ = TcpStream::connect(self.address);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn receive(stream: &mut TcpStream) -> Option<Received> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).ok()?;
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap();
    let mut lines = head.lines();
    let mut first = lines.next()?.split(' ');
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
        .collect();
    let length = headers.iter().find(|(name, _)| name == "content-length");
    let length = length.map_or(0, |(_, length)| length.parse().unwrap());
    let mut body = vec![0; length];
    stream.read_exact(&mut body).ok()?;
    Some(Received {
        method: first.next()?.to_owned(),
        path: first.next()?.to_owned(),
        headers,
        body: match length {
            0 => Value::Null,
            _ => serde_json::from_slice(&body).unwrap(),
        },
    })
}
