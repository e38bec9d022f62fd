//! Tools by the names of the command line.

use internlm_agent::tool::ToolSet;
use internlm_agent::tools;
use internlm_examples::{Error, Result};

/// The tools of these names.
///
/// # Errors
/// A name that is not known.
pub(crate) fn named(names: &[String]) -> Result<ToolSet> {
    let mut set = ToolSet::new();
    for name in names {
        set = match name.as_str() {
            "calculator" => set.with(tools::calculator()),
            "text_stats" => set.with(tools::text_stats()),
            _ => {
                let what = format!("--tools {name}: expected calculator or text_stats");
                return Err(Error::Input(what));
            }
        }?;
    }
    Ok(set)
}
