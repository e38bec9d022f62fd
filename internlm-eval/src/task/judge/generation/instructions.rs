//! Instructions of IFEval.

use serde_json::{Map, Value as Json, json};

use crate::error::{Error, Result};
use crate::ifeval::{self, Instruction};
use crate::item::Item;
use crate::task::metric::MetricKind;

/// Whether all instructions of the row are followed, or which are.
pub(super) fn judge(item: &Item, kind: MetricKind, answer: &str) -> Result<Json> {
    let followed = ifeval::check(&instructions(item)?, answer)?;
    let all = |followed: &[bool]| {
        json!(if followed.iter().all(|followed| *followed) {
            1.0
        } else {
            0.0
        })
    };
    Ok(match kind {
        MetricKind::PromptLevelStrictAcc => all(&followed.strict),
        MetricKind::PromptLevelLooseAcc => all(&followed.loose),
        MetricKind::InstLevelStrictAcc => json!(followed.strict),
        _ => json!(followed.loose),
    })
}

fn instructions(item: &Item) -> Result<Vec<Instruction>> {
    let list = |column: &str| item.row.get(column).and_then(Json::as_array);
    let (Some(ids), Some(arguments)) = (list("instruction_id_list"), list("kwargs")) else {
        return Err(unfit(
            "",
            "the row has no lists `instruction_id_list` and `kwargs`",
        ));
    };
    if ids.len() != arguments.len() {
        return Err(unfit("", "there are not as many `kwargs` as instructions"));
    }
    ids.iter()
        .zip(arguments)
        .map(|(id, arguments)| {
            let id = id.as_str().unwrap_or_default();
            let arguments = arguments
                .as_object()
                .ok_or_else(|| unfit(id, "its arguments are no object"))?;
            // The hub's copy has every argument of every instruction in each row, most of them null; the peer leaves
            // out what Python takes for false.
            let given: Map<String, Json> = arguments
                .iter()
                .filter(|(_, value)| !is_false(value))
                .map(|(name, value)| (name.clone(), value.clone()))
                .collect();
            Instruction::parse(id, &given)
        })
        .collect()
}

fn is_false(value: &Json) -> bool {
    match value {
        Json::Null | Json::Bool(false) => true,
        Json::Number(number) => number.as_f64() == Some(0.0),
        Json::String(text) => text.is_empty(),
        Json::Array(members) => members.is_empty(),
        Json::Object(members) => members.is_empty(),
        Json::Bool(true) => false,
    }
}

fn unfit(id: &str, reason: &str) -> Error {
    Error::Instruction {
        id: id.to_owned(),
        reason: reason.to_owned(),
    }
}
