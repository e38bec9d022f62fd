//! Runs Python and shell programs that a model wrote, behind the walls of the Linux kernel.
//!
//! A program runs in a process of its own, started through a launcher: this very program, executed
//! again, with one thread. The launcher leaves the host's user, pid, mount, network, IPC and UTS
//! namespaces. The first process inside builds a root that holds the interpreter and its libraries,
//! read-only, and one folder with a limit; drops every capability; and gives up, for itself and all
//! that it starts, what Landlock, seccomp, `no_new_privs` and resource limits take. When it ends, so
//! does everything inside: nothing outlives a run.
//!
//! All layers are on. One that does not hold on a system is an error, unless
//! [`SandboxConfig::optional`] names it, and [`Layers`] says which do. What is let through on
//! purpose, and what these walls don't stop, is in `docs/src/sandbox.md`.
//!
//! ```no_run
//! use std::time::Duration;
//! use internlm_agent::sandbox::{self, Sandbox, SandboxConfig};
//!
//! fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     sandbox::init(); // first thing, before any thread is started
//!     let sandbox = Sandbox::new(SandboxConfig::default())?;
//!     println!("{}", sandbox.layers());
//!     let mut session = sandbox.session()?;
//!     session.call("x = 6", Duration::from_secs(5))?;
//!     let output = session.call("x * 7", Duration::from_secs(5))?;
//!     assert_eq!(output.value.as_deref(), Some("42"));
//!     Ok(())
//! }
//! ```
//!
//! A program that can't call [`init`] first names the launcher that comes with this crate, the
//! binary `internlm-sandbox`, in [`SandboxConfig::launcher`].

mod config;
mod fault;
mod layers;

#[cfg(not(target_os = "linux"))]
mod elsewhere;
#[cfg(target_os = "linux")]
mod exchange;
#[cfg(target_os = "linux")]
mod filter;
#[cfg(target_os = "linux")]
mod folder;
#[cfg(target_os = "linux")]
mod host;
#[cfg(target_os = "linux")]
mod inner;
#[cfg(target_os = "linux")]
mod interpreter;
#[cfg(target_os = "linux")]
mod outer;
#[cfg(target_os = "linux")]
mod restrict;
#[cfg(target_os = "linux")]
mod root;
#[cfg(target_os = "linux")]
mod run;
#[cfg(target_os = "linux")]
mod session;
#[cfg(target_os = "linux")]
mod spec;
#[cfg(target_os = "linux")]
mod wire;

pub use config::{Limits, SandboxConfig};
#[cfg(not(target_os = "linux"))]
pub use elsewhere::{CallOutput, PythonSession, Sandbox};
pub use fault::Fault;
#[cfg(target_os = "linux")]
pub use folder::{FileEntry, Folder};
pub use layers::{Layer, LayerState, Layers};
#[cfg(target_os = "linux")]
pub use run::{Run, Sandbox};
#[cfg(target_os = "linux")]
pub use session::{CallOutput, CallStatus, PythonError, PythonSession};

/// Makes this program its own launcher.
///
/// To be called first thing in `main`, before any thread is started: in a process that the sandbox
/// started as its launcher this does not return; in any other it does at once.
pub fn init() {
    #[cfg(target_os = "linux")]
    {
        let mut args = std::env::args_os();
        if args.next().is_some_and(|name| name == spec::LAUNCHER_NAME) {
            match args.next() {
                Some(stage) if stage == "outer" => {
                    outer::run();
                    std::process::exit(0);
                }
                Some(stage) if stage == "inner" => {
                    inner::run();
                    std::process::exit(0);
                }
                _ => {}
            }
        }
        host::INITIALISED.store(true, std::sync::atomic::Ordering::Relaxed);
    }
}
