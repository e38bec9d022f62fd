//! A streamed answer as an iterator of events.

use std::collections::VecDeque;
use std::io::Read;

use ureq::{Body, BodyReader};

use super::answer::{Assembler, Fault};
use super::client::Client;
use super::sse::SseParser;
use crate::chat_model::Event;
use crate::error::{Error, Result};

/// Bytes that are read at once.
const BLOCK: usize = 16 << 10;

/// The events of one answer. Dropped, it closes the connection, which is how servers are told to
/// stop.
pub(super) struct RemoteEvents<'a> {
    client: &'a Client,
    url: String,
    /// `None` once the answer ended.
    reader: Option<BodyReader<'static>>,
    received: u64,
    parser: SseParser,
    pieces: VecDeque<String>,
    assembler: Assembler,
    events: VecDeque<Event>,
    /// The end or an error was given.
    over: bool,
}

impl<'a> RemoteEvents<'a> {
    pub(super) fn new(client: &'a Client, url: String, body: Body, assembler: Assembler) -> Self {
        Self {
            client,
            url,
            reader: Some(body.into_reader()),
            received: 0,
            parser: SseParser::default(),
            pieces: VecDeque::new(),
            assembler,
            events: VecDeque::new(),
            over: false,
        }
    }

    /// Reads more bytes, or ends the stream of pieces.
    fn read(&mut self) -> Result<()> {
        let Some(reader) = &mut self.reader else {
            return Ok(());
        };
        let mut block = [0; BLOCK];
        let not_utf8 = |_| self.client.protocol(&self.url, "the stream is not UTF-8");
        match reader.read(&mut block) {
            Ok(0) => {
                self.parser.finish(&mut self.pieces).map_err(not_utf8)?;
                self.reader = None;
            }
            Ok(count) => {
                self.received += count as u64;
                let limit = self.client.config.max_response_bytes;
                if self.received > limit {
                    let url = self.url.clone();
                    return Err(Error::ResponseTooLarge { url, limit });
                }
                let bytes = &block[..count];
                self.parser
                    .push(bytes, &mut self.pieces)
                    .map_err(not_utf8)?;
            }
            // The answer was complete; only the end of the stream is missing.
            Err(_) if self.assembler.is_finished() => self.reader = None,
            Err(e) => return Err(self.client.transport(&self.url, e.into(), true).error),
        }
        Ok(())
    }

    fn fault(&self, fault: Fault) -> Error {
        match fault {
            Fault::Protocol(what) => self.client.protocol(&self.url, &what),
            Fault::Server(message) => self.client.refused(&self.url, 200, &message),
        }
    }

    /// The end, by `[DONE]` or by the end of the stream.
    fn finish(&mut self) -> Result<()> {
        let last = self.assembler.finish();
        self.events.extend(last.map_err(|f| self.fault(f))?);
        self.reader = None;
        self.pieces.clear();
        Ok(())
    }

    /// Works until there are events.
    fn advance(&mut self) -> Result<()> {
        while self.events.is_empty() {
            match self.pieces.pop_front() {
                Some(piece) if piece.trim() == "[DONE]" => self.finish()?,
                Some(piece) if piece.trim().is_empty() => {}
                Some(piece) => match self.assembler.push(&piece) {
                    Ok(event) => self.events.extend(event),
                    // A last piece that was cut: what counts is whether the answer ended.
                    Err(Fault::Protocol(_)) if self.reader.is_none() && self.pieces.is_empty() => {
                        self.finish()?;
                    }
                    Err(fault) => return Err(self.fault(fault)),
                },
                None if self.reader.is_none() => self.finish()?,
                None => self.read()?,
            }
        }
        Ok(())
    }
}

impl Iterator for RemoteEvents<'_> {
    type Item = Result<Event>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.over {
            return None;
        }
        if let Err(error) = self.advance() {
            self.over = true;
            self.reader = None;
            return Some(Err(error));
        }
        let event = self.events.pop_front()?;
        self.over = matches!(event, Event::Finish { .. });
        Some(Ok(event))
    }
}
