//! A server as a child process: its environment, what it writes, its end.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use rmcp::RoleClient;
use rmcp::transport::async_rw::AsyncRwTransport;
use serde::Deserialize;
use serde::de::IgnoredAny;
use tokio::io::{
    AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader, DuplexStream,
};
use tokio::process::{Child, ChildStdin, Command};
use tokio::task::JoinHandle;

use super::McpFault;
use super::said::Said;

/// Bytes that a server may write to its output that are no messages.
const MAX_NOISE: usize = 1 << 20;
/// Time for what a process wrote last, once it has ended.
const DRAIN: Duration = Duration::from_millis(200);
/// Bytes between the process and the reader of messages.
const PIPE: usize = 64 << 10;

/// A running server. When this is dropped, its process group is killed.
#[derive(Debug)]
pub(super) struct Process {
    child: Child,
    /// The id of its process group, until all in it have been killed.
    group: Option<i32>,
    /// Reads its error output.
    listening: Option<JoinHandle<()>>,
    said: Arc<Said>,
}

pub(super) type Pipes = AsyncRwTransport<RoleClient, DuplexStream, ChildStdin>;

impl Process {
    /// Starts a program in a process group of its own, on a runtime.
    pub(super) fn start(
        server: &str,
        (command, args, env, cwd): (&str, &[String], &BTreeMap<String, String>, Option<&Path>),
        max_message_bytes: usize,
        said: &Arc<Said>,
    ) -> Result<(Self, Pipes), McpFault> {
        let fault = |what: String| McpFault::Spawn {
            server: server.to_owned(),
            what,
        };
        let mut builder = Command::new(command);
        builder
            .args(args)
            .env_clear()
            .envs(
                ["PATH", "HOME"]
                    .into_iter()
                    .filter_map(|name| Some((name, std::env::var_os(name)?))),
            )
            .envs(env)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        #[cfg(unix)]
        builder.process_group(0);
        if let Some(cwd) = cwd {
            builder.current_dir(cwd);
        }
        let mut child = builder
            .spawn()
            .map_err(|error| fault(format!("`{command}`: {error}")))?;
        let pipes = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let (Some(stdin), Some(stdout), Some(stderr)) = pipes else {
            return Err(fault("its pipes are missing".to_owned()));
        };
        let (messages, reader) = tokio::io::duplex(PIPE);
        tokio::spawn(sift(stdout, messages, max_message_bytes, Arc::clone(said)));
        let listening = tokio::spawn(listen(stderr, server.to_owned(), Arc::clone(said)));
        let process = Self {
            group: child.id().and_then(|id| i32::try_from(id).ok()),
            child,
            listening: Some(listening),
            said: Arc::clone(said),
        };
        let transport =
            AsyncRwTransport::new_client(reader, stdin).with_max_line_length(max_message_bytes);
        Ok((process, transport))
    }

    /// Waits until the program has ended and its last words are known.
    pub(super) async fn ended(&mut self) {
        if let Ok(status) = self.child.wait().await {
            self.said.ended(status);
        }
        if let Some(listening) = &mut self.listening {
            // A process that it started may hold its output open.
            tokio::time::timeout(DRAIN, listening).await.ok();
            self.listening = None;
        }
    }

    /// Ends it: its input is closed already, then it is asked, then it and all in its group are killed.
    pub(super) async fn stop(mut self, patience: Duration) {
        if tokio::time::timeout(patience, self.ended()).await.is_err() {
            self.signal(false);
            if tokio::time::timeout(patience, self.ended()).await.is_err() {
                self.signal(true);
                tokio::time::timeout(patience, self.ended()).await.ok();
            }
        }
        // Those that it started.
        self.signal(true);
        self.group = None;
    }

    /// Asks the group to end, or kills it.
    fn signal(&mut self, kill: bool) {
        #[cfg(unix)]
        {
            let signal = match kill {
                true => rustix::process::Signal::KILL,
                false => rustix::process::Signal::TERM,
            };
            if let Some(group) = self.group.and_then(rustix::process::Pid::from_raw) {
                rustix::process::kill_process_group(group, signal).ok();
            }
        }
        #[cfg(not(unix))]
        if kill {
            self.child.start_kill().ok();
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.signal(true);
    }
}

/// What a line must be to be a message.
#[derive(Deserialize)]
struct Envelope {
    #[expect(unused, reason = "only its presence counts")]
    jsonrpc: IgnoredAny,
}

/// Passes messages on and notes what else is written. Ends with the output, or when a server floods it.
async fn sift(
    output: impl AsyncRead + Unpin,
    mut messages: impl AsyncWrite + Unpin,
    max_message_bytes: usize,
    said: Arc<Said>,
) {
    let mut output = BufReader::new(output);
    let mut line = Vec::new();
    let mut noise = 0;
    let broken = loop {
        line.clear();
        let limit = max_message_bytes as u64 + 1;
        match (&mut output).take(limit).read_until(b'\n', &mut line).await {
            Ok(0) | Err(_) => return,
            Ok(_) if line.len() > max_message_bytes => {
                break format!("it sent a line of more than {max_message_bytes} bytes");
            }
            Ok(_) => {}
        }
        if line.trim_ascii().is_empty() {
            continue;
        }
        // A batch is an array of messages.
        let batch = line.trim_ascii_start().starts_with(b"[");
        let is_message = match batch {
            true => serde_json::from_slice::<Vec<Envelope>>(&line).is_ok(),
            false => serde_json::from_slice::<Envelope>(&line).is_ok(),
        };
        if is_message {
            if !line.ends_with(b"\n") {
                line.push(b'\n');
            }
            if messages.write_all(&line).await.is_err() {
                return;
            }
            continue;
        }
        noise += line.len();
        said.noise(&line);
        if noise > MAX_NOISE {
            break format!("it wrote more than {MAX_NOISE} bytes that are no messages of MCP");
        }
    };
    said.broke(broken);
}

/// Keeps the last of what a server writes to its error output.
async fn listen(mut errors: impl AsyncRead + Unpin, server: String, said: Arc<Said>) {
    let mut piece = [0; 1024];
    while let Ok(length @ 1..) = errors.read(&mut piece).await {
        let piece = &piece[..length];
        tracing::debug!(server, text = %String::from_utf8_lossy(piece), "an MCP server says");
        said.errors(piece);
    }
}
