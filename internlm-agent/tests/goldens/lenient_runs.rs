//! Lagent's recorded runs once more with the lenient protocols, whole agents and tools with types: what Lagent's tools
//! did is done here too, what is malformed is told to the model, and no other tool is run instead.

use std::sync::Arc;

use internlm_agent::Agent;
use internlm_agent::agent::{Ending, Report};
use internlm_agent::protocol::Protocol;
use internlm_agent::protocol::internlm::InternLm;
use internlm_agent::protocol::react_json::ReActJson;
use internlm_agent::protocol::react_text::ReActText;
use internlm_agent::protocol::rewoo::ReWoo;
use internlm_core::chat_model::Input;
use internlm_core::scripted::ScriptedModel;
use internlm_core::{ChatRequest, Role};
use serde_json::{Value, json};

use crate::typed_tools::tools;
use crate::{each, raised};

fn texts(case: &Value) -> Vec<&str> {
    let script = case["script"].as_array().unwrap().iter();
    script.map(|reply| reply.as_str().unwrap()).collect()
}

/// Runs the script of a case, with as many turns as it has replies.
fn run(case: &Value, protocol: Protocol) -> (Report, Vec<ChatRequest>) {
    let script = texts(case);
    let turns = script.len();
    let model = Arc::new(ScriptedModel::new(script));
    let agent = Agent::shared(model.clone())
        .with_tools(tools())
        .with_protocol(protocol)
        .with_max_turns(turns);
    let report = agent.run("the task").unwrap();
    (report, model.requests())
}

/// What the model was told in a request since it spoke last.
fn told(request: &ChatRequest) -> String {
    let Input::Messages(messages) = &request.input else {
        panic!("messages");
    };
    let since = messages
        .iter()
        .rev()
        .take_while(|m| m.role != Role::Assistant);
    let mut since: Vec<String> = since.map(internlm_core::Message::text).collect();
    assert!(!since.is_empty());
    since.reverse();
    since.join("\n")
}

/// The calls that worked, as names and arguments.
fn worked(report: &Report) -> Vec<(String, Value)> {
    let calls = report.calls.iter().filter(|call| call.observed.is_ok());
    calls
        .map(|record| (record.call.name.clone(), record.call.arguments.clone()))
        .collect()
}

/// Calls that worked for Lagent worked here in the same order, and only tools ran that a reply names.
#[track_caller]
fn check(id: &str, case: &Value, report: &Report) {
    let calls = ["tool_calls", "plugin_calls", "interpreter_calls"]
        .into_iter()
        .filter_map(|key| case[key].as_array())
        .flatten();
    let theirs =
        calls.filter(|call| call["action_return"]["state"] == 0 && call["name"] != "FinishAction");
    let ours = worked(report);
    let mut rest = ours.iter();
    for call in theirs {
        let name = call["name"].as_str().unwrap();
        let arguments = &call["action_return"]["args"];
        let same = |(our_name, our_arguments): &&(String, Value)| {
            // Code comes without its fence.
            our_name == name && (name == "FakeShell" || crate::same(our_arguments, arguments))
        };
        let found = rest.find(same);
        assert!(
            found.is_some(),
            "{id}: {name} {arguments} is not in {ours:?}"
        );
    }
    let script = texts(case).join("\n");
    for record in &report.calls {
        let code = record.call.name == "FakeShell" && script.contains("<|interpreter|>");
        let named = script.contains(&record.call.name);
        assert!(
            named || code,
            "{id}: {} was not asked for",
            record.call.name
        );
    }
}

/// What becomes of a malformed case: the calls that worked, what the model was told before its second reply, the
/// answer and how it ended.
struct Better {
    id: &'static str,
    calls: Vec<(&'static str, Value)>,
    told: &'static str,
    answer: &'static str,
}

fn check_better(id: &str, table: &[Better], report: &Report, requests: &[ChatRequest]) {
    let Some(want) = table.iter().find(|row| row.id == id) else {
        return;
    };
    let calls = want
        .calls
        .iter()
        .map(|(name, value)| (name.to_string(), value.clone()));
    assert_eq!(worked(report), calls.collect::<Vec<_>>(), "{id}");
    if let Some(second) = requests.get(1) {
        let told = told(second);
        assert!(told.contains(want.told), "{id}: {told}");
    }
    assert_eq!(report.answer, want.answer, "{id}");
}

/// That every row was a case.
fn check_names(name: &str, table: &[Better]) {
    let mut left: Vec<&str> = table.iter().map(|row| row.id).collect();
    let Some(golden) = crate::golden(name) else {
        return;
    };
    let ids: Vec<&str> = golden["cases"]
        .as_array()
        .unwrap()
        .iter()
        .map(|c| c["id"].as_str().unwrap())
        .collect();
    left.retain(|id| !ids.contains(id));
    assert!(left.is_empty(), "{left:?}");
}

fn better(
    id: &'static str,
    calls: &[(&'static str, Value)],
    told: &'static str,
    answer: &'static str,
) -> Better {
    Better {
        id,
        calls: calls.to_vec(),
        told,
        answer,
    }
}

#[test]
fn internlm() {
    let shanghai = ("GetWeather", json!({"location": "Shanghai"}));
    let one = std::slice::from_ref(&shanghai);
    let broken = "Error: malformed tool call: not JSON";
    let v05 = [
        better("parsing_error_then_ok", one, broken, "22 degrees"),
        better(
            "parsing_error_then_ok_single_plugin",
            one,
            broken,
            "22 degrees",
        ),
        better(
            "arguments_key",
            &[("Bold", json!({"text": "1"}))],
            "**1**",
            "ok",
        ),
        better("plugin_list", one, "{\"temperature\": 22", "ok"),
        better(
            "unknown_plugin",
            &[],
            "Error: there is no tool `Nope`",
            "sorry",
        ),
        better("interpreter_error", &[], "Error: name 'boom'", "oops"),
    ];
    let v024 = [
        better("invalid_json_retry", one, broken, "22 degrees"),
        better("invalid_json_all", &[], broken, ""),
        better(
            "unknown_plugin",
            &[],
            "Error: there is no tool `Nope`",
            "sorry",
        ),
        better(
            "no_interpreter",
            &[],
            "Error: there is no code interpreter",
            "ok",
        ),
    ];
    for (name, table) in [
        ("internlm_v05_run.json", &v05[..]),
        ("internlm2_v024_run.json", &v024),
    ] {
        check_names(name, table);
        each(name, |id, case| {
            let mut protocol = InternLm::default();
            if case["interpreter"].is_string() {
                protocol = protocol.with_interpreter("FakeShell");
            }
            let (report, requests) = run(case, Protocol::InternLm(protocol));
            check(id, case, &report);
            if id == "invalid_json_all" {
                assert_eq!(report.ending, Ending::OutOfTurns);
                assert!(report.calls.is_empty());
            } else {
                check_better(id, table, &report, &requests);
            }
        });
    }
}

#[test]
fn react_text() {
    let table = [
        better(
            "bad_json_then_finish",
            &[],
            "Response:Error: the input is not a JSON object",
            "3",
        ),
        better(
            "unknown_tool_then_finish",
            &[],
            "Response:Error: there is no tool `Nope`",
            "3",
        ),
        better("tool_raises", &[], "Response:Error: no such place", "3"),
        better("unknown_argument", &[], "`txt` is unknown", "3"),
        better("missing_argument", &[], "`b` is missing", "3"),
        better(
            "toolkit_without_api",
            &[],
            "there is no tool `Calculator`",
            "3",
        ),
        better(
            "two_dots_in_name",
            &[],
            "there is no tool `Calculator.add.x`",
            "3",
        ),
        better("div_by_zero", &[], "Error: float division by zero", "3"),
    ];
    check_names("react_v024_run.json", &table);
    each("react_v024_run.json", |id, case| {
        let mut protocol = ReActText::default();
        if id == "custom_markers" {
            protocol.markers = internlm_agent::lagent::ReActMarkers {
                thought: "想法:".to_owned(),
                action: "动作:".to_owned(),
                action_input: "输入:".to_owned(),
                response: "结果:".to_owned(),
                finish: "答案:".to_owned(),
                ..Default::default()
            };
        }
        let (report, requests) = run(case, Protocol::ReActText(protocol));
        check(id, case, &report);
        check_better(id, &table, &report, &requests);
        if !raised(&case["expect"]) {
            let said = case["expect"]["response"].as_str().unwrap();
            assert_eq!(report.answer, said.trim(), "{id}");
        }
    });
}

#[test]
fn react_json() {
    let table = [
        better(
            "unknown_tool",
            &[],
            "Error: there is no tool `Nope`",
            "done",
        ),
        better("unknown_argument", &[], "`txt` is unknown", "done"),
    ];
    check_names("react_v05_run.json", &table);
    each("react_v05_run.json", |id, case| {
        let (report, requests) = run(case, Protocol::ReActJson(ReActJson::default()));
        check(id, case, &report);
        check_better(id, &table, &report, &requests);
        // Lagent raises; here the model has no turn left to mend it, and that is what the report says.
        if id == "not_json" {
            assert_eq!(report.ending, Ending::OutOfTurns);
            assert!(report.calls.is_empty());
            let last = report.messages.last().unwrap();
            assert!(
                last.text()
                    .starts_with("Error: the reply is not a JSON object")
            );
        }
    });
}

#[test]
fn rewoo() {
    let table = [
        // Lagent returns the plan itself as the answer. The last reply has no plan either, and is believed.
        better("reformat_once", &[], "Error: there is no plan", "ANS"),
        better("empty_plan", &[], "Error: there is no plan", "ANS"),
        better("unknown_tool", &[], "Error: there is no tool `Nope`", "ANS"),
        better(
            "tool_error_in_worker_log",
            &[],
            "Error: no such place: Atlantis",
            "ANS",
        ),
    ];
    check_names("rewoo_v024_run.json", &table);
    each("rewoo_v024_run.json", |id, case| {
        let (report, requests) = run(case, Protocol::ReWoo(ReWoo::default()));
        // Lagent takes #E10 for #E1 and a zero.
        if id != "e10_prefix_clash" {
            check(id, case, &report);
        }
        check_better(id, &table, &report, &requests);
        match id {
            "reformat_once" => {
                assert!(told(&requests[2]).contains("Error: each #E needs exactly one Plan"))
            }
            // Where a result breaks the JSON that it is put into, Lagent's call fails.
            "ref_json_breaks" => assert_eq!(
                report.calls.iter().filter(|c| c.observed.is_ok()).count(),
                2
            ),
            "e10_prefix_clash" => {
                let last = report.calls.last().unwrap();
                assert_eq!(last.call.arguments, json!({"text": "**10**"}));
            }
            _ => {}
        }
    });
}

/// Arguments in every spelling: what Lagent reads is the same call here; what it can't is read, or told.
#[test]
fn arguments() {
    each("action_args_v024.json", |id, case| {
        if case["parser"] != "JsonParser" {
            return;
        }
        let input = case["input"].as_str().unwrap();
        let reply = format!("Thought: a\nAction: Bold\nAction Input: {input}\n");
        let script = json!({"script": [reply, "Final Answer: ok"]});
        let (report, requests) = run(&script, Protocol::ReActText(ReActText::default()));
        let expect = &case["expect"];
        let texts: Vec<Value> = worked(&report)
            .into_iter()
            .map(|(_, a)| a["text"].clone())
            .collect();
        if expect["state"] == 0 {
            assert_eq!(texts, [expect["args"]["text"].clone()], "{id}");
            return;
        }
        let want: &[&str] = match id {
            "json_bad_single_quotes" | "json_bad_fence_tilde" => &["a"],
            "json_bad_string" => &["t"],
            "json_bad_number" => &["5"],
            _ => &[],
        };
        assert_eq!(texts, want, "{id}");
        if want.is_empty() {
            let told = told(&requests[1]);
            assert!(told.starts_with("Response:Error: "), "{id}: {told}");
        }
        assert_eq!(report.answer, "ok", "{id}");
    });
}
