//! What the host tells the launcher, and what it hears back.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::config::Limits;
use super::layers::{Layer, Layers};

/// The name under which a program is started again as its own launcher.
pub(crate) const LAUNCHER_NAME: &str = "internlm-sandbox";
/// The user inside, and the group.
pub(crate) const INNER_ID: u32 = 1000;
/// The user outside whom the user inside is, if the host is root: `nobody`.
pub(crate) const NOBODY: u32 = 65534;
/// The code's own folder inside.
pub(crate) const FOLDER: &str = "/work";
/// Where scripts of ours lie inside.
pub(crate) const SCRIPTS: &str = "/run";

/// A place to be built and what is to run there.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Spec {
    /// Layers that need not hold.
    pub(crate) optional: Vec<Layer>,
    /// What the code may use.
    pub(crate) limits: Limits,
    /// Folders and files of the host that are there, read-only, at their own paths; no links.
    pub(crate) mounts: Vec<PathBuf>,
    /// Links, as path and target.
    pub(crate) links: Vec<(PathBuf, PathBuf)>,
    /// A folder of the host that is the code's own if there can't be a root of its own.
    pub(crate) plain_folder: Option<PathBuf>,
    /// What to run; `None` raises the layers and reports them.
    pub(crate) program: Option<Program>,
}

/// A program inside. Its standard streams are the first three files beside the message, further
/// ones it has under the numbers that end its arguments.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Program {
    pub(crate) path: PathBuf,
    pub(crate) args: Vec<String>,
    pub(crate) env: Vec<(String, String)>,
    /// A script: its name within [`SCRIPTS`], which is put before the arguments that `args` leaves
    /// open with `{script}`, and its text.
    pub(crate) script: (String, String),
}

/// What the launcher hands on to the first process inside.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Handover {
    pub(crate) spec: Spec,
    pub(crate) layers: Layers,
}

/// What is said to the host.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Report {
    /// The launcher is in its namespaces and waits for its users to be mapped.
    Unshared { user: bool },
    /// All layers are up. The folder comes beside it.
    Started { layers: Layers },
    /// A layer that must hold does not, or, without one, something else failed.
    Failed { layer: Option<Layer>, what: String },
    /// The program ended by itself, or by a signal.
    Exited { code: i32, signal: Option<i32> },
    /// A limit was passed and everything inside is being ended.
    Limit { what: String },
}

/// What the host says.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Order {
    /// The users are mapped.
    Mapped,
    /// SIGINT for the program.
    Interrupt,
}
