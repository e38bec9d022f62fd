//! The incremental parser.

use super::block::{ActionBlock, Fault};
use super::{ACTION_END, ACTION_START, Action, INTERPRETER, PLUGIN};
use crate::tool::ToolCall;

/// Most white space that lenient reading allows between a block's start and its kind, in bytes.
/// It bounds what is held back.
const MAX_GAP: usize = 64;

/// What the parser finds. The [`text`](ToolCallEvent::text)s of all events join to the input.
///
/// A block gives a `Start`, `Payload`s, an `End`, and then a `Call` or a `Fault`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ToolCallEvent {
    /// Text outside of blocks; never empty.
    Text(String),
    /// A block begins.
    Start {
        /// What it is.
        action: Action,
        /// Its markers, with white space between them if there is some.
        markers: String,
    },
    /// More of the text between the markers, white space included; never empty.
    Payload(String),
    /// A block ended.
    End {
        /// All of it.
        block: ActionBlock,
        /// Its end marker; empty if that is missing.
        marker: &'static str,
    },
    /// The call that the block makes.
    Call(ToolCall),
    /// The block makes no call, or, if reading is strict, the text breaks the protocol here.
    Fault(Fault),
    /// The line break after an end marker, which belongs to the protocol.
    LineBreak(&'static str),
}

impl ToolCallEvent {
    /// The piece of the input that the event stands for; empty for `Call` and `Fault`.
    pub fn text(&self) -> &str {
        match self {
            ToolCallEvent::Text(text) | ToolCallEvent::Payload(text) => text,
            ToolCallEvent::Start { markers, .. } => markers,
            ToolCallEvent::End { marker, .. } => marker,
            ToolCallEvent::LineBreak(text) => text,
            ToolCallEvent::Call(_) | ToolCallEvent::Fault(_) => "",
        }
    }
}

/// A message that was parsed whole.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Parsed {
    /// The text outside of blocks, in one.
    pub content: String,
    /// The blocks, in order.
    pub blocks: Vec<ActionBlock>,
}

/// Parses a whole message leniently.
pub fn parse(text: &str) -> Parsed {
    let mut parser = ToolCallParser::lenient();
    let mut parsed = Parsed::default();
    for event in parser.push(text).into_iter().chain(parser.flush()) {
        match event {
            ToolCallEvent::Text(text) => parsed.content.push_str(&text),
            ToolCallEvent::End { block, .. } => parsed.blocks.push(block),
            _ => {}
        }
    }
    parsed
}

/// Finds blocks in a text that arrives in pieces, special tokens spelled out.
///
/// Where the pieces are cut makes no difference but for how `Text` and `Payload` are cut. Only
/// what may still become a marker is held back.
///
/// Reading is lenient by default: line breaks are optional, a block may lack its end at the end of
/// the text or before the start of the next, and markers out of place are text. A strict parser
/// finds the same, but reports each of these as a [`Fault`], and takes for a call only what
/// [`ActionBlock::strict_tool_call`] does.
///
/// ```
/// use internlm_core::tool_call::{ToolCallEvent, ToolCallParser};
/// let mut parser = ToolCallParser::lenient();
/// let mut events = parser.push("Let me see.<|action_st");
/// assert_eq!(events, [ToolCallEvent::Text("Let me see.".into())]);
/// events = parser.push("art|><|interpreter|>\n```python\n1 + 1\n```<|action_end|>");
/// assert!(matches!(&events[2], ToolCallEvent::End { block, .. } if block.code() == "1 + 1"));
/// assert!(matches!(&events[3], ToolCallEvent::Call(call) if call.name == "interpreter"));
/// assert!(parser.flush().is_empty());
/// ```
#[derive(Clone, Debug)]
pub struct ToolCallParser {
    strict: bool,
    /// Text that was pushed and not yet emitted.
    held: String,
    /// The block that is open.
    open: Option<Open>,
    /// Whether a block has just ended, so that a line break would belong to it.
    after_end: bool,
}

#[derive(Clone, Debug)]
struct Open {
    block: ActionBlock,
    /// Whether there is white space between its markers.
    gap: bool,
}

/// How a text goes on after the start of a block.
enum Kind {
    /// This action; its markers end at this byte.
    Is(Action, usize),
    /// Too short to tell.
    Open,
    /// None.
    No,
}

impl ToolCallParser {
    /// A parser that takes what models really write.
    pub fn lenient() -> Self {
        Self::new(false)
    }

    /// A parser that reports every breach of the protocol.
    pub fn strict() -> Self {
        Self::new(true)
    }

    fn new(strict: bool) -> Self {
        Self {
            strict,
            held: String::new(),
            open: None,
            after_end: false,
        }
    }

    /// Takes more text.
    pub fn push(&mut self, text: &str) -> Vec<ToolCallEvent> {
        self.held.push_str(text);
        self.scan(false)
    }

    /// Ends the text: lets go of what was held back and closes an open block as incomplete. The
    /// parser is then as new.
    pub fn flush(&mut self) -> Vec<ToolCallEvent> {
        let mut events = self.scan(true);
        self.close(false, "", &mut events);
        *self = Self::new(self.strict);
        events
    }

    /// Emits what is certain; if this is the end of the text, everything.
    fn scan(&mut self, last: bool) -> Vec<ToolCallEvent> {
        let mut events = Vec::new();
        let text = std::mem::take(&mut self.held);
        let mut rest = text.as_str();
        loop {
            if self.after_end {
                if rest.is_empty() || (rest == "\r" && !last) {
                    break;
                }
                self.after_end = false;
                if let Some(line_break) = ["\n", "\r\n"].into_iter().find(|b| rest.starts_with(b)) {
                    events.push(ToolCallEvent::LineBreak(line_break));
                    rest = &rest[line_break.len()..];
                }
            }
            let markers: &[&'static str] = match (&self.open, self.strict) {
                (Some(_), _) => &[ACTION_END, ACTION_START],
                (None, false) => &[ACTION_START],
                (None, true) => &[ACTION_START, ACTION_END, PLUGIN, INTERPRETER],
            };
            let found = find(rest, markers);
            let Some((before, marker)) = found else {
                let held = if last { 0 } else { held_back(rest, markers) };
                let (certain, held) = rest.split_at(rest.len() - held);
                self.emit(certain, &mut events);
                rest = held;
                break;
            };
            self.emit(&rest[..before], &mut events);
            rest = &rest[before..];
            let behind = &rest[marker.len()..];
            let is_end = marker == ACTION_END && self.open.is_some();
            let kind = match marker {
                ACTION_START => kind(behind),
                _ => Kind::No,
            };
            match kind {
                Kind::Open if !last => break,
                Kind::Is(action, len) => {
                    let (markers, behind) = rest.split_at(marker.len() + len);
                    self.close(false, "", &mut events);
                    self.start(action, markers, &mut events);
                    rest = behind;
                }
                _ if is_end => {
                    self.close(true, ACTION_END, &mut events);
                    self.after_end = true;
                    rest = behind;
                }
                _ => {
                    if self.strict && marker == ACTION_START {
                        events.push(ToolCallEvent::Fault(Fault::NoKind));
                    } else if self.strict {
                        events.push(ToolCallEvent::Fault(Fault::StrayMarker(marker)));
                    }
                    self.emit(marker, &mut events);
                    rest = behind;
                }
            }
        }
        rest.clone_into(&mut self.held);
        events
    }

    /// Emits text that is no marker.
    fn emit(&mut self, text: &str, events: &mut Vec<ToolCallEvent>) {
        if text.is_empty() {
            return;
        }
        match (&mut self.open, events.last_mut()) {
            (Some(open), last) => {
                open.block.raw.push_str(text);
                match last {
                    Some(ToolCallEvent::Payload(payload)) => payload.push_str(text),
                    _ => events.push(ToolCallEvent::Payload(text.to_owned())),
                }
            }
            (None, Some(ToolCallEvent::Text(before))) => before.push_str(text),
            (None, _) => events.push(ToolCallEvent::Text(text.to_owned())),
        }
    }

    fn start(&mut self, action: Action, markers: &str, events: &mut Vec<ToolCallEvent>) {
        events.push(ToolCallEvent::Start {
            action,
            markers: markers.to_owned(),
        });
        self.open = Some(Open {
            block: ActionBlock {
                action,
                raw: String::new(),
                complete: false,
            },
            gap: markers.len() != ACTION_START.len() + action.marker().len(),
        });
    }

    /// Ends the open block, if there is one.
    fn close(&mut self, complete: bool, marker: &'static str, events: &mut Vec<ToolCallEvent>) {
        let Some(Open { mut block, gap }) = self.open.take() else {
            return;
        };
        block.complete = complete;
        let call = match self.strict {
            false => block.lenient(),
            true if gap => Err(Fault::WhiteSpace),
            true => block.strict(),
        };
        events.push(ToolCallEvent::End { block, marker });
        events.push(match call {
            Ok(call) => ToolCallEvent::Call(call),
            Err(fault) => ToolCallEvent::Fault(fault),
        });
    }
}

/// Reads the kind of a block behind its start.
fn kind(text: &str) -> Kind {
    let trimmed = text.trim_start();
    let gap = text.len() - trimmed.len();
    if gap > MAX_GAP {
        return Kind::No;
    }
    for action in [Action::Plugin, Action::Interpreter] {
        let marker = action.marker();
        if trimmed.starts_with(marker) {
            return Kind::Is(action, gap + marker.len());
        }
        if marker.starts_with(trimmed) {
            return Kind::Open;
        }
    }
    Kind::No
}

/// The first of the markers in `text`, and where it begins. Looks at each place once.
fn find(text: &str, markers: &[&'static str]) -> Option<(usize, &'static str)> {
    text.match_indices("<|").find_map(|(at, _)| {
        let marker = markers
            .iter()
            .find(|marker| text[at..].starts_with(**marker));
        marker.map(|marker| (at, *marker))
    })
}

/// Length of the longest end of `text` that begins one of the markers.
fn held_back(text: &str, markers: &[&str]) -> usize {
    let begins = |marker: &&str| {
        // Markers are ASCII, so a cut inside of a character is never equal to a part of one.
        (1..marker.len())
            .rev()
            .find(|&len| text.as_bytes().ends_with(&marker.as_bytes()[..len]))
    };
    markers.iter().filter_map(begins).max().unwrap_or(0)
}
