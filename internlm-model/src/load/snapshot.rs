//! Where a folder lies in the hub's cache: `models--org--name/snapshots/revision`.
//!
//! Files of a snapshot are links into the `blobs` beside it (huggingface_hub: "Manage your
//! huggingface_hub cache-system").

use std::path::{Path, PathBuf};

/// The folder of a repository that a path is a snapshot of. The path is taken as it is spelled.
fn repository(snapshot: &Path) -> Option<(&Path, &str)> {
    let snapshots = snapshot.parent()?;
    let repository = snapshots.parent()?;
    let id = repository.file_name()?.to_str()?.strip_prefix("models--")?;
    (snapshots.file_name()? == "snapshots").then_some((repository, id))
}

/// `models--org--name/blobs` of `models--org--name/snapshots/revision`.
pub(super) fn blobs(snapshot: &Path) -> Option<PathBuf> {
    repository(snapshot).map(|(repository, _)| repository.join("blobs"))
}

/// `org/name` of `models--org--name/snapshots/revision`.
pub(super) fn id(snapshot: &Path) -> Option<String> {
    repository(snapshot).map(|(_, id)| id.replacen("--", "/", 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn snapshots_are_told_by_their_folders() {
        let of = |path: &str| id(Path::new(path));
        let some = |id: &str| Some(id.to_owned());
        assert_eq!(of("/c/models--org--a-b/snapshots/0f"), some("org/a-b"));
        assert_eq!(of("models--org--a--b/snapshots/main/"), some("org/a--b"));
        assert_eq!(of("/c/models--gpt2/snapshots/0f"), some("gpt2"));
        for other in [
            "/c/models--org--name",
            "/c/models--org--name/snapshots",
            "/c/models--org--name/blobs/0f",
            "/c/datasets--org--name/snapshots/0f",
            "snapshots/0f",
            "",
        ] {
            assert_eq!(of(other), None, "{other}");
        }
        let path = Path::new("/c/models--org--name/snapshots/0f");
        assert_eq!(blobs(path), Some("/c/models--org--name/blobs".into()));
    }
}
