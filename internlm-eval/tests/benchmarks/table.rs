//! The table of benchmarks in the README, made by reading, rendering and judging items of each.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use internlm_eval::task::builtin;
use internlm_eval::task::spec::Rules;
use internlm_eval::{Benchmark, Error, Request, Sample, Task, TaskOptions, TaskSpec};

use crate::common::{fixtures, shared};
use crate::lm_eval::Passes;
use crate::opencompass::response;
use crate::{hub, made_up};

/// Items of each task that are rendered and judged.
const ITEMS: usize = 20;

/// Where the hub has no copy with columns that the authors' files do not have.
const NO_HUB: [&str; 5] = [
    "GaokaoBench_gen_5cfe9e_cloze",
    "GaokaoBench_gen_5cfe9e_correction",
    "GaokaoBench_gen_5cfe9e_subjective",
    "needle",
    "teval_instruct",
];

/// Where the requests of the two layouts differ, and why.
const DIFFERENT: [(&str, &str); 6] = [
    (
        "social_iqa",
        "llm-foundry's copy has two of the three answers",
    ),
    (
        "siqa_ppl_ced5f6",
        "llm-foundry's copy has two of the three answers",
    ),
    (
        "commonsense_qa",
        "llm-foundry's copy has four of the five options",
    ),
    (
        "commonsenseqa_ppl_0shot",
        "llm-foundry's copy has four of the five options",
    ),
    (
        "commonsenseqa_ppl_c49e77",
        "the examples that are made up are others",
    ),
    (
        "winograd_ppl_b6c7ed",
        "llm-foundry's copy has a gap in place of the pronoun",
    ),
];

/// What was found of one built-in file.
struct Found {
    /// Tasks with data.
    tasks: Vec<Task>,
    /// Items that were rendered and judged.
    judged: usize,
    /// The requests of all of them.
    requests: Vec<Vec<Request>>,
    /// Names of the figures.
    metrics: Vec<String>,
}

/// Renders and judges items of all subsets that a folder has data of; None if it has of none.
fn check(name: &str, spec: &Arc<TaskSpec>, folder: &Path) -> Option<Found> {
    let options = TaskOptions {
        limit: Some(ITEMS),
        ..TaskOptions::default()
    };
    let loaded = match builtin::load_spec(spec, folder, &options) {
        Err(Error::NoData { .. }) => return None,
        loaded => loaded.unwrap_or_else(|error| panic!("{name}: {error}")),
    };
    let mut found = Found {
        tasks: Vec::new(),
        judged: 0,
        requests: Vec::new(),
        metrics: Vec::new(),
    };
    for task in loaded.tasks {
        let what = format!("{name}, {}", task.name());
        let items = task
            .items(None)
            .unwrap_or_else(|error| panic!("{what}: {error}"));
        assert!(items.len() >= ITEMS, "{what}: {} items", items.len());
        let mut samples: Vec<Sample> = Vec::new();
        for item in items {
            assert!(!item.requests.is_empty(), "{what}");
            let responses: Vec<_> = item
                .requests
                .iter()
                .enumerate()
                .map(|(at, request)| response(request, at, "The answer is (A) 1"))
                .collect();
            let judged = task.judge(&item, &responses, Some(&Passes));
            samples.push(
                judged.unwrap_or_else(|error| panic!("{what}, item {}: {error}", item.index)),
            );
            found.requests.push(item.requests);
        }
        for score in task.scores(&samples) {
            assert!(score.value.is_finite(), "{what}: {score:?}");
            // The cells of a grid are figures of one benchmark.
            if !score.metric.contains('[') && !found.metrics.contains(&score.metric) {
                found.metrics.push(score.metric);
            }
        }
        assert!(!found.metrics.is_empty(), "{what}");
        found.judged += samples.len();
        found.tasks.push(task);
    }
    Some(found)
}

/// All items of a built-in file in a folder.
fn items(spec: &Arc<TaskSpec>, folder: &Path) -> usize {
    let loaded = builtin::load_spec(spec, folder, &TaskOptions::default()).unwrap();
    loaded.tasks.iter().map(Task::len).sum()
}

fn row(rules: Rules, name: &str, folders: &Folders) -> String {
    let spec = builtin::spec(rules, name).unwrap();
    let at_hand = check(name, &spec, &folders.shared);
    let local = match at_hand {
        Some(found) => (found, items(&spec, &folders.shared).to_string()),
        None => {
            let made_up = [&folders.made_up, &folders.fixtures];
            let found = made_up
                .iter()
                .find_map(|folder| check(name, &spec, folder))
                .unwrap_or_else(|| panic!("{name}: no data"));
            (found, "made up".to_owned())
        }
    };
    let (local, at_hand) = local;
    let hub = check(name, &spec, &folders.hub);
    assert_eq!(
        hub.is_none(),
        NO_HUB.contains(&name),
        "{name}: the hub's layout"
    );
    if let Some(hub) = &hub {
        assert_eq!(local.judged, hub.judged, "{name}");
        let differ = local
            .requests
            .iter()
            .zip(&hub.requests)
            .find(|(local, hub)| local != hub);
        let different = DIFFERENT.iter().any(|(known, _)| *known == name);
        assert_eq!(differ.is_some(), different, "{name}: {differ:#?}");
    }
    let tasks = match spec.subsets.len() {
        0 => "1".to_owned(),
        all => format!("{} of {all}", local.tasks.len()),
    };
    let identity = local.tasks[0].identity();
    let hub = hub.map_or_else(|| "-".to_owned(), |hub| hub.judged.to_string());
    let metrics: Vec<String> = local
        .metrics
        .iter()
        .map(|metric| format!("`{metric}`"))
        .collect();
    format!(
        "| {} | `{name}` | {} | {} | {} | {tasks} | {at_hand} | {} | {hub} |\n",
        identity.rules,
        identity.mode,
        identity.shots,
        metrics.join(" "),
        local.judged,
    )
}

struct Folders {
    shared: PathBuf,
    fixtures: PathBuf,
    made_up: PathBuf,
    hub: PathBuf,
}

const BEGIN: &str =
    "<!-- The table of benchmarks is written by a test: tests/benchmarks/table.rs. -->\n";
const END: &str = "<!-- The end of the table. -->\n";

/// Reads, renders and judges items of every built-in file in both layouts, and compares what it found with the README.
/// With `INTERNLM_WRITE_DOCS=1` it writes the README anew.
#[test]
fn the_table_of_benchmarks_is_what_was_read_rendered_and_judged() {
    let Some(shared) = shared("datasets") else {
        return;
    };
    let made = tempfile::tempdir().unwrap();
    made_up::write(&shared, made.path());
    let copies = tempfile::tempdir().unwrap();
    hub::write(&shared, made.path(), copies.path());
    let folders = Folders {
        shared,
        fixtures: fixtures(""),
        made_up: made.path().to_owned(),
        hub: copies.path().to_owned(),
    };
    let mut table = String::from(
        "| rules | name | mode | shots | figures | tasks | items | judged, local | judged, hub |\n\
         | --- | --- | --- | ---: | --- | --- | ---: | ---: | ---: |\n",
    );
    for (rules, name) in builtin::names() {
        table.push_str(&row(rules, name, &folders));
    }
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
    let text = std::fs::read_to_string(&readme).unwrap();
    let (front, rest) = text.split_once(BEGIN).unwrap();
    let (written, back) = rest.split_once(END).unwrap();
    if std::env::var("INTERNLM_WRITE_DOCS").is_ok_and(|value| value == "1") {
        std::fs::write(&readme, format!("{front}{BEGIN}\n{table}\n{END}{back}")).unwrap();
        return;
    }
    assert_eq!(
        written.trim(),
        table.trim(),
        "INTERNLM_WRITE_DOCS=1 writes the table anew"
    );
}
