//! The tasks that come with the crate, and how a name finds them.

mod groups;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, OnceLock};

pub use groups::summary_group;
pub(super) use groups::{group_members, weight_of};

use super::Task;
use super::options::TaskOptions;
use super::spec::{GroupSpec, Rules, TaskSpec};
use crate::error::{Error, Result};
use crate::item::Row;
use crate::template::Templates;

/// A table of task files: name of the file without its end, and its text.
macro_rules! table {
    ($folder:literal: $($name:literal)*) => {
        &[$((
            $name,
            include_str!(concat!("../../tasks/", $folder, "/", $name, ".toml")),
        )),*]
    };
}

/// Task files by the rules of lm-evaluation-harness.
const LM_EVAL: &[(&str, &str)] = table!["lm-eval":
    "agieval"
    "agieval_cloze"
    "arc_challenge"
    "arc_easy"
    "bbh"
    "boolq"
    "ceval-valid"
    "cmmlu"
    "commonsense_qa"
    "copa"
    "gsm8k"
    "hellaswag"
    "humaneval"
    "ifeval"
    "lambada_openai"
    "mbpp"
    "minerva_math"
    "mmlu"
    "openbookqa"
    "piqa"
    "social_iqa"
    "triviaqa"
    "truthfulqa_mc1"
    "truthfulqa_mc2"
    "wikitext"
    "winogrande"
    "wsc273"
];

/// Task files by the rules of this crate.
const INTERNLM: &[(&str, &str)] = table!["internlm":
    "needle"
    "preference"
    "preference_reward"
    "svamp"
    "teval_instruct"
];

/// Task files by the rules of OpenCompass. The first of those with the same name in outputs is upstream's default.
const OPENCOMPASS: &[(&str, &str)] = table!["opencompass":
    "ARC_c_gen_1e0de5"
    "ARC_c_ppl_a450bd"
    "ARC_e_gen_1e0de5"
    "ARC_e_ppl_a450bd"
    "CLUE_C3_ppl_e24a31"
    "CLUE_ocnli_ppl_fdc6de"
    "GaokaoBench_gen_5cfe9e_cloze"
    "GaokaoBench_gen_5cfe9e_correction"
    "GaokaoBench_gen_5cfe9e_five_out_of_seven"
    "GaokaoBench_gen_5cfe9e_multi_choice"
    "GaokaoBench_gen_5cfe9e_multi_question_choice"
    "GaokaoBench_gen_5cfe9e_single_choice"
    "GaokaoBench_gen_5cfe9e_subjective"
    "IFEval_gen_353ae7"
    "SuperGLUE_BoolQ_ppl_314b96"
    "SuperGLUE_COPA_ppl_9f3618"
    "agieval_gen_5c79b4"
    "agieval_gen_5c79b4_cloze"
    "agieval_gen_5c79b4_multi"
    "agieval_mixed_0fa998"
    "agieval_mixed_0fa998_cloze"
    "agieval_mixed_0fa998_five"
    "agieval_mixed_0fa998_multi"
    "bbh_gen_ee62e9"
    "bbh_gen_ee62e9_freeform"
    "ceval_gen_5f30c7"
    "ceval_ppl_578f8d"
    "cmmlu_0shot_cot_gen_305931"
    "cmmlu_ppl_041cbf"
    "cmmlu_ppl_8b9c76"
    "commonsenseqa_ppl_0shot"
    "commonsenseqa_ppl_c49e77"
    "gsm8k_gen_1d7fe4"
    "hellaswag_gen_6faab5"
    "hellaswag_ppl_47bff9"
    "hellaswag_ppl_9dbb12"
    "humaneval_openai_sample_evals_gen_dcae0e"
    "lambada_gen_217e11"
    "math_gen_a58d9d"
    "mbpp_gen_830460"
    "mmlu_openai_simple_evals_gen_b618ea"
    "mmlu_ppl_ac766d"
    "obqa_ppl_c7c154"
    "obqa_ppl_c7c154_fact"
    "piqa_ppl_1cf9f0"
    "siqa_ppl_ced5f6"
    "svamp_gen_fb25e4"
    "triviaqa_gen_2121ce"
    "truthfulqa_gen_5ddc62"
    "winograd_ppl_b6c7ed"
    "winogrande_ll_c5cf57"
];

/// Sets of examples: rows with the name of their set in `set`.
const EXAMPLES: &[(&str, &str)] = &[("bbh", include_str!("../../tasks/examples/bbh.jsonl"))];

/// A task file that comes with the crate.
#[derive(Clone, Copy, Debug)]
struct Entry {
    rules: Rules,
    name: &'static str,
    text: &'static str,
}

fn entries() -> impl Iterator<Item = Entry> {
    let of = |rules: Rules, table: &'static [(&str, &str)]| {
        table
            .iter()
            .map(move |(name, text)| Entry { rules, name, text })
    };
    of(Rules::LmEval, LM_EVAL)
        .chain(of(Rules::Internlm, INTERNLM))
        .chain(of(Rules::Opencompass, OPENCOMPASS))
}

/// A built-in file and what it says.
type Parsed = (Entry, Arc<TaskSpec>);

/// All built-in task files, parsed once.
fn specs() -> Result<&'static [Parsed]> {
    static SPECS: OnceLock<Result<Vec<Parsed>>> = OnceLock::new();
    let parsed = SPECS.get_or_init(|| {
        entries()
            .map(|entry| {
                let file = format!("{}/{}.toml", entry.rules.as_str(), entry.name);
                TaskSpec::from_toml(entry.text, Path::new(&file)).map(|spec| (entry, spec))
            })
            .collect()
    });
    parsed.as_deref().map_err(Error::clone)
}

/// The names of the built-in task files, with their rules.
pub fn names() -> Vec<(Rules, &'static str)> {
    entries().map(|entry| (entry.rules, entry.name)).collect()
}

/// The built-in task file of a name.
///
/// # Errors
/// There is none of this name.
pub fn spec(rules: Rules, name: &str) -> Result<Arc<TaskSpec>> {
    specs()?
        .iter()
        .find(|(entry, _)| entry.rules == rules && entry.name == name)
        .map(|(_, spec)| Arc::clone(spec))
        .ok_or_else(|| unknown(name, Vec::new()))
}

/// What a name stands for, with its data.
#[derive(Debug, Default)]
pub struct Loaded {
    /// The tasks.
    pub tasks: Vec<Task>,
    /// Subsets whose data is not there; the others are evaluated without them.
    pub missing: Vec<Error>,
    /// The groups that the tasks are part of.
    pub groups: Vec<GroupSpec>,
}

/// Loads what a name stands for: a task file with all its subsets (`cmmlu`), a single subset (`cmmlu_agronomy`), or a
/// group (`mmlu_stem`). Without `rules` those of lm-evaluation-harness come first.
///
/// # Errors
/// An unknown name; a task that cannot be loaded; data of none of the subsets.
pub fn load(
    name: &str,
    rules: Option<Rules>,
    folder: &Path,
    options: &TaskOptions,
) -> Result<Loaded> {
    let order = match rules {
        Some(rules) => vec![rules],
        None => vec![Rules::LmEval, Rules::Internlm, Rules::Opencompass],
    };
    let mut near = Vec::new();
    for rules in order {
        let of_rules = || -> Result<Vec<&Parsed>> {
            let mut parsed: Vec<&Parsed> = specs()?
                .iter()
                .filter(|(entry, _)| entry.rules == rules)
                .collect();
            // Several of OpenCompass's configurations share a data set's name: it finds the one that scores.
            if rules == Rules::Opencompass {
                parsed.sort_by_key(|(_, spec)| spec.mode.generates());
            }
            Ok(parsed)
        };
        let mut members: Vec<(Arc<TaskSpec>, Option<String>)> = Vec::new();
        // A configuration's name stands for all files that it is split into.
        for (_, spec) in of_rules()? {
            if config_of(spec).is_some_and(|config| config == name) {
                members.extend(members_of(spec)?);
            }
        }
        if !members.is_empty() {
            return load_members(&members, folder, options);
        }
        for (_, spec) in of_rules()? {
            for (subset, task, groups) in expanded(spec)? {
                if task == name {
                    return Ok(Loaded {
                        tasks: vec![Task::new(spec, subset.as_deref(), folder, options)?],
                        missing: Vec::new(),
                        groups: spec.group_specs.clone(),
                    });
                }
                // Of OpenCompass's groups only the members in one configuration.
                let same = members
                    .first()
                    .is_none_or(|(first, _)| config_of(first) == config_of(spec));
                if same && groups.iter().any(|group| group == name) {
                    members.push((Arc::clone(spec), subset));
                }
                if task.contains(name) || name.contains(&task) {
                    near.push(task);
                }
            }
        }
        // A group first: it may have members in other files than the one of its name.
        if !members.is_empty() {
            return load_members(&members, folder, options);
        }
        for (entry, spec) in of_rules()? {
            if entry.name == name {
                return load_spec(spec, folder, options);
            }
        }
    }
    near.sort_unstable();
    near.dedup();
    near.truncate(5);
    Err(unknown(name, near))
}

/// Loads a task file of the user with all its subsets.
///
/// # Errors
/// As [`load`].
pub fn load_file(file: &Path, folder: &Path, options: &TaskOptions) -> Result<Loaded> {
    load_spec(&TaskSpec::read(file)?, folder, options)
}

/// Loads a task with all its subsets.
///
/// # Errors
/// As [`load`].
pub fn load_spec(spec: &Arc<TaskSpec>, folder: &Path, options: &TaskOptions) -> Result<Loaded> {
    load_members(&members_of(spec)?, folder, options)
}

/// All subsets of a task file.
fn members_of(spec: &Arc<TaskSpec>) -> Result<Vec<(Arc<TaskSpec>, Option<String>)>> {
    let expanded = expanded(spec)?.into_iter();
    Ok(expanded
        .map(|(subset, _, _)| (Arc::clone(spec), subset))
        .collect())
}

/// The configuration of OpenCompass that a task file is made of.
fn config_of(spec: &TaskSpec) -> Option<&str> {
    spec.opencompass.as_ref().map(|rules| rules.config.as_str())
}

fn load_members(
    members: &[(Arc<TaskSpec>, Option<String>)],
    folder: &Path,
    options: &TaskOptions,
) -> Result<Loaded> {
    let mut loaded = Loaded::default();
    for (spec, subset) in members {
        match Task::new(spec, subset.as_deref(), folder, options) {
            Ok(task) => loaded.tasks.push(task),
            Err(error @ Error::NoData { .. }) => loaded.missing.push(error),
            Err(error) => return Err(error),
        }
        for group in &spec.group_specs {
            if !loaded.groups.contains(group) {
                loaded.groups.push(group.clone());
            }
        }
    }
    match (loaded.tasks.is_empty(), loaded.missing.first()) {
        (true, Some(error)) => Err(error.clone()),
        _ => Ok(loaded),
    }
}

/// A task of a file: its subset, its name and its groups.
type Member = (Option<String>, String, Vec<String>);

/// The tasks of a file.
fn expanded(spec: &TaskSpec) -> Result<Vec<Member>> {
    let templates = Templates::new();
    let of = |subset: Option<&Row>| {
        let groups = spec
            .groups
            .iter()
            .map(|group| spec.rendered(group, "groups", subset, &templates))
            .filter(|group| group.as_ref().map_or(true, |group| !group.is_empty()))
            .collect::<Result<Vec<_>>>()?;
        let id = subset
            .and_then(|subset| subset.get("id"))
            .and_then(|id| id.as_str())
            .map(str::to_owned);
        Ok((id, spec.name_of(subset, &templates)?, groups))
    };
    if spec.subsets.is_empty() {
        return Ok(vec![of(None)?]);
    }
    spec.subsets.iter().map(|subset| of(Some(subset))).collect()
}

/// The examples of a set such as `bbh/navigate`.
pub(super) fn bundled_examples(name: &str) -> Option<Vec<Row>> {
    static SETS: OnceLock<BTreeMap<String, Vec<Row>>> = OnceLock::new();
    let sets = SETS.get_or_init(|| {
        let mut sets: BTreeMap<String, Vec<Row>> = BTreeMap::new();
        for (file, text) in EXAMPLES {
            for line in text.split('\n') {
                let Ok(mut row) = serde_json::from_str::<Row>(line) else {
                    continue;
                };
                let set = row.remove("set");
                if let Some(set) = set.as_ref().and_then(|set| set.as_str()) {
                    sets.entry(format!("{file}/{set}")).or_default().push(row);
                }
            }
        }
        sets
    });
    sets.get(name).cloned()
}

fn unknown(name: &str, near: Vec<String>) -> Error {
    Error::UnknownTask {
        name: name.to_owned(),
        near,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_built_in_file_is_read() {
        let specs = specs().unwrap_or_else(|error| panic!("{error}"));
        let mut names = BTreeSet::new();
        for (entry, spec) in specs {
            assert_eq!(entry.rules, spec.rules, "{}", entry.name);
            for (_, name, _) in expanded(spec).unwrap() {
                // Upstream's configurations of one data set share its name.
                let file = match entry.rules {
                    Rules::Opencompass => entry.name,
                    _ => "",
                };
                assert!(
                    names.insert((entry.rules.as_str(), file, name.clone())),
                    "{name} twice"
                );
            }
        }
    }

    #[test]
    fn the_tables_have_every_file() {
        for (folder, table) in [
            ("lm-eval", LM_EVAL),
            ("internlm", INTERNLM),
            ("opencompass", OPENCOMPASS),
        ] {
            let path = Path::new(env!("CARGO_MANIFEST_DIR"))
                .join("tasks")
                .join(folder);
            let mut files: Vec<String> = std::fs::read_dir(path)
                .unwrap()
                .map(|entry| {
                    entry
                        .unwrap()
                        .path()
                        .file_stem()
                        .unwrap()
                        .to_string_lossy()
                        .into()
                })
                .collect();
            files.sort();
            let listed: Vec<&str> = table.iter().map(|(name, _)| *name).collect();
            assert_eq!(files, listed);
        }
    }

    #[test]
    fn bundled_sets_have_three_examples() {
        for subset in &spec(Rules::LmEval, "bbh").unwrap().subsets {
            let id = subset["id"].as_str().unwrap();
            let rows = bundled_examples(&format!("bbh/{id}")).unwrap();
            assert_eq!(rows.len(), 3, "{id}");
        }
        assert!(bundled_examples("bbh/none").is_none());
    }
}
