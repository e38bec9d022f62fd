//! What stands for the sandbox on systems that have none of its walls: nothing that could be made.

use std::convert::Infallible;
use std::time::Duration;

use internlm_core::CodeExecutor;
use internlm_core::code_executor::{CodeOutput, CodeRequest};

use super::config::SandboxConfig;
use super::fault::Fault;
use super::layers::Layers;

/// There is no value of this type here.
#[derive(Debug)]
pub struct Sandbox(Infallible);

/// There is no value of this type here.
#[derive(Debug)]
pub struct PythonSession(Infallible);

/// There is no value of this type here.
#[derive(Debug)]
pub struct CallOutput(Infallible);

impl Sandbox {
    /// Fails.
    ///
    /// # Errors
    /// Always: [`Fault::Unsupported`].
    pub fn new(_: SandboxConfig) -> Result<Self, Fault> {
        Err(Fault::Unsupported)
    }

    /// Which layers hold.
    pub fn layers(&self) -> &Layers {
        match self.0 {}
    }

    /// Starts a Python session.
    ///
    /// # Errors
    /// There is no sandbox to call this on.
    pub fn session(&self) -> Result<PythonSession, Fault> {
        match self.0 {}
    }
}

impl PythonSession {
    /// Runs code.
    ///
    /// # Errors
    /// There is no session to call this on.
    pub fn call(&mut self, _: &str, _: Duration) -> Result<CallOutput, Fault> {
        match self.0 {}
    }
}

impl CodeExecutor for Sandbox {
    fn run(&self, _: &CodeRequest) -> internlm_core::Result<CodeOutput> {
        match self.0 {}
    }

    fn confinement(&self) -> &str {
        match self.0 {}
    }
}
