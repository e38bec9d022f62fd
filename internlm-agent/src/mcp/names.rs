//! Names that models may use for tools of servers.

use std::collections::BTreeSet;

/// Most characters of a name, as OpenAI's interface has it.
const MAX_NAME: usize = 64;

/// A name for each tool of each server: of `[a-zA-Z0-9_-]{1,64}`, no two the same, and whatever others there are, the
/// same again unless two tools compete for one.
pub(super) fn unique(tools: &[(String, String)], prefix: bool) -> Vec<String> {
    let wanted: Vec<String> = tools
        .iter()
        .map(|(server, tool)| match prefix {
            true => format!("{server}__{tool}"),
            false => tool.clone(),
        })
        .collect();
    // Who needs no change goes first, and so keeps its name.
    let mut order: Vec<usize> = (0..tools.len()).collect();
    order.sort_by_key(|&i| (allowed(&wanted[i]) != wanted[i], &tools[i]));
    let mut names = vec![String::new(); tools.len()];
    let mut taken = BTreeSet::new();
    for i in order {
        let plain = allowed(&wanted[i]);
        let (server, tool) = &tools[i];
        let mut name = match plain.len() <= MAX_NAME {
            true => plain.clone(),
            false => marked(&plain, server, tool, 0),
        };
        let mut round = 0;
        while !taken.insert(name.clone()) {
            name = marked(&plain, server, tool, round);
            round += 1;
        }
        names[i] = name;
    }
    names
}

/// The text with `_` for what names may not have.
fn allowed(text: &str) -> String {
    let text: String = text
        .chars()
        .map(|c| match c {
            'a'..='z' | 'A'..='Z' | '0'..='9' | '_' | '-' => c,
            _ => '_',
        })
        .collect();
    match text.is_empty() {
        true => "tool".to_owned(),
        false => text,
    }
}

/// The beginning of a name, and a mark of what it stood for.
fn marked(plain: &str, server: &str, tool: &str, round: u64) -> String {
    // FNV-1a: the mark must be the same in every run and version.
    let mut hash = 0xcbf2_9ce4_8422_2325_u64 ^ round;
    for byte in server.bytes().chain([0]).chain(tool.bytes()) {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    let mark = format!("_{:08x}", hash as u32 ^ (hash >> 32) as u32);
    let kept = plain.len().min(MAX_NAME - mark.len());
    format!("{}{mark}", &plain[..kept])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(tools: &[(&str, &str)], prefix: bool, want: &[&str]) {
        let tools: Vec<(String, String)> = tools
            .iter()
            .map(|(server, tool)| ((*server).to_owned(), (*tool).to_owned()))
            .collect();
        assert_eq!(unique(&tools, prefix), want);
    }

    #[test]
    fn names_are_mapped_and_told_apart() {
        check(&[("files", "read")], true, &["files__read"]);
        check(&[("my files", "read.text")], true, &["my_files__read_text"]);
        check(
            &[("a", "x"), ("b", "x"), ("b", "y")],
            false,
            &["x", "x_ed11935c", "y"],
        );
        // A name that needs no change is kept, whoever comes first.
        check(&[("s", "天"), ("s", "_")], true, &["s____cd57bcd2", "s___"]);
        check(&[("", "")], false, &["tool"]);
        let long = "n".repeat(70);
        let tools = [("s".to_owned(), long.clone()), ("s".to_owned(), long + "n")];
        let names = unique(&tools, true);
        assert!(names.iter().all(|name| name.len() == 64) && names[0] != names[1]);
    }

    #[test]
    fn any_names_become_allowed_ones() {
        let texts: Vec<String> = ["", "a", "_", ".", "天", "a_", "a__a", &"._".repeat(40)]
            .map(str::to_owned)
            .into();
        let pairs = texts.iter().flat_map(|server| {
            let tools = texts.iter();
            tools.map(|tool| (server.clone(), tool.clone()))
        });
        let tools: Vec<(String, String)> = pairs.collect();
        for prefix in [true, false] {
            let names = unique(&tools, prefix);
            let set: BTreeSet<&String> = names.iter().collect();
            assert_eq!(set.len(), tools.len());
            for name in &names {
                let fine = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
                assert!(
                    name.chars().all(fine) && (1..=64).contains(&name.len()),
                    "{name}"
                );
            }
        }
    }
}
