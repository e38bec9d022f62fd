//! The one loop of this side: feeds what runs inside, reads what comes back, keeps the time.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use internlm_core::code_executor::CodeStatus;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use super::fault::Fault;
use super::host::{END, Running, unexpected};
use super::spec::Report;
use super::wire;
use crate::tool::CancelToken;

/// How long it takes at most until a cancelled token is noticed.
const NOTICE: Duration = Duration::from_millis(20);

/// The host's ends of the code's streams.
#[derive(Debug)]
pub(crate) struct Streams {
    /// What is written to it: standard input, or the requests of a session.
    pub(crate) input: Option<OwnedFd>,
    pub(crate) stdout: OwnedFd,
    pub(crate) stderr: OwnedFd,
    /// The answers of a session.
    pub(crate) answers: Option<OwnedFd>,
}

/// A stream's bytes, kept up to a limit and counted beyond it.
#[derive(Debug, Default)]
pub(crate) struct Captured {
    pub(crate) kept: Vec<u8>,
    total: u64,
    closed: bool,
}

impl Captured {
    /// Reads what is there.
    fn read(&mut self, fd: &OwnedFd, limit: usize) {
        let mut buffer = [0; 1 << 16];
        // A bounded number of rounds, so that one busy stream does not starve the rest.
        for _ in 0..16 {
            match rustix::io::read(fd, &mut buffer) {
                Ok(0) => {
                    self.closed = true;
                    return;
                }
                Ok(count) => {
                    self.total += count as u64;
                    let room = limit.saturating_sub(self.kept.len()).min(count);
                    self.kept.extend_from_slice(&buffer[..room]);
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return,
                Err(_) => {
                    self.closed = true;
                    return;
                }
            }
        }
    }

    /// Reads all that is left when no one writes any more.
    fn drain(&mut self, fd: &OwnedFd, limit: usize, most: u64) {
        while !self.closed && self.total <= most {
            let before = self.total;
            self.read(fd, limit);
            if self.total == before {
                return;
            }
        }
    }

    /// The text, with U+FFFD for what is none.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.kept).into_owned()
    }
}

/// One exchange with what runs inside: a run from start to end, or a call of a session.
#[derive(Debug)]
pub(crate) struct Exchange {
    pub(crate) stdout: Captured,
    pub(crate) stderr: Captured,
    /// How the program ended, if it has.
    pub(crate) end: Option<CodeStatus>,
    /// Whether the time was up.
    pub(crate) timed_out: bool,
    /// Whether it was cancelled, which is as if the time were up then.
    pub(crate) cancelled: bool,
    /// The bytes of the answer, once whole.
    pub(crate) answer: Option<Vec<u8>>,
    /// Whether more or other came back than an answer can be.
    pub(crate) malformed: bool,
    /// Whether no one can answer any more.
    silent: bool,
}

/// What an exchange may take.
#[derive(Debug)]
pub(crate) struct Terms<'a> {
    /// Bytes for the input.
    pub(crate) input: &'a [u8],
    pub(crate) timeout: Duration,
    /// What ends it before, if anything may.
    pub(crate) cancel: Option<&'a CancelToken>,
    /// Most bytes kept of each output stream.
    pub(crate) keep: usize,
    /// Bytes of output after which everything is ended.
    pub(crate) drain: u64,
    /// Most bytes of an answer.
    pub(crate) answer: usize,
    /// For a session: how long a call may take to stop when it is told to.
    pub(crate) grace: Option<Duration>,
}

impl Exchange {
    /// Writes the input, reads the output, and goes on until the answer is whole, or, without
    /// answers, until everything inside has ended.
    pub(crate) fn run(
        running: &mut Running,
        streams: &mut Streams,
        terms: &Terms<'_>,
    ) -> Result<Self, Fault> {
        let mut now = Self {
            stdout: Captured::default(),
            stderr: Captured::default(),
            end: None,
            timed_out: false,
            cancelled: false,
            answer: None,
            malformed: false,
            silent: false,
        };
        let mut left = terms.input;
        let mut answer = Vec::new();
        let mut deadline = Instant::now().checked_add(terms.timeout);
        let mut ending = false;
        loop {
            if streams.answers.is_none() && left.is_empty() {
                streams.input = None;
            }
            let cancel = terms.cancel.filter(|_| !now.timed_out && !ending);
            if cancel.is_some_and(CancelToken::is_cancelled) {
                now.cancelled = true;
                deadline = Some(Instant::now());
            }
            let most = cancel.map(|_| NOTICE);
            let ready = Ready::wait(running, streams, &now, !left.is_empty(), (deadline, most))?;
            if ready.late {
                match (terms.grace, now.timed_out, ending) {
                    (Some(grace), false, false) => {
                        running.interrupt();
                        deadline = Instant::now().checked_add(grace);
                    }
                    (_, _, false) => {
                        running.end();
                        ending = true;
                        deadline = Instant::now().checked_add(END);
                    }
                    _ => {
                        running.kill()?;
                        deadline = Instant::now().checked_add(END);
                    }
                }
                now.timed_out |= !matches!(now.end, Some(CodeStatus::Killed(_)));
                continue;
            }
            if ready.input
                && let Some(input) = &streams.input
            {
                match rustix::io::write(input, left) {
                    Ok(count) => left = &left[count..],
                    Err(Errno::AGAIN | Errno::INTR) => {}
                    // Nobody reads it any more, which is no fault of the run.
                    Err(_) => left = &[],
                }
            }
            if ready.stdout {
                now.stdout.read(&streams.stdout, terms.keep);
            }
            if ready.stderr {
                now.stderr.read(&streams.stderr, terms.keep);
            }
            if now.stdout.total.saturating_add(now.stderr.total) > terms.drain && now.end.is_none()
            {
                now.end = Some(CodeStatus::Killed("output".into()));
                running.end();
                ending = true;
            }
            if ready.answers
                && let Some(answers) = &streams.answers
            {
                now.take_answer(answers, &mut answer, terms.answer);
                if now.answer.is_some() || now.malformed {
                    // What was printed before the answer is in the pipes already.
                    now.stdout.read(&streams.stdout, terms.keep);
                    now.stderr.read(&streams.stderr, terms.keep);
                    return Ok(now);
                }
            }
            if ready.control {
                match wire::recv::<Report>(&running.control) {
                    Ok(Some((Report::Exited { code, signal }, _))) => {
                        let status = match signal {
                            Some(signal) => CodeStatus::Killed(format!("signal {signal}")),
                            None => CodeStatus::Exited(code),
                        };
                        now.end.get_or_insert(status);
                    }
                    Ok(Some((Report::Limit { what }, _))) => {
                        now.end.get_or_insert(CodeStatus::Killed(what));
                    }
                    Ok(Some((Report::Failed { what, .. }, _))) => {
                        return Err(Fault::Start { what });
                    }
                    Ok(Some(_)) => return Err(unexpected("a report out of turn")),
                    Ok(None) | Err(_) => {
                        // Everything inside is dead, so the pipes end after what they hold.
                        now.stdout.drain(&streams.stdout, terms.keep, terms.drain);
                        now.stderr.drain(&streams.stderr, terms.keep, terms.drain);
                        return Ok(now);
                    }
                }
            }
        }
    }

    /// Reads a length and as many bytes, and nothing behind them.
    fn take_answer(&mut self, fd: &OwnedFd, bytes: &mut Vec<u8>, limit: usize) {
        let mut buffer = [0; 1 << 16];
        loop {
            match rustix::io::read(fd, &mut buffer) {
                Ok(0) => {
                    self.silent = true;
                    return;
                }
                Ok(count) => bytes.extend_from_slice(&buffer[..count]),
                Err(Errno::INTR) => continue,
                Err(_) => return,
            }
            let Some((length, body)) = bytes.split_first_chunk::<4>() else {
                continue;
            };
            let length = u32::from_be_bytes(*length) as usize;
            if length > limit || body.len() > length {
                self.malformed = true;
                return;
            }
            if body.len() == length {
                self.answer = Some(body.to_vec());
                return;
            }
        }
    }
}

/// What can be done without waiting.
struct Ready {
    input: bool,
    stdout: bool,
    stderr: bool,
    answers: bool,
    control: bool,
    late: bool,
}

impl Ready {
    fn wait(
        running: &Running,
        streams: &Streams,
        now: &Exchange,
        writing: bool,
        (deadline, most): (Option<Instant>, Option<Duration>),
    ) -> Result<Self, Fault> {
        let remaining = deadline.map(|at| at.saturating_duration_since(Instant::now()));
        let timeout = remaining
            .into_iter()
            .chain(most)
            .min()
            .map(|left| Timespec {
                tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
                tv_nsec: left.subsec_nanos().into(),
            });
        let wanted = [
            (writing, streams.input.as_ref(), PollFlags::OUT),
            (!now.stdout.closed, Some(&streams.stdout), PollFlags::IN),
            (!now.stderr.closed, Some(&streams.stderr), PollFlags::IN),
            (!now.silent, streams.answers.as_ref(), PollFlags::IN),
        ];
        let mut fds = vec![PollFd::new(&running.control, PollFlags::IN)];
        let [input, stdout, stderr, answers] = wanted.map(|(wanted, fd, flags)| {
            let fd = fd.filter(|_| wanted)?;
            fds.push(PollFd::new(fd, flags));
            Some(fds.len() - 1)
        });
        match poll(&mut fds, timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(Fault::system("poll", error)),
        }
        let is_ready =
            |index: Option<usize>| index.is_some_and(|index| !fds[index].revents().is_empty());
        Ok(Self {
            input: is_ready(input),
            stdout: is_ready(stdout),
            stderr: is_ready(stderr),
            answers: is_ready(answers),
            control: is_ready(Some(0)),
            // Late even if something came: who keeps talking must stop, too.
            late: remaining.is_some_and(|left| left.is_zero()),
        })
    }
}
