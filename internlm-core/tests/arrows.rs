//! The arrows between crates, as ARCHITECTURE.md draws them. In a packaged crate there is no
//! workspace around, and nothing to check.

use std::collections::BTreeSet;
use std::path::Path;

/// Which of our crates each may use.
const ARROWS: [(&str, &[&str]); 8] = [
    ("internlm-agent", &["internlm-core"]),
    ("internlm-core", &[]),
    ("internlm-eval", &["internlm-core"]),
    ("internlm-kernels", &[]),
    ("internlm-tokenize", &["internlm-core"]),
    ("internlm-quant", &["internlm-kernels"]),
    (
        "internlm-model",
        &[
            "internlm-core",
            "internlm-kernels",
            "internlm-quant",
            "internlm-tokenize",
        ],
    ),
    (
        "internlm-serve",
        &[
            "internlm-core",
            "internlm-kernels",
            "internlm-model",
            "internlm-quant",
            "internlm-tokenize",
        ],
    ),
];

/// Our crates that a manifest names as dependencies, those of its tests included.
fn dependencies(manifest: &str) -> BTreeSet<String> {
    let mut section = "";
    let mut found = BTreeSet::new();
    for line in manifest.lines().map(str::trim) {
        if line.starts_with('[') {
            section = line;
        } else if section.ends_with("dependencies]") {
            let name = line.split(['.', ' ', '=']).next().unwrap_or_default();
            if name.starts_with("internlm-") {
                found.insert(name.to_owned());
            }
        }
    }
    found
}

#[test]
fn crates_use_only_what_the_map_allows() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let Ok(workspace) = std::fs::read_to_string(root.join("ARCHITECTURE.md")) else {
        println!("skipped: the crate stands alone, without its workspace");
        return;
    };
    for (name, allowed) in ARROWS {
        assert!(
            workspace.contains(name),
            "ARCHITECTURE.md does not mention {name}"
        );
        let manifest = std::fs::read_to_string(root.join(name).join("Cargo.toml"));
        let used = dependencies(&manifest.expect("a crate has a manifest"));
        let allowed: BTreeSet<String> = allowed.iter().map(|s| (*s).to_owned()).collect();
        assert!(
            used.is_subset(&allowed),
            "{name} uses {used:?}, the map allows {allowed:?}"
        );
    }
}

#[test]
fn dependencies_of_every_kind_are_found() {
    let manifest = "[package]\nname = \"internlm-x\"\n[dependencies]\ninternlm-core.workspace = true\n\
                    serde = \"1\"\n[dev-dependencies]\ninternlm-model = { path = \"..\" }\n";
    let found: Vec<_> = dependencies(manifest).into_iter().collect();
    assert_eq!(found, ["internlm-core", "internlm-model"]);
}
