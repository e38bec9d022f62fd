//! Tools by the names of the command line.

use std::path::Path;
use std::sync::Arc;

use internlm_agent::fetch::{FetchConfig, Fetcher};
use internlm_agent::mcp::{McpClient, McpConfig, McpServers};
use internlm_agent::tool::{Tool, ToolSet};
use internlm_agent::tools::{self, Root, documents, files, images, ppt, web};
use internlm_examples::{Error, Result};

/// The tools of these names: ready ones, of which those for files stay below `root`.
///
/// # Errors
/// A name that is not known, no such folder, or no sandbox for what runs code.
pub(crate) fn named(names: &[String], root: &Path, search: Option<&str>) -> Result<ToolSet> {
    let io = Error::io(format!("--root {}", root.display()));
    let root = Root::open(root).map_err(io)?;
    let fetcher = || Fetcher::new(FetchConfig::default());
    let mut ready = tools::default_set(&root);
    let mut others = files::tools(&root, files::FileLimits::default());
    others.extend(images::tools(&root, &images::ImageConfig::default()));
    others.extend(ppt::tools(&root, &ppt::PptConfig::default()));
    others.extend([
        documents::read_document(&root, documents::DocumentConfig::default()),
        web::fetch_page(web::PageConfig::default(), fetcher()),
        web::arxiv_search(web::ArxivConfig::default(), fetcher()),
        web::wikipedia_search(web::WikipediaConfig::default(), fetcher()),
        web::wikipedia_page(web::WikipediaConfig::default(), fetcher()),
    ]);
    if let Some(endpoint) = search {
        others.push(web::web_search(web::SearchConfig::new(endpoint), fetcher()));
    }
    for tool in others {
        ready.replace(Arc::new(tool));
    }
    code(names, &mut ready)?;
    let mut set = ToolSet::new();
    for name in names {
        let Some(tool) = ready.get(name) else {
            return Err(unknown(name, &ready));
        };
        set.add(Arc::clone(tool))?;
    }
    Ok(set)
}

fn unknown(name: &str, ready: &ToolSet) -> Error {
    let known: Vec<&str> = ready.names().collect();
    let more = match name {
        "web_search" => "; web_search needs --search URL",
        _ => "",
    };
    Error::Input(format!(
        "--tools {name}: expected some of {}, python, shell{more}",
        known.join(", ")
    ))
}

/// What runs code, if it is asked for: it needs a sandbox.
#[cfg(target_os = "linux")]
fn code(names: &[String], ready: &mut ToolSet) -> Result<()> {
    use internlm_agent::sandbox::{Sandbox, SandboxConfig};
    use internlm_agent::tools::code::{CodeConfig, Python, shell};

    if !names
        .iter()
        .any(|name| matches!(name.as_str(), "python" | "shell"))
    {
        return Ok(());
    }
    let sandbox =
        Arc::new(Sandbox::new(SandboxConfig::default()).map_err(internlm_agent::Error::from)?);
    let code: [Arc<dyn Tool>; 2] = [
        Arc::new(Python::new(Arc::clone(&sandbox))),
        Arc::new(shell(sandbox, CodeConfig::default())),
    ];
    for tool in code {
        ready.replace(tool);
    }
    Ok(())
}

#[cfg(not(target_os = "linux"))]
fn code(_: &[String], _: &mut ToolSet) -> Result<()> {
    Ok(())
}

/// The servers of an `mcpServers` file, started; their tools last as long as this does.
///
/// # Errors
/// A file that can't be read, a server that does not start.
pub(crate) fn servers(file: &Path) -> Result<McpClient> {
    let start = || McpClient::start(&McpServers::read(file)?, &McpConfig::default());
    Ok(start().map_err(internlm_agent::Error::from)?)
}
