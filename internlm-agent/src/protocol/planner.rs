//! A planner as MindSearch has it: the model writes a small program that makes a graph of questions, a searcher
//! answers them, and the model answers from what was found.
//!
//! The program looks like Python and is read by a parser of its own ([`program`]); nothing is ever executed. The
//! searcher is a tool: any function that takes a question, or an agent
//! ([`AgentTool::searcher`](crate::container::AgentTool::searcher)). Unlike MindSearch, it is told the answers of
//! the questions before its own.

mod graph;
pub mod program;
pub mod references;

use internlm_core::{ChatRequest, Message, tool_call};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

pub use self::graph::{Graph, Node, NodeKind};
pub use self::program::GraphError;
use self::program::{Statement, extract_program, parse_program};
use self::references::renumber;
use super::dialect::{call_id, one_system};
use super::{
    Call, Channel, Machine, Observation, Observed, Outcome, Phase, Reply, Start, Step, in_order,
    last_words,
};
use crate::error::Result;
use crate::tool::OutputPart;

/// Configuration of the protocol.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Planner {
    /// The tool that answers questions. Its arguments are `question`, `topic` and `history`, a list of earlier
    /// questions with answers; data in its result that is an object of numbers are its sources.
    pub searcher: String,
    /// The instructions.
    pub instructions: String,
    /// What asks for the answer in the end.
    pub final_prompt: String,
    /// Most questions at all.
    pub max_nodes: usize,
}

impl Default for Planner {
    fn default() -> Self {
        Self {
            searcher: "searcher".to_owned(),
            instructions: INSTRUCTIONS.to_owned(),
            final_prompt:
                "Answer the question now, in detail, from the results above. Keep their citations \
                [[n]] where you use them."
                    .to_owned(),
            max_nodes: 32,
        }
    }
}

const INSTRUCTIONS: &str = "You break a question down into a graph of smaller ones that can each be searched \
for. Write a program of these calls only, in a fence that begins with ```python; texts are in quotes:
graph = WebSearchGraph()
graph.add_root_node(node_content=\"the question\", node_name=\"root\")
graph.add_node(node_name=\"a name\", node_content=\"a question to search for\")
graph.add_edge(start_node=\"root\", end_node=\"a name\")
graph.node(\"a name\")
graph.add_response_node(node_name=\"response\")
A node is searched when it is added; graph.node shows its result after the program. Add nodes that need \
earlier results in a later program. When nothing is missing, add the response node.";

/// A run of the protocol.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PlannerMachine {
    config: Planner,
    system: Option<String>,
    messages: Vec<Message>,
    graph: Graph,
    /// Sources of all answers, by their new numbers.
    sources: Map<String, Value>,
    /// How far numbers of sources are used up.
    next_source: usize,
    /// Nodes that are being searched, in the order of the calls.
    searched: Vec<String>,
    /// Nodes that the program wants to see.
    wanted: Vec<String>,
    answering: bool,
    calls: usize,
    max_turns: usize,
    turn: usize,
    phase: Phase,
}

/// Most programs, if the caller sets no turns.
const MAX_TURNS: usize = 10;

impl PlannerMachine {
    /// A run from its beginning.
    pub fn new(config: Planner, start: Start) -> Self {
        Self {
            config,
            system: start.system,
            messages: start.messages,
            graph: Graph::default(),
            sources: Map::new(),
            next_source: 0,
            searched: Vec::new(),
            wanted: Vec::new(),
            answering: false,
            calls: 0,
            max_turns: start.max_turns.unwrap_or(MAX_TURNS).max(2),
            turn: 0,
            phase: Phase::Ask,
        }
    }

    /// The graph so far.
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// Runs a program on the graph; the whole of it or nothing.
    fn run(&mut self, statements: Vec<Statement>) -> Result<(), String> {
        let mut graph = self.graph.clone();
        let (mut added, mut wanted, mut answering) = (Vec::new(), Vec::new(), false);
        for statement in statements {
            let node = |content, kind| Node {
                content,
                kind,
                response: None,
                sources: Map::new(),
            };
            match statement {
                Statement::New => {}
                Statement::Reset => graph = Graph::default(),
                Statement::AddRootNode { name, content } => {
                    graph.set(&name, node(content, NodeKind::Root));
                }
                Statement::AddNode { name, content } => {
                    graph.set(&name, node(content, NodeKind::Searcher));
                    added.retain(|other| *other != name);
                    added.push(name);
                }
                Statement::AddResponseNode { name } => {
                    graph.set(&name, node(String::new(), NodeKind::End));
                    answering = true;
                }
                Statement::AddEdge { start, end } => {
                    if let Some(missing) =
                        [&start, &end].into_iter().find(|n| graph.node(n).is_none())
                    {
                        return Err(format!("there is no node \"{missing}\""));
                    }
                    graph.edges.push((start, end));
                }
                Statement::Node { name } => {
                    if graph.node(&name).is_none() {
                        return Err(format!("there is no node \"{name}\""));
                    }
                    wanted.push(name);
                }
            }
        }
        let searchers = graph
            .nodes
            .iter()
            .filter(|(_, n)| n.kind == NodeKind::Searcher);
        if searchers.count() > self.config.max_nodes {
            return Err(format!(
                "at most {} questions can be searched",
                self.config.max_nodes
            ));
        }
        if added.is_empty() && wanted.is_empty() && !answering {
            return Err("the program asks for nothing".to_owned());
        }
        if wanted.is_empty() {
            wanted.clone_from(&added);
        }
        (self.graph, self.wanted, self.answering) = (graph, wanted, answering);
        self.search(added);
        Ok(())
    }

    fn search(&mut self, added: Vec<String>) {
        if added.is_empty() {
            self.tell();
            return;
        }
        let calls = added.iter().map(|name| {
            let question = self.graph.node(name).map_or("", |node| &node.content);
            self.calls += 1;
            Call {
                id: call_id(self.calls - 1),
                name: self.config.searcher.clone(),
                arguments: json!({
                    "question": question,
                    "topic": self.graph.topic(),
                    "history": self.graph.history(name),
                }),
                channel: Channel::Tool,
                thought: String::new(),
            }
        });
        self.phase = Phase::Call(calls.collect());
        self.searched = added;
    }

    /// Tells the results that the program wanted, and what to do next.
    fn tell(&mut self) {
        let mut results = Vec::new();
        for name in std::mem::take(&mut self.wanted) {
            let Some(node) = self.graph.node(&name) else {
                continue;
            };
            let response = node.response.as_deref().unwrap_or("(not searched)");
            results.push(format!("## {}\n\n{response}", node.content));
        }
        if self.answering {
            results.push(self.config.final_prompt.clone());
        }
        self.messages
            .push(Message::environment(results.join("\n\n")).with_name("interpreter"));
        self.next_turn();
    }

    fn next_turn(&mut self) {
        if self.turn >= self.max_turns {
            let mut outcome = Outcome::out_of_turns(last_words(&self.messages));
            outcome.details = self.details();
            self.phase = Phase::Done(outcome);
            return;
        }
        self.phase = Phase::Ask;
    }

    fn details(&self) -> Value {
        json!({"graph": self.graph, "sources": self.sources})
    }

    fn fault(&mut self, what: &str) {
        let text = format!("Error: {what}. Write the program again, with the calls above only.");
        self.messages
            .push(Message::environment(text).with_name("interpreter"));
        self.next_turn();
    }
}

impl Machine for PlannerMachine {
    fn step(&self) -> Result<Step> {
        self.phase.step(|| {
            let instructions = self.config.instructions.clone();
            let mut messages = one_system(self.system.as_deref(), instructions);
            messages.extend(self.messages.iter().cloned());
            let last = self.turn + 1 == self.max_turns && !self.answering;
            if last {
                messages.push(Message::user(&self.config.final_prompt));
            }
            Ok(ChatRequest::messages(messages))
        })
    }

    fn reply(&mut self, reply: Reply) -> Result<()> {
        self.phase.expect_ask()?;
        self.turn += 1;
        self.messages.push(Message::assistant(&reply.text));
        let block = tool_call::parse(&reply.text).blocks.into_iter().next();
        let program = match block {
            Some(block) => Some(block.code().to_owned()),
            None => reply
                .text
                .contains("```")
                .then(|| extract_program(&reply.text)),
        };
        let last = self.turn >= self.max_turns;
        match program {
            Some(_) if reply.is_cut() && !self.answering && !last => {
                self.fault("the program is not whole: it is too long");
            }
            Some(program) if !self.answering && !last => {
                let ran = parse_program(&program).map_err(|error| error.to_string());
                if let Err(what) = ran.and_then(|statements| self.run(statements)) {
                    self.fault(&what);
                }
            }
            _ => {
                let mut outcome = Outcome::answered(reply.text);
                outcome.details = self.details();
                self.phase = Phase::Done(outcome);
            }
        }
        Ok(())
    }

    fn observe(&mut self, observations: Vec<Observation>) -> Result<()> {
        let calls = self.phase.expect_calls()?;
        let searched = std::mem::take(&mut self.searched);
        for (name, observed) in searched.iter().zip(in_order(&calls, observations)) {
            let (text, sources) = answer(&observed);
            let renumbered = renumber(&text, &sources, self.next_source);
            self.next_source += renumbered.used;
            self.sources.extend(renumbered.sources.clone());
            if let Some((_, node)) = self.graph.nodes.iter_mut().find(|(n, _)| n == name) {
                node.response = Some(renumbered.text);
                node.sources = renumbered.sources;
            }
        }
        self.tell();
        Ok(())
    }

    fn say(&mut self, messages: Vec<Message>) -> Result<()> {
        self.phase.expect_done()?;
        self.messages.extend(messages);
        self.turn = 0;
        self.answering = false;
        self.phase = Phase::Ask;
        Ok(())
    }

    fn messages(&self) -> Vec<Message> {
        self.messages.clone()
    }
}

/// The words of an answer and its sources, the first data of it that is an object with numbers as keys.
fn answer(observed: &Observed) -> (String, Map<String, Value>) {
    let Observed::Output(output) = observed else {
        return (observed.text(), Map::new());
    };
    let mut sources = Map::new();
    let mut words = output.clone();
    words.parts.retain(|part| match part {
        OutputPart::Json {
            value: Value::Object(map),
        } if sources.is_empty() && map.keys().all(|key| key.parse::<usize>().is_ok()) => {
            sources = map.clone();
            false
        }
        _ => true,
    });
    (words.to_text(), sources)
}
