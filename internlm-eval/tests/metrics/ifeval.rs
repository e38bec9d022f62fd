//! `ifeval.jsonl`: every instruction of every response.

use internlm_eval::ifeval::{Followed, Instruction, check, scores};
use serde_json::Value;

use crate::goldens::{items, json_lines, text};

fn flags(value: &Value) -> Vec<bool> {
    items(value)
        .iter()
        .map(|flag| flag.as_bool().unwrap())
        .collect()
}

/// Where an argument does not fit, lm-eval draws one at random for every check: the frequency of the letter `#` is that
/// of any letter, and the golden holds what came of it that day (an item even has strict and loose of two letters).
fn is_random(arguments: &Value) -> bool {
    let letter = arguments.get("letter").map_or("a", text);
    !letter.bytes().all(|byte| byte.is_ascii_alphabetic())
}

#[test]
fn every_response_is_judged_as_by_lm_eval() {
    let Some(cases) = json_lines("ifeval.jsonl") else {
        return;
    };
    let (mut wrong, mut all, mut random) = (Vec::new(), Vec::new(), 0);
    for case in &cases {
        let ids = items(&case["instruction_id_list"]).iter().map(text);
        let instructions: Vec<Instruction> = ids
            .zip(items(&case["kwargs"]))
            .map(|(id, arguments)| Instruction::parse(id, arguments.as_object().unwrap()).unwrap())
            .collect();
        let got = check(&instructions, text(&case["response"])).unwrap();
        let mut want = Followed {
            strict: flags(&case["strict"]),
            loose: flags(&case["loose"]),
        };
        for (index, arguments) in items(&case["kwargs"]).iter().enumerate() {
            if is_random(arguments) {
                want.strict[index] = got.strict[index];
                want.loose[index] = got.loose[index];
                random += 1;
            }
        }
        if got != want {
            wrong.push(format!(
                "{}: {} got {got:?}, want {want:?}",
                case["key"], case["instruction_id_list"]
            ));
        }
        all.push(got);
    }
    assert!(
        wrong.is_empty(),
        "{} of {} differ:\n{}",
        wrong.len(),
        cases.len(),
        wrong.join("\n")
    );
    assert!(
        random <= cases.len() / 50,
        "{random} instructions are drawn at random"
    );
    let scores = scores(&all).unwrap();
    assert!(scores.prompt_level_strict_acc <= scores.prompt_level_loose_acc);
    assert!(scores.inst_level_strict_acc <= scores.inst_level_loose_acc);
}
