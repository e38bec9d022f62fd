//! A hub of our own on loopback: its listing, its file URLs, its storage, and whatever a test wants
//! to go wrong.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use serde_json::json;
use sha1::Sha1;
use sha2::{Digest, Sha256};

pub(crate) const REPO: &str = "org/name";
pub(crate) const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) method: String,
    /// Path and query.
    pub(crate) path: String,
    headers: Vec<(String, String)>,
}

impl Request {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(key, _)| key == name);
        found.map(|(_, value)| value.as_str())
    }

    pub(crate) fn is_get_of(&self, file: &str) -> bool {
        self.method == "GET" && self.path.ends_with(&format!("/{file}"))
    }
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    /// Send so many bytes of the body and close, though all were announced.
    pub(crate) cut: Option<usize>,
    /// Then say nothing until the client gives up.
    pub(crate) stall: bool,
}

impl Response {
    pub(crate) fn status(status: u16) -> Self {
        Response {
            status,
            ..Response::default()
        }
    }

    pub(crate) fn with(mut self, name: &str, value: impl ToString) -> Self {
        self.headers.push((name.to_owned(), value.to_string()));
        self
    }

    pub(crate) fn with_body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }
}

/// A file of the repository.
#[derive(Clone)]
struct Stored {
    bytes: Vec<u8>,
    large: bool,
}

impl Stored {
    fn hash(&self) -> String {
        if self.large {
            sha256(&self.bytes)
        } else {
            git_hash(&self.bytes)
        }
    }
}

type Hook = Box<dyn FnMut(&Request, Response) -> Response + Send>;

struct State {
    commit: String,
    files: BTreeMap<String, Stored>,
    /// Sees each request and the answer it would get.
    hook: Option<Hook>,
    log: Vec<Request>,
    /// Where large files are redirected to.
    storage: Option<String>,
    /// Whether the listing gives sizes and hashes.
    details: bool,
}

pub(crate) struct Hub {
    pub(crate) url: String,
    state: Arc<Mutex<State>>,
}

impl Hub {
    /// Files ending in `.safetensors`, `.bin` or `.gguf` are large ones.
    pub(crate) fn start(files: &[(&str, &[u8])]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let state = Arc::new(Mutex::new(State {
            commit: COMMIT.to_owned(),
            files: BTreeMap::new(),
            hook: None,
            log: Vec::new(),
            storage: None,
            details: true,
        }));
        let shared = state.clone();
        // Ends with the test process.
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let shared = shared.clone();
                std::thread::spawn(move || drop(serve(stream, &shared)));
            }
        });
        let hub = Hub { url, state };
        for (name, bytes) in files {
            hub.put(name, bytes);
        }
        hub
    }

    pub(crate) fn put(&self, name: &str, bytes: &[u8]) {
        let large = [".safetensors", ".bin", ".gguf"]
            .iter()
            .any(|end| name.ends_with(end));
        let stored = Stored {
            bytes: bytes.to_vec(),
            large,
        };
        self.state
            .lock()
            .unwrap()
            .files
            .insert(name.to_owned(), stored);
    }

    pub(crate) fn move_main_to(&self, commit: &str) {
        self.state.lock().unwrap().commit = commit.to_owned();
    }

    pub(crate) fn with_hook(
        self,
        hook: impl FnMut(&Request, Response) -> Response + Send + 'static,
    ) -> Self {
        self.state.lock().unwrap().hook = Some(Box::new(hook));
        self
    }

    pub(crate) fn without_hook(self) -> Self {
        self.state.lock().unwrap().hook = None;
        self
    }

    pub(crate) fn with_storage(self, url: &str) -> Self {
        self.state.lock().unwrap().storage = Some(url.to_owned());
        self
    }

    pub(crate) fn without_details(self) -> Self {
        self.state.lock().unwrap().details = false;
        self
    }

    pub(crate) fn log(&self) -> Vec<Request> {
        self.state.lock().unwrap().log.clone()
    }

    pub(crate) fn clear_log(&self) {
        self.state.lock().unwrap().log.clear();
    }

    /// The `GET`s of a file, in order.
    pub(crate) fn gets_of(&self, file: &str) -> Vec<Request> {
        let log = self.log();
        log.into_iter()
            .filter(|request| request.is_get_of(file))
            .collect()
    }
}

fn serve(stream: TcpStream, state: &Mutex<State>) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut reader = BufReader::new(stream.try_clone()?);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(());
        }
        let mut parts = line.split_whitespace().map(str::to_owned);
        let (Some(method), Some(path)) = (parts.next(), parts.next()) else {
            return Ok(());
        };
        let mut request = Request {
            method,
            path,
            headers: Vec::new(),
        };
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line)? == 0 || line.trim().is_empty() {
                break;
            }
            if let Some((name, value)) = line.split_once(':') {
                let header = (name.to_ascii_lowercase(), value.trim().to_owned());
                request.headers.push(header);
            }
        }
        let response = {
            let mut state = state.lock().unwrap();
            state.log.push(request.clone());
            let response = state.answer(&request);
            match state.hook.take() {
                Some(mut hook) => {
                    let response = hook(&request, response);
                    state.hook = Some(hook);
                    response
                }
                None => response,
            }
        };
        let mut stream = &stream;
        let announced = response
            .headers
            .iter()
            .any(|(name, _)| name == "content-length");
        let mut head = format!("HTTP/1.1 {} X\r\n", response.status);
        for (name, value) in &response.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        if !announced {
            head.push_str(&format!("content-length: {}\r\n", response.body.len()));
        }
        head.push_str("\r\n");
        stream.write_all(head.as_bytes())?;
        if request.method == "HEAD" || matches!(response.status, 204 | 304) {
            continue;
        }
        let end = response.cut.unwrap_or(response.body.len());
        stream.write_all(&response.body[..end])?;
        stream.flush()?;
        if response.stall {
            let _ = reader.read_to_end(&mut Vec::new());
        }
        if response.stall || response.cut.is_some() || announced {
            return stream.shutdown(std::net::Shutdown::Both);
        }
    }
}

impl State {
    fn answer(&self, request: &Request) -> Response {
        let path = request.path.split('?').next().unwrap_or_default();
        let missing = |code: &str| Response::status(404).with("X-Error-Code", code);
        if let Some(rest) = path.strip_prefix("/api/models/") {
            let Some(revision) = rest.strip_prefix(&format!("{REPO}/revision/")) else {
                return missing("RepoNotFound");
            };
            if !self.knows(&revision.replace("%2F", "/")) {
                return missing("RevisionNotFound");
            }
            return Response::status(200)
                .with("Content-Type", "application/json")
                .with_body(self.listing());
        }
        if let Some(hash) = path.strip_prefix("/storage/") {
            return match self.files.values().find(|file| file.hash() == hash) {
                Some(file) => bytes(request, &file.bytes),
                None => Response::status(403),
            };
        }
        let Some(rest) = path.strip_prefix(&format!("/{REPO}/resolve/")) else {
            return missing("RepoNotFound");
        };
        let Some((revision, name)) = rest.split_once('/') else {
            return missing("EntryNotFound");
        };
        if !self.knows(revision) {
            return missing("RevisionNotFound");
        }
        let Some(file) = self.files.get(&name.replace("%20", " ")) else {
            return missing("EntryNotFound");
        };
        let response = match &self.storage {
            Some(storage) if file.large => {
                let location = format!("{storage}/storage/{}?signature=secret", file.hash());
                Response::status(302).with("Location", location)
            }
            _ => bytes(request, &file.bytes),
        };
        let response = response.with("X-Repo-Commit", &self.commit);
        if file.large {
            let response = response.with("X-Linked-Etag", format!("\"{}\"", file.hash()));
            response
                .with("X-Linked-Size", file.bytes.len())
                .with("ETag", "\"of-the-storage\"")
        } else {
            response.with("ETag", format!("\"{}\"", file.hash()))
        }
    }

    fn knows(&self, revision: &str) -> bool {
        [self.commit.as_str(), COMMIT, "main", "v1.0", "refs/pr/1"].contains(&revision)
    }

    fn listing(&self) -> Vec<u8> {
        let files: Vec<_> = self
            .files
            .iter()
            .map(|(name, file)| {
                let (size, hash) = (file.bytes.len(), file.hash());
                match (self.details, file.large) {
                    (false, _) => json!({"rfilename": name}),
                    (true, false) => json!({"rfilename": name, "size": size, "blobId": hash}),
                    (true, true) => json!({
                        "rfilename": name,
                        "size": size,
                        "blobId": git_hash(b"the pointer file"),
                        "lfs": {"sha256": hash, "size": size, "pointerSize": 134},
                    }),
                }
            })
            .collect();
        let listing = json!({"id": REPO, "sha": self.commit, "siblings": files});
        serde_json::to_vec(&listing).unwrap()
    }
}

/// The bytes that a request asks for.
fn bytes(request: &Request, all: &[u8]) -> Response {
    let start = request.header("range").and_then(|range| {
        range
            .strip_prefix("bytes=")?
            .strip_suffix('-')?
            .parse::<usize>()
            .ok()
    });
    match start {
        Some(start) if start < all.len() => Response::status(206)
            .with(
                "Content-Range",
                format!("bytes {start}-{}/{}", all.len() - 1, all.len()),
            )
            .with_body(&all[start..]),
        Some(_) => Response::status(416).with("Content-Range", format!("bytes */{}", all.len())),
        None => Response::status(200).with_body(all),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(crate) fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

pub(crate) fn git_hash(bytes: &[u8]) -> String {
    let mut hasher = Sha1::new();
    hasher.update(format!("blob {}\0", bytes.len()));
    hasher.update(bytes);
    hex(&hasher.finalize())
}
