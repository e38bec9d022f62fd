//! `ifeval.jsonl`: every instruction of every response.

use internlm_eval::ifeval::{Followed, Instruction, check, scores};
use serde_json::Value;

use crate::shared::{items, json_lines, text};

fn flags(value: &Value) -> Vec<bool> {
    items(value).iter().map(|flag| flag.as_bool().unwrap()).collect()
}

#[cfg(feature = "langdetect")]
#[test]
fn every_response_is_judged_as_by_lm_eval() {
    let Some(cases) = json_lines("ifeval.jsonl") else { return };
    let (mut wrong, mut all) = (Vec::new(), Vec::new());
    for case in &cases {
        let ids = items(&case["instruction_id_list"]).iter().map(text);
        let instructions: Vec<Instruction> = ids
            .zip(items(&case["kwargs"]))
            .map(|(id, arguments)| Instruction::parse(id, arguments.as_object().unwrap()).unwrap())
            .collect();
        let got = check(&instructions, text(&case["response"])).unwrap();
        let want = Followed { strict: flags(&case["strict"]), loose: flags(&case["loose"]) };
        if got != want {
            wrong.push(format!("{}: {} got {got:?}, want {want:?}", case["key"], case["instruction_id_list"]));
        }
        all.push(got);
    }
    assert!(wrong.is_empty(), "{} of {} differ:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
    let scores = scores(&all).unwrap();
    assert!(scores.prompt_level_strict_acc <= scores.prompt_level_loose_acc);
    assert!(scores.inst_level_strict_acc <= scores.inst_level_loose_acc);
}
