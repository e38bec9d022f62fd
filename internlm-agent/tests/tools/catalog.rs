//! The list of tools, and the page that is made from it.

use std::collections::BTreeSet;
use std::path::Path;

use internlm_agent::tools::catalog::{default_set, entries, markdown, section};
use internlm_agent::tools::{CatalogEntry, Root};

/// Whether every feature that has tools is on; only then is the list whole.
const WHOLE: bool = cfg!(all(
    feature = "documents",
    feature = "fetch",
    feature = "images",
    feature = "mcp",
    feature = "sandbox",
    target_os = "linux"
));

#[test]
fn names_are_unique_and_every_interface_takes_them() {
    let mut seen = BTreeSet::new();
    for CatalogEntry { spec, limits, .. } in entries() {
        assert!(seen.insert(spec.name.clone()), "{}", spec.name);
        let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
        assert!(
            spec.name.len() <= 64 && spec.name.chars().all(is_plain),
            "{}",
            spec.name
        );
        assert!(
            spec.description.ends_with('.'),
            "{}: {}",
            spec.name,
            spec.description
        );
        assert!(limits.ends_with('.'), "{}: {limits}", spec.name);
        assert_eq!(spec.parameters["type"], "object", "{}", spec.name);
        let properties = spec.parameters["properties"].as_object();
        for (name, property) in properties.into_iter().flatten() {
            let said = property["description"].is_string() || property.get("$ref").is_some();
            assert!(said, "{}: what `{name}` means is not said", spec.name);
        }
    }
}

#[test]
fn the_default_set_is_what_the_list_says() {
    let folder = tempfile::tempdir().unwrap();
    let set = default_set(&Root::open(folder.path()).unwrap());
    let listed: Vec<_> = entries()
        .into_iter()
        .filter(|entry| entry.in_default_set)
        .collect();
    let names: BTreeSet<&str> = listed
        .iter()
        .map(|entry| entry.spec.name.as_str())
        .collect();
    assert_eq!(set.names().collect::<BTreeSet<_>>(), names);
    for entry in &listed {
        let tool = set.get(&entry.spec.name).unwrap();
        assert_eq!(tool.spec(), &entry.spec);
        assert_eq!((tool.needs_approval(), entry.approval), (false, false));
        assert_eq!(entry.feature, None);
    }
}

/// With `INTERNLM_WRITE_DOCS=1` the page is written instead.
#[test]
fn the_page_is_made_from_the_list() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/src/tools.md");
    let entries = entries();
    if WHOLE && std::env::var_os("INTERNLM_WRITE_DOCS").is_some_and(|write| write == "1") {
        std::fs::write(&page, markdown(&entries)).unwrap();
    }
    let Ok(text) = std::fs::read_to_string(&page) else {
        assert!(
            std::env::var_os("CI").is_none_or(|ci| ci != "true"),
            "no {}",
            page.display()
        );
        println!("skipped: no docs/src/tools.md outside of the repository");
        return;
    };
    let text = text.replace("\r\n", "\n");
    if WHOLE {
        assert_eq!(
            text,
            markdown(&entries),
            "INTERNLM_WRITE_DOCS=1 writes the page anew"
        );
        return;
    }
    for entry in &entries {
        let section = section(entry);
        assert!(
            text.contains(&section),
            "not in the page, or not so:\n{section}"
        );
    }
}
