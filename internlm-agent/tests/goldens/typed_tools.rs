//! The tools of the goldens as tools with types, which check what they are given.

use internlm_agent::tool;
use internlm_agent::tool::{ToolError, ToolOutput, ToolSet};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;

/// Makes text bold.
#[derive(Deserialize, JsonSchema)]
struct Bold {
    text: String,
}

/// Weather of a place.
#[derive(Deserialize, JsonSchema)]
struct Weather {
    location: String,
    #[serde(rename = "unit")]
    _unit: Option<String>,
}

/// Two numbers.
#[derive(Deserialize, JsonSchema)]
struct Numbers {
    a: f64,
    #[serde(default = "one")]
    b: f64,
}

fn one() -> f64 {
    1.0
}

/// Two numbers, both needed.
#[derive(Deserialize, JsonSchema)]
struct Division {
    a: f64,
    b: f64,
}

/// Runs a program.
#[derive(Deserialize, JsonSchema)]
struct Shell {
    code: String,
}

/// The tools of the goldens with types.
pub(crate) fn tools() -> ToolSet {
    let weather = |w: Weather| match w.location.as_str() {
        "Atlantis" => Err(ToolError::from("no such place: Atlantis")),
        _ => {
            let value = json!({"temperature": 22, "sky": "晴"});
            Ok(ToolOutput::from(value))
        }
    };
    let divide = |n: Division| match n.b {
        0.0 => Err(ToolError::from("float division by zero")),
        b => Ok((n.a / b).to_string()),
    };
    let shell = |s: Shell| match s.code.contains("boom") {
        true => Err(ToolError::from("name 'boom' is not defined")),
        false => Ok(format!("OUT[{}]", s.code)),
    };
    ToolSet::new()
        .with(tool("Bold", |b: Bold| Ok(format!("**{}**", b.text))))
        .and_then(|set| set.with(tool("GetWeather", weather)))
        .and_then(|set| {
            set.with(tool("Calculator.add", |n: Numbers| {
                Ok((n.a + n.b).to_string())
            }))
        })
        .and_then(|set| set.with(tool("Calculator.div", divide)))
        .and_then(|set| set.with(tool("FakeShell", shell)))
        .unwrap()
}
