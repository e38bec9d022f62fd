//! JSON objects from stdin, one a line.

use std::io::{BufRead, Read};
use std::marker::PhantomData;
use std::sync::mpsc::{Receiver, sync_channel};

use serde::de::DeserializeOwned;

use crate::error::{Error, Result};

/// Longest line that is read.
const MAX_LINE_BYTES: u64 = 1 << 28;
/// Lines that are read ahead of their use.
const LINES_AHEAD: usize = 256;

/// The objects of stdin, with their line numbers. Empty lines are skipped.
///
/// A thread reads ahead, so that [`batch`](Lines::batch) can tell what is there already from what
/// has to be waited for.
#[derive(Debug)]
pub struct Lines<T> {
    receiver: Receiver<Result<(usize, Vec<u8>)>>,
    /// A failure that was met while a batch was gathered.
    pending: Option<Error>,
    want: &'static str,
    item: PhantomData<fn() -> T>,
}

/// The objects of stdin; `want` names their fields in error messages.
pub fn lines<T: DeserializeOwned>(want: &'static str) -> Lines<T> {
    let (sender, receiver) = sync_channel(LINES_AHEAD);
    std::thread::spawn(move || {
        let mut stdin = std::io::stdin().lock();
        let mut number = 0;
        loop {
            number += 1;
            let line = read_line(&mut stdin).map(|line| line.map(|line| (number, line)));
            let last = line.is_err();
            let Some(line) = line.map_err(|e| e.at_line(number)).transpose() else {
                return;
            };
            if sender.send(line).is_err() || last {
                return;
            }
        }
    });
    Lines {
        receiver,
        pending: None,
        want,
        item: PhantomData,
    }
}

/// The next line without its end, `None` at the end of the input.
fn read_line(reader: &mut impl BufRead) -> Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    let read = reader.take(MAX_LINE_BYTES).read_until(b'\n', &mut line);
    match read.map_err(Error::io("standard input"))? {
        0 => Ok(None),
        _ if line.last() != Some(&b'\n') && line.len() as u64 == MAX_LINE_BYTES => {
            let what = format!("the line is longer than {MAX_LINE_BYTES} bytes");
            Err(Error::Input(what))
        }
        _ => Ok(Some(line)),
    }
}

impl<T: DeserializeOwned> Lines<T> {
    fn parse(&self, line: Result<(usize, Vec<u8>)>) -> Option<Result<(usize, T)>> {
        let (number, bytes) = match line {
            Ok(line) => line,
            Err(error) => return Some(Err(error)),
        };
        if bytes.trim_ascii().is_empty() {
            return None;
        }
        let want = self.want;
        let item = serde_json::from_slice(&bytes).map_err(|source| Error::Json { want, source });
        Some(match item {
            Ok(item) => Ok((number, item)),
            Err(error) => Err(error.at_line(number)),
        })
    }

    /// Waits for one object, then takes what else has been read already, up to `max` in all.
    /// `None` at the end of the input.
    ///
    /// # Errors
    /// As the iterator; objects before the faulty line come first.
    pub fn batch(&mut self, max: usize) -> Option<Result<Vec<(usize, T)>>> {
        let first = match self.next()? {
            Ok(first) => first,
            Err(error) => return Some(Err(error)),
        };
        let mut batch = vec![first];
        while batch.len() < max {
            let Ok(line) = self.receiver.try_recv() else {
                break;
            };
            match self.parse(line) {
                Some(Ok(item)) => batch.push(item),
                Some(Err(error)) => {
                    self.pending = Some(error);
                    break;
                }
                None => {}
            }
        }
        Some(Ok(batch))
    }
}

impl<T: DeserializeOwned> Iterator for Lines<T> {
    type Item = Result<(usize, T)>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Some(error) = self.pending.take() {
            return Some(Err(error));
        }
        loop {
            let line = self.receiver.recv().ok()?;
            if let Some(item) = self.parse(line) {
                return Some(item);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_end_with_or_without_a_line_feed() -> Result<()> {
        let mut reader = &b"{}\n\n[1]"[..];
        assert_eq!(read_line(&mut reader)?, Some(b"{}\n".to_vec()));
        assert_eq!(read_line(&mut reader)?, Some(b"\n".to_vec()));
        assert_eq!(read_line(&mut reader)?, Some(b"[1]".to_vec()));
        assert_eq!(read_line(&mut reader)?, None);
        Ok(())
    }
}
