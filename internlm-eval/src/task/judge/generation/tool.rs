//! Tool calls in the two forms that T-Eval's `instruct` asks for: a JSON object, or lines `name:` and `args:`.

use serde_json::{Map, Value as Json};

use crate::task::metric::MetricKind;

/// A call: its tool and arguments.
#[derive(Clone, Debug, PartialEq)]
struct Call {
    name: String,
    arguments: Map<String, Json>,
}

/// The score of an answer against the wanted call, 0 to 1.
pub(super) fn score(kind: MetricKind, answer: &str, wanted: &Json) -> f64 {
    let Some(call) = parse(answer) else {
        return 0.0;
    };
    let Some(wanted) = of_json(wanted) else {
        return 0.0;
    };
    match kind {
        MetricKind::ToolFormat => 1.0,
        MetricKind::ToolName => {
            if call.name == wanted.name {
                1.0
            } else {
                0.0
            }
        }
        // Arguments of another tool say nothing.
        _ if call.name != wanted.name => 0.0,
        _ => agreement(&call.arguments, &wanted.arguments),
    }
}

fn parse(answer: &str) -> Option<Call> {
    object(answer)
        .and_then(|value| of_json(&value))
        .or_else(|| of_lines(answer))
}

/// The first object of a text that is JSON.
fn object(text: &str) -> Option<Json> {
    text.char_indices()
        .filter(|(_, character)| *character == '{')
        .find_map(|(at, _)| {
            serde_json::Deserializer::from_str(&text[at..])
                .into_iter::<Json>()
                .next()?
                .ok()
                .filter(Json::is_object)
        })
}

/// A call has a name under one of the names that are in use, and an object of arguments, which may be written as text.
fn of_json(value: &Json) -> Option<Call> {
    let value = match value {
        Json::Array(calls) => calls.first()?,
        value => value,
    };
    let name = ["name", "action", "api_name", "tool"]
        .iter()
        .find_map(|key| value.get(key)?.as_str())?;
    let arguments = ["args", "arguments", "parameters", "action_input"]
        .iter()
        .find_map(|key| value.get(key));
    let arguments = match arguments {
        None | Some(Json::Null) => Map::new(),
        Some(Json::Object(arguments)) => arguments.clone(),
        Some(Json::String(text)) => serde_json::from_str(text).ok()?,
        Some(_) => return None,
    };
    Some(Call {
        name: name.trim().to_owned(),
        arguments,
    })
}

fn of_lines(text: &str) -> Option<Call> {
    let after = |keys: &[&str]| {
        text.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            keys.iter()
                .any(|wanted| key.trim().eq_ignore_ascii_case(wanted))
                .then(|| value.trim())
        })
    };
    let name = after(&["name", "action", "api name"])?.to_owned();
    let arguments = match after(&["args", "arguments", "action input"]) {
        None | Some("") => Map::new(),
        Some(arguments) => serde_json::from_str(arguments).ok()?,
    };
    Some(Call { name, arguments })
}

/// The F1 of the pairs of names and values; two empty sets agree.
fn agreement(said: &Map<String, Json>, wanted: &Map<String, Json>) -> f64 {
    if said.is_empty() && wanted.is_empty() {
        return 1.0;
    }
    let equal = |a: &Json, b: &Json| match (a, b) {
        (Json::Number(a), Json::Number(b)) => a.as_f64() == b.as_f64(),
        (Json::String(text), Json::Number(number)) | (Json::Number(number), Json::String(text)) => {
            *text == number.to_string()
        }
        (Json::String(a), Json::String(b)) => a.trim() == b.trim(),
        (a, b) => a == b,
    };
    let right = said
        .iter()
        .filter(|(name, value)| wanted.get(*name).is_some_and(|other| equal(value, other)))
        .count();
    2.0 * right as f64 / (said.len() + wanted.len()) as f64
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn check(answer: &str, want: [f64; 3]) {
        let wanted = json!({"action": "Search.place", "args": {"place": "Berlin", "count": 3}});
        let kinds = [
            MetricKind::ToolFormat,
            MetricKind::ToolName,
            MetricKind::ToolArguments,
        ];
        assert_eq!(
            kinds.map(|kind| score(kind, answer, &wanted)),
            want,
            "{answer}"
        );
    }

    #[test]
    fn forms_of_calls() {
        let json =
            "{\"name\": \"Search.place\", \"args\": {\"place\": \"Berlin\", \"count\": 3.0}}";
        check(json, [1.0, 1.0, 1.0]);
        check(
            &format!("Sure: {{x}} ```json\n{json}\n```"),
            [1.0, 1.0, 1.0],
        );
        check(
            "goal: find\n\nname: Search.place\n\nargs: {\"place\": \"Berlin\"}",
            [1.0, 1.0, 2.0 / 3.0],
        );
        check(
            "name: Other\nargs: {\"place\": \"Berlin\", \"count\": 3}",
            [1.0, 0.0, 0.0],
        );
        check("name: Search.place\nargs: {broken", [0.0, 0.0, 0.0]);
        check("Berlin", [0.0, 0.0, 0.0]);
    }
}
