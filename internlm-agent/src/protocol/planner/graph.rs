//! The graph of a run.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

/// What a node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NodeKind {
    /// The question of the run.
    Root,
    /// A question for the searcher.
    Searcher,
    /// Where everything leads to.
    End,
}

/// A node of the graph.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Node {
    /// The question; empty for the end.
    #[serde(default)]
    pub content: String,
    /// What it is.
    #[serde(rename = "type")]
    pub kind: NodeKind,
    /// What the searcher answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub response: Option<String>,
    /// Its sources by the numbers in the answer.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub sources: Map<String, Value>,
}

/// The graph of a run: nodes by name, in the order in which they came, and edges.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Graph {
    /// The nodes.
    pub nodes: Vec<(String, Node)>,
    /// The edges, from and to.
    pub edges: Vec<(String, String)>,
}

impl Graph {
    /// A node by its name.
    pub fn node(&self, name: &str) -> Option<&Node> {
        self.nodes
            .iter()
            .find(|(n, _)| n == name)
            .map(|(_, node)| node)
    }

    pub(super) fn set(&mut self, name: &str, node: Node) {
        match self.nodes.iter_mut().find(|(n, _)| n == name) {
            Some((_, old)) => *old = node,
            None => self.nodes.push((name.to_owned(), node)),
        }
    }

    pub(super) fn topic(&self) -> &str {
        let root = self
            .nodes
            .iter()
            .find(|(_, node)| node.kind == NodeKind::Root);
        root.map_or("", |(_, node)| &node.content)
    }

    /// Questions and answers of the nodes that lead to this one.
    pub(super) fn history(&self, name: &str) -> Vec<Value> {
        let before = self.edges.iter().filter(|(_, to)| to == name);
        let answered = before.filter_map(|(from, _)| {
            let node = self.node(from)?;
            let answer = node.response.as_ref()?;
            Some(json!({"question": node.content, "answer": answer}))
        });
        answered.collect()
    }
}
