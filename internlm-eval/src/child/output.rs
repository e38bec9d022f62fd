//! Running a command to its end or its limit.

use std::io::{Read, Write};
use std::process::{Child, Command, ExitStatus};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use internlm_core::code_executor::{CodeOutput, CodeRequest, CodeStatus};

/// Between two looks at whether the child ended; it begins short and grows to this.
const LOOK: Duration = Duration::from_millis(20);
/// How long the pipes may stay open after the group was killed: who holds them left the group.
const GRACE: Duration = Duration::from_secs(1);

#[cfg(unix)]
pub(super) fn run(mut command: Command, request: &CodeRequest) -> std::io::Result<CodeOutput> {
    use std::os::unix::process::CommandExt as _;

    let begin = Instant::now();
    // A group of its own, so that its children can be killed with it.
    let mut child = command.process_group(0).spawn()?;
    let stdin = child.stdin.take();
    let text = request.stdin.clone().into_bytes();
    std::thread::spawn(move || {
        if let Some(mut stdin) = stdin {
            // A program need not read what it is given.
            let _ = stdin.write_all(&text);
        }
    });
    let stdout = collect(child.stdout.take(), request.max_output_bytes);
    let stderr = collect(child.stderr.take(), request.max_output_bytes);
    let ended = wait(&mut child, begin, request.timeout)?;
    let elapsed = begin.elapsed();
    kill_group(&child);
    if ended.is_none() {
        child.kill()?;
        child.wait()?;
    }
    let text = |pipe: Receiver<Vec<u8>>| {
        let bytes = pipe.recv_timeout(GRACE).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    };
    Ok(CodeOutput {
        status: ended.map_or(CodeStatus::TimedOut, status),
        stdout: text(stdout),
        stderr: text(stderr),
        elapsed,
    })
}

#[cfg(not(unix))]
pub(super) fn run(_: Command, _: &CodeRequest) -> std::io::Result<CodeOutput> {
    Err(std::io::Error::from(std::io::ErrorKind::Unsupported))
}

/// The first bytes of a stream; the rest is read and dropped, so that the program does not wait.
fn collect(stream: Option<impl Read + Send + 'static>, most: usize) -> Receiver<Vec<u8>> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        let mut kept = Vec::new();
        if let Some(mut stream) = stream {
            let _ = stream.by_ref().take(most as u64).read_to_end(&mut kept);
            let _ = std::io::copy(&mut stream, &mut std::io::sink());
        }
        // Nobody listens where the pipes stayed open for too long.
        let _ = sender.send(kept);
    });
    receiver
}

fn wait(
    child: &mut Child,
    begin: Instant,
    timeout: Duration,
) -> std::io::Result<Option<ExitStatus>> {
    let mut pause = Duration::from_millis(1);
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        let left = timeout.saturating_sub(begin.elapsed());
        if left.is_zero() {
            return Ok(None);
        }
        std::thread::sleep(pause.min(left));
        pause = (pause * 2).min(LOOK);
    }
}

#[cfg(target_os = "linux")]
fn kill_group(child: &Child) {
    let group = i32::try_from(child.id())
        .ok()
        .and_then(rustix::process::Pid::from_raw);
    if let Some(group) = group {
        // There may be nobody left in it.
        let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
    }
}

#[cfg(not(target_os = "linux"))]
fn kill_group(_: &Child) {}

#[cfg(unix)]
fn status(status: ExitStatus) -> CodeStatus {
    use std::os::unix::process::ExitStatusExt as _;
    match (status.code(), status.signal()) {
        // `unshare` and shells tell a signal as 128 and its number.
        (Some(code @ 129..=159), _) => CodeStatus::Killed(format!("signal {}", code - 128)),
        (Some(code), _) => CodeStatus::Exited(code),
        (None, Some(signal)) => CodeStatus::Killed(format!("signal {signal}")),
        (None, None) => CodeStatus::Killed("an unknown end".to_owned()),
    }
}
