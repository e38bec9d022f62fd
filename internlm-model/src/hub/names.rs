//! Names that become paths and URLs: repository ids, revisions, remote files. All are checked
//! before they are joined to anything.

use super::error::{Error, Result};

/// What a caller asked for: `org/name`, `org/name@revision`, `org/name/file.gguf`,
/// `org/name/file.gguf@revision`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Source {
    pub(super) repo: String,
    pub(super) revision: Option<String>,
    pub(super) file: Option<String>,
}

impl Source {
    pub(super) fn parse(id: &str) -> Result<Self> {
        let (path, revision) = match id.split_once('@') {
            Some((path, revision)) => (path, Some(revision)),
            None => (id, None),
        };
        // The third `/` part on is a file; GGUF only, so a mistyped id is not taken for one.
        let cut = path.match_indices('/').nth(1).map(|(at, _)| at);
        let (repo, file) = match cut {
            Some(at) => (&path[..at], Some(&path[at + 1..])),
            None => (path, None),
        };
        check_repo(repo)?;
        if let Some(revision) = revision {
            check_revision(revision)?;
        }
        if let Some(file) = file {
            let name = || file.to_owned();
            check_file(file).map_err(|what| Error::Name { name: name(), what })?;
            if !file.to_ascii_lowercase().ends_with(".gguf") {
                return Err(Error::Name {
                    name: id.to_owned(),
                    what: "an id is `org/name` or `org/name/file.gguf`, with `@revision` behind it",
                });
            }
        }
        Ok(Self {
            repo: repo.to_owned(),
            revision: revision.map(str::to_owned),
            file: file.map(str::to_owned),
        })
    }
}

/// The hub's rule for `org/name` (or a bare `name`): up to 96 of letters, digits, `-`, `_`, `.`
/// a part, no `--` or `..`, no `-` or `.` at an end, not ending in `.git`.
fn check_repo(repo: &str) -> Result<()> {
    let part_ok = |part: &str| {
        (1..=96).contains(&part.len())
            && part
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
            && !part.starts_with(['-', '.'])
            && !part.ends_with(['-', '.'])
            && !part.contains("--")
            && !part.contains("..")
    };
    if repo.split('/').count() <= 2 && repo.split('/').all(part_ok) && !repo.ends_with(".git") {
        return Ok(());
    }
    Err(Error::Name {
        name: repo.to_owned(),
        what: "not a hub id: `org/name` of letters, digits, `-`, `_`, `.`",
    })
}

/// A branch, tag or commit: a git reference name of harmless characters.
pub(super) fn check_revision(revision: &str) -> Result<()> {
    let part_ok = |part: &str| {
        !part.is_empty()
            && part
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"-_.+=".contains(&b))
            && !part.starts_with(['-', '.'])
            && !part.ends_with('.')
            && !part.contains("..")
            && !part.ends_with(".lock")
    };
    if revision.len() <= 200 && revision.split('/').all(part_ok) {
        return Ok(());
    }
    Err(Error::Name {
        name: revision.to_owned(),
        what: "not a branch, tag or commit",
    })
}

/// A file name inside of a repository: relative, with `/` between parts, no way out of the folder.
pub(super) fn check_file(file: &str) -> Result<(), &'static str> {
    if file.len() > 1024 || file.split('/').any(|part| part.len() > 255) {
        return Err("too long");
    }
    if file.chars().any(|c| c == '\\' || c.is_control()) {
        return Err("a backslash or a control character");
    }
    if cfg!(windows) && file.contains([':', '<', '>', '"', '|', '?', '*']) {
        return Err("a character that has a meaning in paths here");
    }
    if file.starts_with('/') {
        return Err("an absolute path");
    }
    if file.split('/').any(|part| matches!(part, "" | "." | "..")) {
        return Err("an empty, `.` or `..` part");
    }
    Ok(())
}

/// A full commit hash: 40 lower-case hex digits.
pub(super) fn is_commit(revision: &str) -> bool {
    is_hex(revision, 40)
}

/// Whether `text` is `digits` lower-case hex digits.
pub(super) fn is_hex(text: &str, digits: usize) -> bool {
    text.len() == digits
        && text
            .bytes()
            .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

/// Percent-encodes everything but the unreserved characters and, if asked, `/`.
pub(super) fn encode(text: &str, keep_slash: bool) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) || (keep_slash && byte == b'/') {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn source(id: &str, repo: &str, file: Option<&str>, revision: Option<&str>) {
        let want = Source {
            repo: repo.to_owned(),
            revision: revision.map(str::to_owned),
            file: file.map(str::to_owned),
        };
        assert_eq!(Source::parse(id).unwrap(), want);
    }

    #[test]
    fn ids() {
        source("org/name", "org/name", None, None);
        source("gpt2", "gpt2", None, None);
        source(
            "internlm/internlm2_5-1_8b-chat",
            "internlm/internlm2_5-1_8b-chat",
            None,
            None,
        );
        source("org/name@v1.0", "org/name", None, Some("v1.0"));
        source("org/name@refs/pr/1", "org/name", None, Some("refs/pr/1"));
        source("org/name/a.gguf", "org/name", Some("a.gguf"), None);
        source(
            "org/name/q/a.GGUF@main",
            "org/name",
            Some("q/a.GGUF"),
            Some("main"),
        );
    }

    #[test]
    fn refused_ids() {
        for id in [
            "",
            "/",
            "org/",
            "/name",
            "../name",
            "org/..",
            "org/../x.gguf",
            "org\\name",
            "org/na me",
            "org/name@",
            "org/name@../x",
            "org/name@/x",
            "org/name@a\\b",
            "org/name@a//b",
            "org/name@.hidden",
            "org/name@a.lock",
            "org/name/x.bin",
            "org/name//a.gguf",
            "org/name/../a.gguf",
            "org/--x",
            "a--b/c",
            "org/name.git",
            "-a/b",
            "a/b.",
            "org/näme",
            "org/name/a\0.gguf",
            "C:/x",
            "~/models",
        ] {
            let got = Source::parse(id);
            assert!(matches!(got, Err(Error::Name { .. })), "{id:?}: {got:?}");
        }
        assert!(Source::parse(&"a".repeat(97)).is_err());
    }

    #[test]
    fn refused_files() {
        for file in [
            "",
            "/etc/passwd",
            "../x",
            "a/../../x",
            "a//b",
            "a/",
            "./a",
            "a/.",
            "..",
            ".",
            "a\\b",
            "a\0b",
            "a\nb",
        ] {
            assert!(check_file(file).is_err(), "{file:?}");
        }
        for file in [
            "a",
            "a.b",
            "..a",
            "a/b c.json",
            ".gitattributes",
            "モデル.json",
        ] {
            assert!(check_file(file).is_ok(), "{file:?}");
        }
    }

    #[test]
    fn encoding() {
        assert_eq!(encode("refs/pr/1", false), "refs%2Fpr%2F1");
        assert_eq!(encode("a b/ü?.json", true), "a%20b/%C3%BC%3F.json");
    }

    proptest! {
        /// What passes the check stays inside of the folder it is joined to.
        #[test]
        fn a_checked_file_stays_inside(file in "[a./\\\\ :~-]{0,12}") {
            if check_file(&file).is_ok() {
                let joined = std::path::Path::new("/cache").join(&file);
                prop_assert!(joined.starts_with("/cache"));
                prop_assert!(joined.components().all(|c| c != std::path::Component::ParentDir));
            }
        }

        #[test]
        fn a_parsed_source_has_no_way_out(id in "[a-c./@\\\\ -]{0,16}") {
            if let Ok(source) = Source::parse(&id) {
                prop_assert!(!source.repo.contains(".."));
                prop_assert!(source.repo.matches('/').count() <= 1);
                prop_assert!(source.revision.is_none_or(|r| !r.contains("..") && !r.starts_with('/')));
            }
        }
    }
}
