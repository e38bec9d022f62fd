//! Files that are either whole or not there.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// A file that is written beside its place and moved there when it is whole.
#[derive(Debug)]
pub(crate) struct Replacement {
    path: PathBuf,
    temporary: PathBuf,
    file: Option<BufWriter<File>>,
}

impl Replacement {
    /// Begins; the folder is made if it is missing.
    pub(crate) fn new(path: &Path) -> Result<Self> {
        let folder = path.parent().unwrap_or_else(|| Path::new("."));
        std::fs::create_dir_all(folder).map_err(Error::io(folder))?;
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(format!(".{}.tmp", std::process::id()));
        let temporary = path.with_file_name(name);
        let file = File::create(&temporary).map_err(Error::io(&temporary))?;
        Ok(Self {
            path: path.to_owned(),
            temporary,
            file: Some(BufWriter::new(file)),
        })
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<()> {
        match &mut self.file {
            Some(file) => file.write_all(bytes).map_err(Error::io(&self.temporary)),
            None => Ok(()),
        }
    }

    /// Moves the file to its place once it is on the disk.
    pub(crate) fn finish(mut self) -> Result<()> {
        if let Some(file) = self.file.take() {
            let io = || Error::io(&self.temporary);
            let file = file.into_inner().map_err(|e| io()(e.into_error()))?;
            file.sync_all().map_err(io())?;
            drop(file);
            std::fs::rename(&self.temporary, &self.path).map_err(Error::io(&self.path))?;
            // The name is on the disk when the folder is; not every system can sync folders.
            if let Some(Ok(folder)) = self.path.parent().map(File::open) {
                let _ = folder.sync_all();
            }
        }
        Ok(())
    }
}

impl Drop for Replacement {
    fn drop(&mut self) {
        if self.file.take().is_some() {
            // It failed, or was given up; the old file stays.
            let _ = std::fs::remove_file(&self.temporary);
        }
    }
}

/// Replaces a file by these bytes.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut file = Replacement::new(path)?;
    file.write(bytes)?;
    file.finish()
}

/// A name as a file can have it on every system.
pub(crate) fn file_name(name: &str) -> String {
    let plain = |c: char| match c {
        '<' | '>' | ':' | '"' | '/' | '\\' | '|' | '?' | '*' | '[' | ']' => '_',
        c if c.is_control() => '_',
        c => c,
    };
    let name: String = name.chars().map(plain).collect();
    match name.trim_matches('.') {
        "" => "_".to_owned(),
        name => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_old_or_new() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/b.txt");
        replace(&path, b"old").unwrap();
        let mut half = Replacement::new(&path).unwrap();
        half.write(b"ne").unwrap();
        drop(half);
        assert_eq!(std::fs::read(&path).unwrap(), b"old");
        assert_eq!(
            std::fs::read_dir(path.parent().unwrap()).unwrap().count(),
            1
        );
        replace(&path, b"new").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"new");
    }

    #[test]
    fn names_stay_in_their_folder() {
        assert_eq!(file_name("org/model:1"), "org_model_1");
        assert_eq!(file_name(".."), "_");
        assert_eq!(file_name("../x"), "_x");
        assert_eq!(file_name("书"), "书");
    }
}
