//! Stop strings over streamed text.
//!
//! Text arrives in pieces that know nothing of stop strings, so a stop string may begin in one
//! piece and end three later. [`StopMatcher`] holds back exactly the text that may still turn out
//! to be the beginning of a stop string and hands out all other text at once.

use rustc_hash::FxHashMap;

use crate::error::{Error, Result};

/// What one [`push`](StopMatcher::push) made certain.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Matched {
    /// Text that is safe to hand out: no stop string can reach into it any more.
    pub text: String,
    /// A stop string was found. [`text`](Self::text) ends before it, and everything after it is
    /// dropped.
    pub stopped: bool,
}

/// Cuts streamed text at the first of several stop strings.
///
/// The first stop is the one that *ends* first, so the cut does not depend on how the text was
/// split into pieces: it is the cut that a check after every single character makes. Of two stop
/// strings that end at the same character the longer one is cut out; vLLM's
/// `check_stop_strings` checks in the order of the list there.
///
/// A push costs time linear in its text, whatever the number of stop strings (Aho and Corasick,
/// 1975). At most the length of the longest stop string is held back.
///
/// ```
/// use internlm_tokenize::StopMatcher;
/// let mut stop = StopMatcher::new(&["\nUser:"])?;
/// assert_eq!(stop.push("Hello.\nUs").text, "Hello.");
/// assert_eq!(stop.push("ually").text, "\nUsually");
/// let matched = stop.push(" so.\nUser: and more");
/// assert_eq!((matched.text.as_str(), matched.stopped), (" so.", true));
/// # Ok::<(), internlm_tokenize::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct StopMatcher {
    stops: Vec<String>,
    /// `goto[(state, byte)]`: the trie of all stop strings. State 0 is the root.
    goto: FxHashMap<(u32, u8), u32>,
    nodes: Vec<Node>,
    state: u32,
    /// Text that is not handed out yet: the longest suffix that begins a stop string.
    held: String,
    matched: Option<usize>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Node {
    /// Where to go on when no stop string continues here: the longest proper suffix in the trie.
    fail: u32,
    /// Bytes from the root.
    depth: usize,
    /// The longest stop string that ends here.
    stop: Option<usize>,
}

impl StopMatcher {
    /// A matcher for `stops`; none at all is fine.
    ///
    /// # Errors
    /// [`Error::EmptyStop`] where a stop string is empty: it would match everywhere.
    pub fn new<S: AsRef<str>>(stops: &[S]) -> Result<Self> {
        let mut goto = FxHashMap::default();
        let mut nodes = vec![Node::default()];
        let mut edges = Vec::new(); // (parent, byte, child) in the order of creation
        for (index, stop) in stops.iter().enumerate() {
            let stop = stop.as_ref();
            if stop.is_empty() {
                return Err(Error::EmptyStop { index });
            }
            let mut state = 0u32;
            for byte in stop.bytes() {
                state = *goto.entry((state, byte)).or_insert_with(|| {
                    let child = nodes.len() as u32;
                    nodes.push(Node {
                        depth: nodes[state as usize].depth + 1,
                        ..Node::default()
                    });
                    edges.push((state, byte, child));
                    child
                });
            }
            nodes[state as usize].stop.get_or_insert(index);
        }
        // A node's failure link is shorter than the node, so links are set by growing depth.
        edges.sort_by_key(|&(_, _, child)| nodes[child as usize].depth);
        for (parent, byte, child) in edges {
            let fail = if parent == 0 {
                0
            } else {
                step(&goto, &nodes, nodes[parent as usize].fail, byte)
            };
            let inherited = nodes[fail as usize].stop;
            let node = &mut nodes[child as usize];
            node.fail = fail;
            node.stop = node.stop.or(inherited);
        }
        Ok(Self {
            stops: stops.iter().map(|stop| stop.as_ref().to_owned()).collect(),
            goto,
            nodes,
            state: 0,
            held: String::new(),
            matched: None,
        })
    }

    /// Takes the next piece of text. After a stop was found everything is dropped.
    pub fn push(&mut self, text: &str) -> Matched {
        if self.matched.is_some() {
            return Matched {
                text: String::new(),
                stopped: true,
            };
        }
        let begin = self.held.len();
        self.held.push_str(text);
        for (offset, byte) in text.bytes().enumerate() {
            self.state = step(&self.goto, &self.nodes, self.state, byte);
            if let Some(stop) = self.nodes[self.state as usize].stop {
                self.matched = Some(stop);
                // A stop string is valid UTF-8, so its first byte begins a character.
                self.held
                    .truncate(begin + offset + 1 - self.stops[stop].len());
                return Matched {
                    text: std::mem::take(&mut self.held),
                    stopped: true,
                };
            }
        }
        let safe = self.held.len() - self.nodes[self.state as usize].depth;
        let tail = self.held.split_off(safe);
        Matched {
            text: std::mem::replace(&mut self.held, tail),
            stopped: false,
        }
    }

    /// Ends the text: hands out what was held back, which is nothing after a stop.
    pub fn flush(&mut self) -> String {
        self.state = 0;
        std::mem::take(&mut self.held)
    }

    /// The stop string that was found, if one was.
    pub fn matched(&self) -> Option<&str> {
        self.matched.map(|stop| self.stops[stop].as_str())
    }
}

/// The state after `byte`.
fn step(goto: &FxHashMap<(u32, u8), u32>, nodes: &[Node], mut state: u32, byte: u8) -> u32 {
    loop {
        if let Some(&next) = goto.get(&(state, byte)) {
            return next;
        }
        if state == 0 {
            return 0;
        }
        state = nodes[state as usize].fail;
    }
}
