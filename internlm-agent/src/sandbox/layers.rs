//! The layers of the sandbox, and which of them hold.

use std::fmt;

use serde::{Deserialize, Serialize};

/// One wall. Each stands alone: what one lets through, another stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Layer {
    /// A user namespace: no right of the code reaches beyond it.
    UserNamespace,
    /// A pid namespace: other processes can't be named, and all die with the first.
    PidNamespace,
    /// A mount namespace with a root of its own: interpreter and libraries read-only, an own folder, no `/proc`.
    MountNamespace,
    /// A network namespace without any device that is up.
    NetworkNamespace,
    /// A System V IPC namespace.
    IpcNamespace,
    /// A namespace of the host's name.
    UtsNamespace,
    /// Every capability dropped, out of reach for good.
    Capabilities,
    /// `no_new_privs`: setuid programs give nothing.
    NoNewPrivs,
    /// Limits of each process: memory, files, processes, processor time.
    Rlimits,
    /// A watch over the memory of all processes together.
    MemoryWatch,
    /// Landlock: files by path, TCP ports, abstract sockets, signals.
    Landlock,
    /// seccomp: only system calls that programs need.
    Seccomp,
}

impl Layer {
    /// All layers, in the order in which they are raised.
    pub const ALL: [Layer; 12] = [
        Layer::UserNamespace,
        Layer::PidNamespace,
        Layer::MountNamespace,
        Layer::NetworkNamespace,
        Layer::IpcNamespace,
        Layer::UtsNamespace,
        Layer::Capabilities,
        Layer::NoNewPrivs,
        Layer::Rlimits,
        Layer::MemoryWatch,
        Layer::Landlock,
        Layer::Seccomp,
    ];
}

impl fmt::Display for Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Layer::UserNamespace => "user namespace",
            Layer::PidNamespace => "pid namespace",
            Layer::MountNamespace => "mount namespace",
            Layer::NetworkNamespace => "network namespace",
            Layer::IpcNamespace => "ipc namespace",
            Layer::UtsNamespace => "uts namespace",
            Layer::Capabilities => "no capabilities",
            Layer::NoNewPrivs => "no_new_privs",
            Layer::Rlimits => "rlimits",
            Layer::MemoryWatch => "memory watch",
            Layer::Landlock => "Landlock",
            Layer::Seccomp => "seccomp",
        })
    }
}

/// Whether a layer holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LayerState {
    /// It holds; the text is its version where it has any, else empty.
    Holds(String),
    /// It does not, and why.
    Missing(String),
}

/// Which layers hold, as the launcher found when it raised them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layers {
    states: Vec<(Layer, LayerState)>,
}

impl Layers {
    /// Every layer that was tried, with its state.
    pub fn states(&self) -> &[(Layer, LayerState)] {
        &self.states
    }

    /// Whether a layer holds.
    pub fn holds(&self, layer: Layer) -> bool {
        self.states
            .iter()
            .any(|(of, state)| *of == layer && matches!(state, LayerState::Holds(_)))
    }

    /// Whether all layers hold.
    pub fn complete(&self) -> bool {
        Layer::ALL.iter().all(|layer| self.holds(*layer))
    }

    /// Notes the state of a layer; the last word counts.
    #[cfg(target_os = "linux")]
    pub(crate) fn set(&mut self, layer: Layer, state: LayerState) {
        self.states.retain(|(of, _)| *of != layer);
        self.states.push((layer, state));
    }
}

impl fmt::Display for Layers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut missing = Vec::new();
        let mut first = true;
        for (layer, state) in &self.states {
            match state {
                LayerState::Holds(version) => {
                    if !first {
                        f.write_str(", ")?;
                    }
                    first = false;
                    write!(f, "{layer}")?;
                    if !version.is_empty() {
                        write!(f, " ({version})")?;
                    }
                }
                LayerState::Missing(what) => missing.push((layer, what)),
            }
        }
        if first {
            f.write_str("nothing")?;
        }
        for (index, (layer, what)) in missing.iter().enumerate() {
            f.write_str(if index == 0 { "; missing: " } else { ", " })?;
            write!(f, "{layer} ({what})")?;
        }
        Ok(())
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_one_line_that_names_what_is_missing() {
        let mut layers = Layers::default();
        assert_eq!(layers.to_string(), "nothing");
        layers.set(Layer::Landlock, LayerState::Holds("ABI 6".into()));
        layers.set(Layer::Seccomp, LayerState::Missing("EINVAL".into()));
        layers.set(Layer::Rlimits, LayerState::Holds(String::new()));
        assert_eq!(
            layers.to_string(),
            "Landlock (ABI 6), rlimits; missing: seccomp (EINVAL)"
        );
        assert!(layers.holds(Layer::Landlock));
        assert!(!layers.holds(Layer::Seccomp));
        assert!(!layers.holds(Layer::PidNamespace));
        assert!(!layers.complete());
        let text = serde_json::to_string(&layers).unwrap();
        assert_eq!(serde_json::from_str::<Layers>(&text).unwrap(), layers);
    }
}
