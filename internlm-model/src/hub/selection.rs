//! Which files of a repository are fetched.

use super::error::{Error, Result};

/// What a caller wants of a repository.
#[derive(Clone, Debug)]
pub(super) enum Selection {
    /// What loading a model needs: configuration, tokenizer and one set of weights.
    Model,
    /// One file, by name.
    File(String),
    /// All files that match a pattern.
    Patterns(Vec<String>),
}

/// The answer: files in the order of download, and the one to open where it is a single file.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Chosen {
    pub(super) names: Vec<String>,
    pub(super) file: Option<String>,
}

/// Files that hold programs. Patterns take them only if they name the extension.
const CODE: &[&str] = &[
    "bat", "cmd", "dll", "dylib", "exe", "js", "ps1", "py", "pyc", "pyd", "pyo", "sh", "so",
];

/// Files beside the weights, all at the root.
const BESIDE: &[&str] = &["jinja", "json", "model"];
const BESIDE_NAMES: &[&str] = &["merges.txt", "vocab.txt"];

impl Selection {
    /// Picks from the names that a repository or a snapshot folder holds.
    pub(super) fn choose(&self, repo: &str, names: &[String]) -> Result<Chosen> {
        match self {
            Selection::Model => model(repo, names),
            Selection::File(file) if names.contains(file) => Ok(Chosen {
                names: vec![file.clone()],
                file: Some(file.clone()),
            }),
            Selection::File(file) => Err(nothing(repo, format!("`{file}`"))),
            Selection::Patterns(patterns) => {
                let chosen: Vec<_> = names
                    .iter()
                    .filter(|name| patterns.iter().any(|pattern| takes(pattern, name)))
                    .cloned()
                    .collect();
                if chosen.is_empty() {
                    return Err(nothing(repo, patterns.join(", ")));
                }
                Ok(Chosen {
                    names: weights_last(chosen),
                    file: None,
                })
            }
        }
    }
}

fn nothing(repo: &str, wanted: String) -> Error {
    Error::NoFiles {
        repo: repo.to_owned(),
        wanted,
    }
}

fn extension(name: &str) -> &str {
    name.rsplit_once('.').map_or("", |(_, extension)| extension)
}

fn is_code(name: &str) -> bool {
    let extension = extension(name).to_ascii_lowercase();
    CODE.contains(&extension.as_str())
}

fn takes(pattern: &str, name: &str) -> bool {
    matches(pattern, name)
        && (!is_code(name) || extension(pattern).eq_ignore_ascii_case(extension(name)))
}

/// Weights come last, so a snapshot that has them has all the rest.
fn weights_last(mut names: Vec<String>) -> Vec<String> {
    names.sort_by_key(|name| {
        let weights = matches!(
            extension(name),
            "safetensors" | "bin" | "gguf" | "pt" | "pth"
        );
        (weights, name.clone())
    });
    names
}

fn model(repo: &str, names: &[String]) -> Result<Chosen> {
    let root: Vec<&str> = names
        .iter()
        .map(String::as_str)
        .filter(|name| !name.contains('/'))
        .collect();
    let of = |extension_wanted: &str| -> Vec<&str> {
        let with = root.iter().copied();
        with.filter(|name| extension(name) == extension_wanted)
            .collect()
    };
    let mut weights = one_set(&of("safetensors"), "model");
    if weights.is_empty() {
        weights = of("safetensors");
    }
    if weights.is_empty() {
        weights = one_set(&of("bin"), "pytorch_model");
    }
    let mut file = None;
    if weights.is_empty() {
        match of("gguf").as_slice() {
            [] => {
                let wanted = "*.safetensors, pytorch_model*.bin or *.gguf".to_owned();
                return Err(nothing(repo, wanted));
            }
            [only] => {
                weights = vec![only];
                file = Some((*only).to_owned());
            }
            several => {
                return Err(Error::Ambiguous {
                    repo: repo.to_owned(),
                    files: several.iter().map(|&name| name.to_owned()).collect(),
                });
            }
        }
    }
    let beside = |name: &&str| BESIDE.contains(&extension(name)) || BESIDE_NAMES.contains(name);
    let chosen = root.iter().copied().filter(beside).chain(weights);
    Ok(Chosen {
        names: weights_last(chosen.map(str::to_owned).collect()),
        file,
    })
}

/// The shards `stem-00001-of-0000N.*` if there are any, else `stem.*`. Variants such as
/// `model.fp16.safetensors` are left out.
fn one_set<'a>(names: &[&'a str], stem: &str) -> Vec<&'a str> {
    let pick = |ok: &dyn Fn(&str) -> bool| -> Vec<&'a str> {
        let all = names.iter().copied();
        all.filter(|name| name.rsplit_once('.').is_some_and(|(name, _)| ok(name)))
            .collect()
    };
    let shards = pick(&|name| shard(name).is_some_and(|(of, _, _)| of == stem));
    if shards.is_empty() {
        pick(&|name| name == stem)
    } else {
        shards
    }
}

/// Splits `stem-00001-of-00008` (no extension) into stem, number and count.
fn shard(name: &str) -> Option<(&str, u32, u32)> {
    let (rest, count) = name.rsplit_once("-of-")?;
    let (stem, number) = rest.rsplit_once('-')?;
    let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    (digits(number) && digits(count)).then_some(())?;
    Some((stem, number.parse().ok()?, count.parse().ok()?))
}

/// The first shard that a set of names lacks, by the counts that the names carry.
pub(super) fn missing_shard(names: &[String]) -> Option<String> {
    for name in names {
        let Some((base, extension)) = name.rsplit_once('.') else {
            continue;
        };
        let Some((stem, _, count)) = shard(base) else {
            continue;
        };
        let width = base.rsplit_once('-').map_or(5, |(_, count)| count.len());
        // A count beyond the names at hand lacks one among the first `len + 1`.
        let limit = count.min(
            u32::try_from(names.len())
                .unwrap_or(u32::MAX)
                .saturating_add(1),
        );
        for number in 1..=limit {
            let want = format!("{stem}-{number:0width$}-of-{count:0width$}.{extension}");
            if !names.contains(&want) {
                return Some(want);
            }
        }
    }
    None
}

/// Shell patterns as Python's `fnmatch` reads them, without sets: `*` is any text, `/` included,
/// and `?` any character.
fn matches(pattern: &str, name: &str) -> bool {
    let (pattern, name): (Vec<char>, Vec<char>) =
        (pattern.chars().collect(), name.chars().collect());
    let (mut p, mut n) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while n < name.len() {
        match pattern.get(p) {
            Some('*') => {
                star = Some((p, n));
                p += 1;
            }
            Some(&c) if c == '?' || c == name[n] => {
                p += 1;
                n += 1;
            }
            _ => match star {
                Some((at, from)) => {
                    star = Some((at, from + 1));
                    p = at + 1;
                    n = from + 1;
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|&c| c == '*')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    #[track_caller]
    fn model_of(repo: &str, want: &str) {
        let chosen = Selection::Model.choose("o/n", &names(repo)).unwrap();
        assert_eq!(chosen.names, names(want));
    }

    #[test]
    fn models() {
        model_of(
            "config.json model.safetensors README.md",
            "config.json model.safetensors",
        );
        // Safetensors before pickles; no code; no subfolders.
        model_of(
            "config.json modeling_internlm2.py tokenizer.model pytorch_model.bin model.safetensors \
             original/consolidated.00.pth original/params.json model.fp16.safetensors",
            "config.json tokenizer.model model.safetensors",
        );
        model_of(
            "pytorch_model-00001-of-00002.bin pytorch_model-00002-of-00002.bin training_args.bin \
             pytorch_model.bin.index.json",
            "pytorch_model.bin.index.json pytorch_model-00001-of-00002.bin pytorch_model-00002-of-00002.bin",
        );
        model_of(
            "model-00001-of-00001.safetensors model.safetensors",
            "model-00001-of-00001.safetensors",
        );
        model_of(
            "adapter_config.json adapter_model.safetensors",
            "adapter_config.json adapter_model.safetensors",
        );
        model_of(
            "chat_template.jinja merges.txt x.txt a.safetensors",
            "chat_template.jinja merges.txt a.safetensors",
        );
    }

    #[test]
    fn gguf() {
        let one = Selection::Model
            .choose("o/n", &names("README.md m.gguf"))
            .unwrap();
        assert_eq!(
            (one.names, one.file.as_deref()),
            (names("m.gguf"), Some("m.gguf"))
        );
        let several = Selection::Model.choose("o/n", &names("a.gguf b.gguf"));
        assert!(
            matches!(several, Err(Error::Ambiguous { files, .. }) if files == names("a.gguf b.gguf"))
        );
        let named = Selection::File("b.gguf".to_owned());
        assert_eq!(
            named.choose("o/n", &names("a.gguf b.gguf")).unwrap().names,
            names("b.gguf")
        );
    }

    #[test]
    fn nothing_to_fetch() {
        for selection in [
            Selection::Model,
            Selection::File("x".to_owned()),
            Selection::Patterns(vec!["*.bin".to_owned()]),
        ] {
            let got = selection.choose("o/n", &names("README.md training_args.json"));
            assert!(
                matches!(got, Err(Error::NoFiles { .. })),
                "{selection:?}: {got:?}"
            );
        }
    }

    #[test]
    fn code_only_by_name() {
        let all = names("a.py b.json sub/c.SO d.safetensors");
        let pick = |pattern: &str| {
            let patterns = Selection::Patterns(vec![pattern.to_owned()]);
            patterns
                .choose("o/n", &all)
                .map(|chosen| chosen.names)
                .unwrap_or_default()
        };
        assert_eq!(pick("*"), names("b.json d.safetensors"));
        assert_eq!(pick("*.py"), names("a.py"));
        assert_eq!(pick("a.*"), names(""));
        assert_eq!(pick("sub/*.so"), names(""));
        assert_eq!(pick("sub/*.SO"), names("sub/c.SO"));
    }

    #[track_caller]
    fn check(pattern: &str, name: &str, want: bool) {
        assert_eq!(matches(pattern, name), want, "{pattern} {name}");
    }

    #[test]
    fn patterns() {
        check("*.json", "a/b.json", true);
        check("*.json", "b.jsonl", false);
        check("?.json", "b.json", true);
        check("?.json", ".json", false);
        check("a*b*c", "a-b-b-c", true);
        check("a*b*c", "a-c-b", false);
        check("", "", true);
        check("", "a", false);
        check("**", "", true);
        check(&"*a".repeat(50), &"a".repeat(400), true);
        check(&format!("{}b", "*a".repeat(50)), &"a".repeat(400), false);
    }

    #[test]
    fn missing_shards() {
        let missing = |text: &str| missing_shard(&names(text));
        assert_eq!(missing("model.safetensors config.json"), None);
        assert_eq!(missing("m-00001-of-00002.bin m-00002-of-00002.bin"), None);
        assert_eq!(
            missing("m-00001-of-00002.bin").as_deref(),
            Some("m-00002-of-00002.bin")
        );
        assert_eq!(
            missing("m-00003-of-4000000000.bin").as_deref(),
            Some("m-0000000001-of-4000000000.bin")
        );
    }
}
