//! The task files say what upstream's configurations say: their hashes are those in upstream's file names.

use internlm_eval::opencompass::{joined_hash, prompt_hash};
use internlm_eval::task::builtin;

use crate::task_files::task_files;

/// Configurations that are several files here, with upstream's order of their data sets: files in the order in which
/// their subsets follow each other.
const SPLIT: [(&str, &[&str]); 5] = [
    (
        "bbh_gen_ee62e9",
        &["bbh_gen_ee62e9", "bbh_gen_ee62e9_freeform"],
    ),
    (
        "obqa_ppl_c7c154",
        &["obqa_ppl_c7c154", "obqa_ppl_c7c154_fact"],
    ),
    (
        "agieval_gen_5c79b4",
        &[
            "agieval_gen_5c79b4",
            "agieval_gen_5c79b4_multi",
            "agieval_gen_5c79b4_cloze",
        ],
    ),
    ("agieval_mixed_0fa998", &[]),
    ("GaokaoBench_gen_5cfe9e", &[]),
];

/// AGIEval's data sets in upstream's order.
const AGIEVAL: [&str; 21] = [
    "gaokao-chinese",
    "gaokao-english",
    "gaokao-geography",
    "gaokao-history",
    "gaokao-biology",
    "gaokao-chemistry",
    "gaokao-mathqa",
    "logiqa-zh",
    "lsat-ar",
    "lsat-lr",
    "lsat-rc",
    "logiqa-en",
    "sat-math",
    "sat-en",
    "sat-en-without-passage",
    "aqua-rat",
    "gaokao-physics",
    "jec-qa-kd",
    "jec-qa-ca",
    "gaokao-mathcloze",
    "math",
];

/// GAOKAO-Bench's data sets in upstream's order.
const GAOKAO: [&str; 32] = [
    "2010-2022_Math_II_MCQs",
    "2010-2022_Math_I_MCQs",
    "2010-2022_History_MCQs",
    "2010-2022_Biology_MCQs",
    "2010-2022_Political_Science_MCQs",
    "2010-2022_Physics_MCQs",
    "2010-2022_Chemistry_MCQs",
    "2010-2013_English_MCQs",
    "2010-2022_Chinese_Modern_Lit",
    "2010-2022_English_Fill_in_Blanks",
    "2012-2022_English_Cloze_Test",
    "2010-2022_Geography_MCQs",
    "2010-2022_English_Reading_Comp",
    "2010-2022_Chinese_Lang_and_Usage_MCQs",
    "2010-2022_Math_I_Fill-in-the-Blank",
    "2010-2022_Math_II_Fill-in-the-Blank",
    "2010-2022_Chinese_Language_Famous_Passages_and_Sentences_Dictation",
    "2014-2022_English_Language_Cloze_Passage",
    "2010-2022_Geography_Open-ended_Questions",
    "2010-2022_Chemistry_Open-ended_Questions",
    "2010-2022_Math_I_Open-ended_Questions",
    "2010-2022_History_Open-ended_Questions",
    "2010-2022_Biology_Open-ended_Questions",
    "2010-2022_Math_II_Open-ended_Questions",
    "2010-2022_Physics_Open-ended_Questions",
    "2010-2022_Political_Science_Open-ended_Questions",
    "2012-2022_English_Language_Error_Correction",
    "2010-2022_Chinese_Language_Ancient_Poetry_Reading",
    "2010-2022_Chinese_Language_Practical_Text_Reading",
    "2010-2022_Chinese_Language_Literary_Text_Reading",
    "2010-2022_Chinese_Language_Classical_Chinese_Reading",
    "2010-2022_Chinese_Language_Language_and_Writing_Skills_Open-ended_Questions",
];

#[test]
fn groups_have_upstreams_members() {
    let group = |config: &str, name: &str| builtin::summary_group(config, name).unwrap();
    for (config, name, members) in [
        ("cmmlu_ppl_8b9c76", "cmmlu", 67),
        ("cmmlu_ppl_8b9c76", "cmmlu-humanities", 13),
        ("cmmlu_ppl_8b9c76", "cmmlu-stem", 17),
        ("cmmlu_ppl_8b9c76", "cmmlu-social-science", 22),
        ("cmmlu_ppl_8b9c76", "cmmlu-other", 15),
        ("cmmlu_ppl_8b9c76", "cmmlu-china-specific", 15),
        ("ceval_ppl_578f8d", "ceval", 52),
        ("ceval_ppl_578f8d", "ceval-stem", 20),
        ("ceval_ppl_578f8d", "ceval-social-science", 10),
        ("ceval_ppl_578f8d", "ceval-humanities", 11),
        ("ceval_ppl_578f8d", "ceval-other", 11),
        ("ceval_ppl_578f8d", "ceval-hard", 8),
        ("mmlu_ppl_ac766d", "mmlu", 57),
        ("mmlu_ppl_ac766d", "mmlu-stem", 19),
        ("bbh_gen_ee62e9", "bbh", 27),
        ("agieval_gen_5c79b4", "agieval", 21),
        ("agieval_gen_5c79b4", "agieval-chinese", 12),
        ("agieval_gen_5c79b4", "agieval-english", 9),
        ("agieval_gen_5c79b4", "agieval-gaokao", 9),
        ("agieval_mixed_0fa998", "agieval", 21),
        ("agieval_mixed_0fa998", "agieval-gaokao", 9),
        ("GaokaoBench_gen_5cfe9e", "GaokaoBench", 14),
        ("hellaswag_ppl_47bff9", "none", 0),
    ] {
        assert_eq!(group(config, name).len(), members, "{name}");
    }
    let gaokao = group("GaokaoBench_gen_5cfe9e", "GaokaoBench");
    let history = (
        "GaokaoBench_2010-2022_History_MCQs".to_owned(),
        Some(1148.0),
    );
    assert!(gaokao.contains(&history), "{gaokao:?}");
}

#[test]
fn hashes_are_those_of_upstream_files() {
    let files = task_files();
    let hashes = |names: &[&str]| -> Vec<(String, String)> {
        let specs = names.iter().flat_map(|name| {
            let (_, file) = files.iter().find(|(file, _)| file == name).unwrap();
            file.specs()
        });
        specs.map(|(id, spec)| (id, prompt_hash(&spec))).collect()
    };
    let mut checked = 0;
    for (name, file) in &files {
        let config = &file.opencompass.config;
        if config.is_empty() {
            continue;
        }
        file.opencompass
            .check()
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(
            name.starts_with(config.as_str()),
            "{name} has the configuration {config}"
        );
        if SPLIT.iter().any(|(split, _)| split == config) {
            continue;
        }
        let hashes: Vec<_> = hashes(&[name]).into_iter().map(|(_, hash)| hash).collect();
        let hash = joined_hash(&hashes);
        assert!(config.ends_with(&hash[..6]), "{config} has the hash {hash}");
        checked += 1;
    }
    assert!(checked >= 30, "only {checked} configurations");

    for (config, names) in SPLIT {
        let names: Vec<&str> = if names.is_empty() {
            let files = files.iter().map(|(file, _)| file.as_str());
            files.filter(|file| file.starts_with(config)).collect()
        } else {
            names.to_vec()
        };
        let mut hashes = hashes(&names);
        let order = match config {
            "GaokaoBench_gen_5cfe9e" => &GAOKAO[..],
            "agieval_mixed_0fa998" => &AGIEVAL,
            _ => &[],
        };
        hashes.sort_by_key(|(id, _)| order.iter().position(|name| name == id));
        let hashes: Vec<_> = hashes.into_iter().map(|(_, hash)| hash).collect();
        let hash = joined_hash(&hashes);
        assert!(config.ends_with(&hash[..6]), "{config} has the hash {hash}");
    }
}
