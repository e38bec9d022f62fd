//! Server-sent events, as far as streamed answers need them: the data of each event.
//!
//! Follows the parsing rules of the HTML standard (section "Server-sent events"): lines end with
//! CR, LF or both, a line that begins with a colon is a comment, the data lines of an event are
//! joined by line feeds, and an empty line ends it. Fields other than `data` are passed over.

use std::collections::VecDeque;

/// Reads bytes in whatever pieces they come.
#[derive(Debug, Default)]
pub(super) struct SseParser {
    line: Vec<u8>,
    data: Option<String>,
    /// The last byte was a CR, so that an LF belongs to it.
    after_cr: bool,
    /// Past the first line, which may begin with a byte order mark.
    past_first: bool,
}

/// A line of data was not UTF-8.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NotUtf8;

impl SseParser {
    /// Adds the events that these bytes complete.
    pub(super) fn push(
        &mut self,
        mut bytes: &[u8],
        events: &mut VecDeque<String>,
    ) -> Result<(), NotUtf8> {
        while let Some(&first) = bytes.first() {
            if std::mem::take(&mut self.after_cr) && first == b'\n' {
                bytes = &bytes[1..];
                continue;
            }
            let Some(end) = bytes.iter().position(|b| matches!(b, b'\r' | b'\n')) else {
                self.line.extend_from_slice(bytes);
                return Ok(());
            };
            self.line.extend_from_slice(&bytes[..end]);
            self.after_cr = bytes[end] == b'\r';
            bytes = &bytes[end + 1..];
            self.end_line(events)?;
        }
        Ok(())
    }

    /// Ends the stream. The standard drops an event without its empty line; servers exist that
    /// leave it out after the last one, so it is given.
    pub(super) fn finish(&mut self, events: &mut VecDeque<String>) -> Result<(), NotUtf8> {
        if !self.line.is_empty() {
            self.end_line(events)?;
        }
        events.extend(self.data.take());
        Ok(())
    }

    fn end_line(&mut self, events: &mut VecDeque<String>) -> Result<(), NotUtf8> {
        let line = std::mem::take(&mut self.line);
        let mut text = line.as_slice();
        if !std::mem::replace(&mut self.past_first, true) {
            text = text.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(text);
        }
        if text.is_empty() {
            events.extend(self.data.take());
        } else if let Some(rest) = text.strip_prefix(b"data") {
            let value = match rest {
                [] => Some(rest),
                [b':', b' ', value @ ..] | [b':', value @ ..] => Some(value),
                _ => None,
            };
            if let Some(value) = value {
                let value = std::str::from_utf8(value).map_err(|_| NotUtf8)?;
                match &mut self.data {
                    Some(data) => {
                        data.push('\n');
                        data.push_str(value);
                    }
                    None => self.data = Some(value.to_owned()),
                }
            }
        }
        // The buffer is used again.
        self.line = line;
        self.line.clear();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Result<Vec<String>, NotUtf8> {
        let (mut parser, mut events) = (SseParser::default(), VecDeque::new());
        for piece in pieces {
            parser.push(piece, &mut events)?;
        }
        parser.finish(&mut events)?;
        Ok(events.into())
    }

    #[track_caller]
    fn check(text: &str, want: &[&str]) {
        let bytes = text.as_bytes();
        assert_eq!(parse([bytes]).unwrap(), want);
        for cut in 0..=bytes.len() {
            let (a, b) = bytes.split_at(cut);
            assert_eq!(parse([a, b]).unwrap(), want, "cut at {cut}");
        }
        assert_eq!(parse(bytes.chunks(1)).unwrap(), want, "byte by byte");
    }

    #[test]
    fn events() {
        check("", &[]);
        check("\n\r\n\r", &[]);
        check("data: a\n\ndata: b\n\n", &["a", "b"]);
        check("data: a\r\n\r\ndata: b\r\rdata:c\r\n\n", &["a", "b", "c"]);
        check("data: a\ndata\ndata:  b\n\n", &["a\n\n b"]);
        check(": ping\n\ndata: a\n: pong\ndata: b\n\n:\n", &["a\nb"]);
        check(
            "event: x\nid: 7\nretry: 1\ndatabase: no\ndata: a\n\n",
            &["a"],
        );
        check("\u{FEFF}data: 书é\n\n\u{FEFF}data: x\n\n", &["书é"]);
        check("data: a\n\ndata: [DONE]", &["a", "[DONE]"]);
        check("data: a\ndata: b", &["a\nb"]);
        check("data:\n\n", &[""]);
    }

    #[test]
    fn bytes_that_are_no_text() {
        assert_eq!(parse([&b"data: \xFF\n\n"[..]]), Err(NotUtf8));
        assert_eq!(parse([&b"data: \xE4\xB9"[..]]), Err(NotUtf8));
        assert_eq!(parse([&b": \xFF\ndata: a\n\n"[..]]).unwrap(), ["a"]);
    }

    proptest! {
        #[test]
        fn cuts_make_no_difference(
            lines in proptest::collection::vec("(data: ?|: |x: |)[a书 ]{0,3}(\n|\r|\r\n)", 0..12),
            cuts in proptest::collection::vec(any::<proptest::sample::Index>(), 0..6),
        ) {
            let text = lines.concat().into_bytes();
            let mut at: Vec<usize> = cuts.iter().map(|cut| cut.index(text.len() + 1)).collect();
            at.sort_unstable();
            let mut pieces = Vec::new();
            let mut from = 0;
            for to in at.into_iter().chain([text.len()]) {
                pieces.push(&text[from..to]);
                from = to;
            }
            prop_assert_eq!(parse(pieces), parse([text.as_slice()]));
        }

        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(bytes.chunks(3));
        }

        #[test]
        fn what_is_written_is_read(data in proptest::collection::vec("[ -~书\n]{0,12}", 0..6)) {
            let written: String = data
                .iter()
                .map(|d| d.split('\n').map(|l| format!("data: {l}\n")).collect::<String>() + "\n")
                .collect();
            prop_assert_eq!(parse([written.as_bytes()]).unwrap(), data);
        }
    }
}
