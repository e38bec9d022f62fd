//! Which of the built-in tasks are a group.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use super::{config_of, expanded, specs};
use crate::error::{Error, Result};
use crate::item::Row;
use crate::task::spec::{Rules, TaskSpec};

/// The tasks of a group of OpenCompass's, by the name of a configuration (`agieval_gen_5c79b4`), each with its weight
/// if the group weighs them; in no order. Empty if there is no such group.
///
/// # Errors
/// A built-in file that is wrong.
pub fn summary_group(config: &str, group: &str) -> Result<Vec<(String, Option<f64>)>> {
    let mut members = Vec::new();
    for (_, spec) in specs()? {
        if config_of(spec) == Some(config) {
            members.extend(members_of_group(spec, group)?);
        }
    }
    Ok(members)
}

/// All tasks of a group by the rule set of one of its tasks: those of the same built-in rule set, for OpenCompass's of
/// the same configuration; of a user's file those of the file. Each with its weight if the group weighs them.
///
/// # Errors
/// A built-in file that is wrong.
pub(in crate::task) fn group_members(spec: &Arc<TaskSpec>, group: &str) -> Result<Members> {
    let built_in = specs()?.iter().any(|(_, other)| Arc::ptr_eq(spec, other));
    if !built_in {
        return members_of_group(spec, group);
    }
    let config = config_of(spec).unwrap_or_default();
    let key = (spec.rules, config.to_owned(), group.to_owned());
    Ok(groups()?.get(&key).cloned().unwrap_or_default())
}

/// Tasks of a group, each with its weight if the group weighs them.
type Members = Vec<(String, Option<f64>)>;

/// The groups of the built-in tasks by rule set, OpenCompass's configuration (else empty) and name.
type Groups = BTreeMap<(Rules, String, String), Members>;

/// All groups of the built-in tasks, found once.
fn groups() -> Result<&'static Groups> {
    static GROUPS: OnceLock<Result<Groups>> = OnceLock::new();
    let groups = GROUPS.get_or_init(|| {
        let mut found = Groups::new();
        for (_, spec) in specs()? {
            let config = config_of(spec).unwrap_or_default();
            for (number, (_, task, groups)) in expanded(spec)?.into_iter().enumerate() {
                let weight = spec.subsets.get(number).and_then(weight_of);
                for group in groups {
                    let members = found.entry((spec.rules, config.to_owned(), group));
                    members.or_default().push((task.clone(), weight));
                }
            }
        }
        Ok(found)
    });
    groups.as_ref().map_err(Error::clone)
}

/// The tasks of a file that are part of a group.
fn members_of_group(spec: &TaskSpec, group: &str) -> Result<Members> {
    let mut members = Vec::new();
    for (number, (_, name, groups)) in expanded(spec)?.into_iter().enumerate() {
        if groups.iter().any(|of| of == group) {
            members.push((name, spec.subsets.get(number).and_then(weight_of)));
        }
    }
    Ok(members)
}

/// The weight of a subset in the groups of OpenCompass's.
pub(in crate::task) fn weight_of(subset: &Row) -> Option<f64> {
    subset.get("weight").and_then(serde_json::Value::as_f64)
}
