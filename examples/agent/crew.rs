//! Who answers: an agent with tools, or one that plans and has another search.

use std::sync::Arc;

use internlm_agent::Agent;
use internlm_agent::agent::Decision;
use internlm_agent::container::AgentTool;
use internlm_agent::protocol::Protocol;
use internlm_agent::protocol::tools::Tools;
use internlm_agent::tool::ToolSet;
use internlm_core::{ChatModel, SamplingParams};

use crate::arguments::{Arguments, Speech};

/// The agent that is asked.
pub(crate) fn of(
    arguments: &Arguments,
    model: Arc<dyn ChatModel>,
    sampling: SamplingParams,
    tools: ToolSet,
) -> Agent {
    let agent = |name: &str| {
        let agent = Agent::shared(Arc::clone(&model))
            .with_name(name)
            .with_sampling(sampling.clone())
            .with_limits(arguments.limits());
        match &arguments.trace {
            Some(file) => agent.with_trace(file),
            None => agent,
        }
    };
    if arguments.protocol != Speech::Planner {
        return agent("agent")
            .with_protocol(arguments.protocol())
            .with_tools(tools);
    }
    let speech = Tools::default().with_require_call(!arguments.unconstrained);
    let mut searcher = agent("searcher")
        .with_protocol(Protocol::Tools(speech))
        .with_tools(tools);
    if arguments.yes {
        // Within the planner's run nobody can be asked.
        searcher = searcher.with_approval(|_| Decision::Allow);
    }
    let searcher = AgentTool::searcher("searcher", "Answers one question with tools.", searcher);
    agent("planner")
        .with_protocol(arguments.protocol())
        .with_tool(searcher)
}
