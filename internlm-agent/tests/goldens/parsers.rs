//! Text to value and back.

use internlm_agent::lagent::{
    self, AgentMessage, AutoGptCall, ChatMessage, JsonParser, ReActMarkers, TemplateItem,
    ToolParser, default_aggregate,
};
use internlm_agent::protocol::planner::program::{extract_program, wanted_nodes};
use internlm_agent::protocol::planner::references::{references_from_graph, renumber};
use internlm_agent::python::PyValue;
use internlm_agent::{Error, teval};
use serde_json::{Value, json};

use crate::{assert_same, each, golden, raised};

/// A result against an expectation that may be an exception.
#[track_caller]
fn check<T: serde::Serialize>(id: &str, got: Result<T, Error>, expect: &Value) {
    match got {
        Ok(got) => {
            assert!(!raised(expect), "{id}: an error was expected");
            assert_same(&serde_json::to_value(got).unwrap(), expect, id);
        }
        Err(error) => assert!(raised(expect), "{id}: {error}"),
    }
}

#[test]
fn meta_template_v05() {
    each("meta_template_v05.json", |id, case| {
        let items: Vec<TemplateItem> = serde_json::from_value(case["messages"].clone()).unwrap();
        check(id, lagent::render_internlm2(&items), &case["expect"]);
    });
}

#[test]
fn tool_parser_v05() {
    each("tool_parser_v05.json", |id, case| {
        let input = case["input"].as_str().unwrap();
        for (name, parser) in [
            ("plugin", ToolParser::Plugin),
            ("interpreter", ToolParser::Interpreter),
            ("mixed", ToolParser::Mixed),
        ] {
            let expect = &case["expect"][name];
            let parsed = parser.parse(input);
            let got = serde_json::to_value(&parsed).unwrap();
            assert_same(&got, &expect["parsed"], id);
            assert_eq!(
                parser.format(&parsed).unwrap(),
                expect["reformatted"],
                "{id} {name}"
            );
        }
    });
}

#[test]
fn json_parser_v05() {
    let parser = JsonParser::react();
    each("json_parser_v05.json", |id, case| {
        check(
            id,
            parser.parse(case["input"].as_str().unwrap()),
            &case["expect"],
        );
    });
    if let Some(golden) = golden("json_parser_v05.json") {
        let [function, finish] = [0, 1].map(|i| parser.shapes[i].to_string());
        let values = [
            ("function_format", function.as_str()),
            ("finish_format", finish.as_str()),
        ];
        let text = lagent::prompts::fill(lagent::prompts::OUTPUT_FORMAT, &values);
        assert_eq!(text, golden["meta"]["format_instruction"]);
    }
}

#[test]
fn react_v024_parse() {
    each("react_v024_parse.json", |id, case| {
        let step = ReActMarkers::default().parse(case["input"].as_str().unwrap());
        check(id, Ok(step), &case["expect"]);
    });
}

#[test]
fn rewoo_v024_parse() {
    each("rewoo_v024_parse.json", |id, case| {
        let steps = lagent::parse_plan(case["input"].as_str().unwrap());
        let columns = steps.map(|steps| {
            let column =
                |of: fn(&lagent::PlannedStep) -> &String| steps.iter().map(of).collect::<Vec<_>>();
            json!({
                "thoughts": column(|s| &s.thought),
                "actions": column(|s| &s.action),
                "action_inputs": column(|s| &s.action_input),
            })
        });
        check(id, columns, &case["expect"]);
    });
}

#[test]
fn internlm2_v024_parse() {
    each("internlm2_v024_parse.json", |id, case| {
        let reply = lagent::parse_v024(case["input"].as_str().unwrap());
        // The agent whose parser was recorded has one interpreter, FakeShell.
        let reply = reply.map(|reply| {
            let action = match (reply.name.as_deref(), &reply.action) {
                (Some("interpreter"), Some(code)) => {
                    json!({"name": "FakeShell", "parameters": {"command": code}})
                }
                (_, action) => json!(action),
            };
            json!({"name": reply.name, "language": reply.language, "action": action})
        });
        check(id, reply, &case["expect"]);
    });
}

#[test]
fn extract_code_v05() {
    each("extract_code_v05.json", |id, case| {
        let code = lagent::extract_code(case["input"].as_str().unwrap());
        assert_eq!(code, case["expect"], "{id}");
    });
}

#[test]
fn autogpt_v024_parse() {
    each("autogpt_v024_parse.json", |id, case| {
        let expect = &case["expect"];
        let call = lagent::parse_autogpt(case["input"].as_str().unwrap());
        match call {
            Err(error) => assert!(raised(expect), "{id}: {error}"),
            Ok(AutoGptCall::Command { name, args }) => {
                assert_eq!(name, expect["action"], "{id}");
                assert_same(&args.to_json(), &expect["action_input"], id);
            }
            Ok(AutoGptCall::Malformed(what)) => {
                assert_eq!(expect["action"], "NO_ACTION_OBJECT:NoAction", "{id}");
                // The words after it are those of Python's compiler.
                let begin = |text: &str| text.split(':').next().unwrap().to_owned();
                assert_eq!(
                    begin(&what),
                    begin(expect["action_input"].as_str().unwrap()),
                    "{id}"
                );
            }
        }
    });
}

#[test]
fn default_aggregator_v05() {
    each("default_aggregator_v05.json", |id, case| {
        let mut memory: Vec<AgentMessage> = serde_json::from_value(case["memory"].clone()).unwrap();
        if let Some(n) = case["recent_n"].as_u64() {
            let n = usize::try_from(n).unwrap();
            memory.drain(..memory.len().saturating_sub(n));
        }
        let system = match &case["system"] {
            Value::Null => Ok(Vec::new()),
            Value::String(text) => Ok(vec![ChatMessage::new("system", text)]),
            Value::Object(_) => serde_json::from_value(json!([case["system"]])),
            list => serde_json::from_value(list.clone()),
        };
        let expect = &case["expect"];
        let Ok(mut system) = system else {
            assert!(raised(expect), "{id}");
            return;
        };
        let name = case["name"].as_str().unwrap();
        // The recorder kept the system messages by reference, and Python's `+=` had already changed the last one.
        let joined = memory
            .iter()
            .take_while(|m| m.sender != name)
            .map(|m| m.content.display());
        let joined: String = joined.collect();
        if let Some(last) = system
            .last_mut()
            .filter(|last: &&mut ChatMessage| last.role == "user")
        {
            let text = last.content.display();
            last.content = PyValue::str(text.strip_suffix(&joined).unwrap_or(&text));
        }
        check(id, default_aggregate(&memory, name, &system), expect);
    });
}

#[test]
fn teval_parse() {
    each("teval_parse.json", |id, case| {
        let text = |key: &str| case[key].as_str().unwrap_or_default();
        let value = match text("kind") {
            "format_load" => {
                teval::format_load(text("input"), text("start"), text("end")).map(Some)
            }
            "parse_string" => {
                let newline = case["allow_newline"].as_bool().unwrap();
                teval::parse_string(text("template"), text("input"), newline)
            }
            kind => panic!("{id}: {kind}"),
        };
        let expect = &case["expect"]["value"];
        match value {
            Ok(value) => {
                let value = value.as_ref().map_or(Value::Null, PyValue::to_json);
                assert_same(&value, expect, id);
            }
            Err(error) => assert!(raised(expect), "{id}: {error}"),
        }
    });
}

#[test]
fn mindsearch_refs() {
    each("mindsearch_refs.json", |id, case| {
        let expect = &case["expect"];
        match case["kind"].as_str().unwrap() {
            "extract" => {
                let code = extract_program(case["input"].as_str().unwrap());
                assert_eq!(code, expect["code"], "{id}");
                assert_eq!(json!(wanted_nodes(&code)), expect["nodes"], "{id}");
            }
            "update_ref" => {
                let offset = usize::try_from(case["ptr"].as_u64().unwrap()).unwrap();
                let sources = case["ref2url"].as_object().unwrap();
                let got = renumber(case["ref"].as_str().unwrap(), sources, offset);
                let got = json!({"text": got.text, "ref2url": got.sources, "added": got.used});
                assert_same(&got, expect, id);
            }
            "references_from_graph" => {
                let got = references_from_graph(case["graph"].as_object().unwrap());
                let got = got.map(|(text, sources)| json!({"text": text, "ref2url": sources}));
                check(id, got, expect);
            }
            kind => panic!("{id}: {kind}"),
        }
    });
}
