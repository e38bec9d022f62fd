//! Changes below a root, each of which is there whole or not at all.

use std::io::{ErrorKind, Write};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use cap_std::fs::{Dir, OpenOptions};

use super::{Root, below, fault};
use crate::tool::ToolError;

impl Root {
    /// Puts a file there, in place of one of its name, and makes the folders above it. Who reads it meanwhile sees
    /// the old one or the new one: it is written beside it, synchronized and renamed.
    ///
    /// # Errors
    /// If the path leads out of the folder, names a folder or a link, or if the system refuses.
    pub fn write(&self, path: &str, bytes: &[u8]) -> Result<(), ToolError> {
        let _alone = self.changing();
        self.replace(path, bytes)
    }

    /// As [`Root::write`], for one who is [alone](Root::changing) already.
    pub(crate) fn replace(&self, path: &str, bytes: &[u8]) -> Result<(), ToolError> {
        let path = below(path);
        let fault = |error: std::io::Error| fault(path, &error);
        let Some(name) = Path::new(path).file_name().filter(|_| !path.ends_with('/')) else {
            return Err(format!("`{path}` is no name of a file").into());
        };
        let parent = Path::new(path)
            .parent()
            .filter(|parent| !parent.as_os_str().is_empty());
        let folder = match parent {
            Some(parent) => match self.dir.open_dir(parent) {
                Err(error) if error.kind() == ErrorKind::NotFound => {
                    self.dir.create_dir_all(parent).map_err(fault)?;
                    self.dir.open_dir(parent).map_err(fault)?
                }
                opened => opened.map_err(fault)?,
            },
            None => self.dir.try_clone().map_err(fault)?,
        };
        let before = match folder.symlink_metadata(name) {
            Ok(before) if before.is_file() => Some(before.permissions()),
            Ok(_) => return Err(format!("`{path}` is a folder, a link or the like").into()),
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(error) => return Err(fault(error)),
        };
        let draft = Draft::new(&folder).map_err(fault)?;
        draft
            .fill(bytes, before)
            .and_then(|()| folder.rename(&draft.name, &folder, name))
            .map_err(fault)?;
        draft.keep();
        // Else the name might be lost in a crash, though the bytes are not.
        #[cfg(unix)]
        folder
            .open(".")
            .and_then(|folder| folder.sync_all())
            .map_err(fault)?;
        Ok(())
    }
}

/// A new file that is removed again unless it is kept.
struct Draft<'a> {
    folder: &'a Dir,
    name: String,
    is_kept: bool,
}

impl<'a> Draft<'a> {
    fn new(folder: &'a Dir) -> std::io::Result<Self> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        loop {
            let count = COUNT.fetch_add(1, Ordering::Relaxed);
            let name = format!(".draft-{}-{count}", std::process::id());
            match folder.open_with(&name, OpenOptions::new().write(true).create_new(true)) {
                Ok(_) => {
                    return Ok(Self {
                        folder,
                        name,
                        is_kept: false,
                    });
                }
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn fill(
        &self,
        bytes: &[u8],
        permissions: Option<cap_std::fs::Permissions>,
    ) -> std::io::Result<()> {
        let mut file = self
            .folder
            .open_with(&self.name, OpenOptions::new().write(true))?;
        file.write_all(bytes)?;
        if let Some(permissions) = permissions {
            file.set_permissions(permissions)?;
        }
        file.sync_all()
    }

    fn keep(mut self) {
        self.is_kept = true;
    }
}

impl Drop for Draft<'_> {
    fn drop(&mut self) {
        if !self.is_kept {
            // It failed already; that is what the caller is told.
            self.folder.remove_file(&self.name).ok();
        }
    }
}
