//! What is below a root.

use cap_std::fs::Dir;

use super::{Root, below, fault};
use crate::tool::{ToolContext, ToolError};

/// What something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    File,
    Folder,
    Link,
    Other,
}

/// Something that a walk came by.
#[derive(Clone, Debug)]
pub(crate) struct Visit {
    /// Its path below the root, with `/` between names.
    pub path: String,
    pub kind: Kind,
    /// Bytes, of a file.
    pub bytes: u64,
}

/// How far a walk goes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WalkLimits {
    /// How many folders within each other are entered; 1 is what is in the folder itself.
    pub depth: usize,
    /// Most things that are looked at.
    pub visits: usize,
    /// Whether names that begin with a dot count.
    pub hidden: bool,
}

/// How deep a walk goes whoever asks.
const MAX_DEPTH: usize = 64;

impl Root {
    /// Looks at everything below a folder, by name, a folder before what is in it; links are named and not followed.
    /// Says whether it saw all, which it did not if there was more than the limit or if `visit` said no.
    ///
    /// # Errors
    /// If the path is no folder or leads out, if a folder can't be read, if `visit` fails, or if the call must stop.
    pub(crate) fn walk(
        &self,
        path: &str,
        limits: WalkLimits,
        context: &ToolContext,
        visit: &mut dyn FnMut(Visit) -> Result<bool, ToolError>,
    ) -> Result<bool, ToolError> {
        let path = below(path);
        let folder = self
            .dir
            .open_dir(path)
            .map_err(|error| fault(path, &error))?;
        let prefix = path.trim_start_matches("./").trim_end_matches('/');
        let prefix = if prefix == "." { "" } else { prefix };
        let mut walk = Walk {
            limits,
            left: limits.visits,
            context,
            visit,
        };
        walk.folder(&folder, prefix, 1)
    }
}

struct Walk<'a> {
    limits: WalkLimits,
    left: usize,
    context: &'a ToolContext,
    visit: &'a mut dyn FnMut(Visit) -> Result<bool, ToolError>,
}

impl Walk<'_> {
    fn folder(&mut self, folder: &Dir, prefix: &str, depth: usize) -> Result<bool, ToolError> {
        let at = |error: std::io::Error| fault(prefix, &error);
        let mut entries = Vec::new();
        let mut is_all = true;
        for entry in folder.entries().map_err(at)? {
            self.context.check()?;
            let entry = entry.map_err(at)?;
            // A name that is no text can't be asked for either.
            let Ok(name) = entry.file_name().into_string() else {
                continue;
            };
            if name.starts_with('.') && !self.limits.hidden {
                continue;
            }
            if entries.len() == self.left {
                is_all = false;
                break;
            }
            entries.push((name, entry));
        }
        entries.sort_by(|a, b| a.0.cmp(&b.0));
        for (name, entry) in entries {
            if self.left == 0 {
                return Ok(false);
            }
            self.left -= 1;
            let path = match prefix {
                "" => name,
                prefix => format!("{prefix}/{name}"),
            };
            // It may be gone by now.
            let Ok(metadata) = entry.metadata() else {
                continue;
            };
            let kind = match metadata.file_type() {
                kind if kind.is_file() => Kind::File,
                kind if kind.is_dir() => Kind::Folder,
                kind if kind.is_symlink() => Kind::Link,
                _ => Kind::Other,
            };
            let bytes = metadata.len();
            let visit = Visit {
                path: path.clone(),
                kind,
                bytes,
            };
            if !(self.visit)(visit)? {
                return Ok(false);
            }
            if kind == Kind::Folder && depth < self.limits.depth.min(MAX_DEPTH) {
                // It may have become unreadable, or a link; then nothing in it is seen.
                if let Ok(inner) = entry.open_dir() {
                    is_all &= self.folder(&inner, &path, depth + 1)?;
                }
            }
        }
        Ok(is_all)
    }
}
