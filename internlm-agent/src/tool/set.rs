//! The tools of an agent.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use internlm_core::ToolSpec;
use serde_json::Value;

use super::{Tool, ToolContext, ToolError, ToolOutput};
use crate::error::{Error, Result};

/// Tools by name, in the order in which the model is told of them.
#[derive(Clone, Default)]
pub struct ToolSet {
    tools: Vec<Arc<dyn Tool>>,
}

impl std::fmt::Debug for ToolSet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.names()).finish()
    }
}

impl ToolSet {
    /// No tools.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a tool.
    ///
    /// # Errors
    /// [`Error::DuplicateName`].
    pub fn with(mut self, tool: impl Tool + 'static) -> Result<Self> {
        self.add(Arc::new(tool))?;
        Ok(self)
    }

    /// Adds a tool that is shared.
    ///
    /// # Errors
    /// [`Error::DuplicateName`].
    pub fn add(&mut self, tool: Arc<dyn Tool>) -> Result<()> {
        let name = &tool.spec().name;
        if self.get(name).is_some() {
            return Err(Error::DuplicateName { name: name.clone() });
        }
        self.tools.push(tool);
        Ok(())
    }

    /// Adds a tool, in the place of one of its name if there is one.
    pub fn replace(&mut self, tool: Arc<dyn Tool>) {
        let name = tool.spec().name.clone();
        match self
            .tools
            .iter_mut()
            .find(|other| other.spec().name == name)
        {
            Some(other) => *other = tool,
            None => self.tools.push(tool),
        }
    }

    /// The same with tools of these names only: an allow list. Names that are not there are no error.
    #[must_use]
    pub fn only(mut self, names: &[&str]) -> Self {
        self.tools
            .retain(|tool| names.contains(&tool.spec().name.as_str()));
        self
    }

    /// A tool by its name.
    pub fn get(&self, name: &str) -> Option<&Arc<dyn Tool>> {
        self.tools.iter().find(|tool| tool.spec().name == name)
    }

    /// All names.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tools.iter().map(|tool| tool.spec().name.as_str())
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.tools.is_empty()
    }

    /// What the model is told.
    pub fn specs(&self) -> Vec<ToolSpec> {
        self.tools.iter().map(|tool| tool.spec().clone()).collect()
    }

    /// Runs a tool. A panic in it is an error of the call and of nothing else.
    ///
    /// # Errors
    /// What the model is told.
    pub fn call(
        &self,
        name: &str,
        arguments: &Value,
        context: &ToolContext,
    ) -> Result<ToolOutput, ToolError> {
        context.check()?;
        let unknown = || ToolError::unknown(name, self.names());
        let tool = self.get(name).ok_or_else(unknown)?;
        let run = AssertUnwindSafe(|| tool.call(arguments, context));
        catch_unwind(run).unwrap_or_else(|_| {
            Err(ToolError::Panicked {
                tool: name.to_owned(),
            })
        })
    }
}

impl IntoIterator for ToolSet {
    type Item = Arc<dyn Tool>;
    type IntoIter = std::vec::IntoIter<Arc<dyn Tool>>;

    fn into_iter(self) -> Self::IntoIter {
        self.tools.into_iter()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_unknown_tool_is_named_with_those_that_are_there() {
        let call = |set: &ToolSet| {
            let result = set.call("none", &json!({}), &ToolContext::default());
            result.unwrap_err().to_string()
        };
        let mut set = ToolSet::new();
        let alone = "there is no tool `none`, and no other tool either";
        assert_eq!(call(&set), alone);
        set.replace(Arc::new(crate::tools::calculator()));
        set.replace(Arc::new(crate::tools::text_stats()));
        let want = "there is no tool `none`; the tools are: calculator, text_stats";
        assert_eq!(call(&set), want);
    }
}
