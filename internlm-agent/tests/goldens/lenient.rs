//! The default, lenient reading of the same replies: it finds at least what Lagent finds, and what it can't read
//! is told to the model.

use internlm_agent::protocol::internlm::InternLm;
use internlm_agent::protocol::react_json::ReActJson;
use internlm_agent::protocol::react_text::ReActText;
use internlm_agent::protocol::rewoo::ReWoo;
use internlm_agent::protocol::{AnyMachine, Channel, Machine, Protocol, Reply, Start, Step};
use internlm_core::chat_model::Input;
use internlm_core::{Message, Role, ToolSpec};
use serde_json::{Value, json};

use crate::{each, raised};

fn specs() -> Vec<ToolSpec> {
    let spec = |name: &str, parameters: Value| ToolSpec::new(name, "", parameters);
    let object = |name: &str| json!({"type": "object", "properties": {name: {"type": "string"}}, "required": [name]});
    let any = json!({"type": "object"});
    vec![
        spec("GetWeather", object("location")),
        spec("Bold", object("text")),
        spec("tool", object("text")),
        spec("A", object("text")),
        spec("B", object("text")),
        spec("tool1", object("text")),
        spec("tool2", object("text")),
        spec("Calculator.add", any.clone()),
        spec("PythonInterpreter", object("command")),
        spec("WebSearch.search", any),
        spec("FakeShell", object("code")),
    ]
}

/// What becomes of one reply.
enum Next {
    Calls(Vec<(String, Value, Channel)>),
    /// The model is asked again, and this is the last that it was told.
    Told(String),
    Answer(String),
}

fn after(protocol: &Protocol, reply: &str) -> Next {
    let mut machine: AnyMachine = protocol.start(Start {
        tools: specs(),
        messages: vec![Message::user("q")],
        ..Start::default()
    });
    machine.reply(Reply::text(reply)).unwrap();
    match machine.step().unwrap() {
        Step::Call(calls) => Next::Calls(
            calls
                .into_iter()
                .map(|call| (call.name, call.arguments, call.channel))
                .collect(),
        ),
        Step::Done(outcome) => Next::Answer(outcome.answer),
        Step::Ask(request) => {
            let Input::Messages(messages) = request.input else {
                panic!("messages");
            };
            let last = messages.last().unwrap();
            assert_ne!(last.role, Role::Assistant);
            Next::Told(last.text())
        }
    }
}

/// What Lagent 0.5 takes for a call is that call here too; what it can't read is told or read; never is another
/// tool run.
#[test]
fn internlm() {
    let protocol = Protocol::InternLm(InternLm::default().with_interpreter("FakeShell"));
    each("tool_parser_v05.json", |id, case| {
        let reply = case["input"].as_str().unwrap();
        let want = &case["expect"]["mixed"]["parsed"];
        match (after(&protocol, reply), want["status"].as_i64().unwrap()) {
            (Next::Calls(calls), 1) if want["tool_type"] == "plugin" => {
                let wanted = calls.iter().any(|(name, arguments, _)| {
                    *name == want["action"]["name"] && *arguments == want["action"]["parameters"]
                });
                assert!(wanted, "{id}: {calls:?}");
            }
            (Next::Calls(calls), 1) => assert_eq!(calls[0].2, Channel::Code, "{id}"),
            (Next::Told(told), status) if id.starts_with("ok") && status != 1 => {
                panic!("{id}: {told}")
            }
            // Markers inside of an argument end it here, and a call without a name, of an unknown tool or without
            // arguments is none.
            (Next::Told(told), 1) => {
                let action = &want["action"];
                let known = specs().iter().any(|spec| action["name"] == spec.name);
                let call = known && action["parameters"].is_object();
                let nested = reply.matches("<|").count() > 3;
                assert!(!call || nested, "{id}: {told}");
                assert!(told.starts_with("Error: "), "{id}: {told}");
            }
            (Next::Calls(calls), _) => {
                for (name, arguments, channel) in calls {
                    if channel == Channel::Code {
                        continue;
                    }
                    assert!(reply.contains(&name), "{id}: {name} is not in the reply");
                    assert!(arguments.get("command").is_none(), "{id}: {arguments}");
                }
            }
            (Next::Told(told), _) => assert!(told.starts_with("Error: "), "{id}: {told}"),
            (Next::Answer(answer), 0) => {
                assert!(!answer.contains("<|action_start|>"), "{id}: {answer}");
            }
            (Next::Answer(answer), _) => panic!("{id}: {answer}"),
        }
    });
}

#[test]
fn react_text() {
    let protocol = Protocol::ReActText(ReActText::default());
    each("react_v024_parse.json", |id, case| {
        let want = case["expect"]["action"].as_str().unwrap();
        match after(&protocol, case["input"].as_str().unwrap()) {
            Next::Calls(calls) => {
                let (name, arguments, _) = &calls[0];
                assert!(arguments.is_object(), "{id}: {arguments}");
                // Made-up results are not believed, and names are read without brackets.
                let better = case["input"].as_str().unwrap().contains("\nResponse:");
                let better = better || want == format!("[{name}]") || want == "NoAction";
                assert!(better || want == name, "{id}: {name} instead of {want}");
            }
            Next::Answer(answer) => {
                assert_eq!(want, "FinishAction", "{id}");
                let said = case["expect"]["action_input"].as_str().unwrap().trim();
                let made_up = case["input"].as_str().unwrap().contains("\nResponse:");
                assert!(made_up || answer.contains(said), "{id}: {answer}");
            }
            Next::Told(told) => {
                // What Lagent finds a tool and a whole input in is not sent back.
                let input = case["expect"]["action_input"].as_str().unwrap();
                let whole = serde_json::from_str::<Value>(input).is_ok_and(|v| v.is_object());
                let known = specs().iter().any(|spec| spec.name == want);
                let clear = id.starts_with("ok") || (whole && known);
                assert!(!clear, "{id}: {told}");
                assert!(told.starts_with("Response:Error: "), "{id}: {told}");
            }
        }
    });
}

#[test]
fn react_json() {
    let protocol = Protocol::ReActJson(ReActJson::default());
    each("json_parser_v05.json", |id, case| {
        let expect = &case["expect"];
        match after(&protocol, case["input"].as_str().unwrap()) {
            Next::Calls(calls) if !raised(expect) => {
                assert_eq!(calls[0].0, expect["action"]["name"], "{id}");
                assert_eq!(calls[0].1, expect["action"]["parameters"], "{id}");
            }
            Next::Answer(answer) if !raised(expect) => {
                assert_eq!(answer, expect["conclusion"], "{id}")
            }
            Next::Told(told) if !raised(expect) => {
                let known = specs()
                    .iter()
                    .any(|spec| expect["action"]["name"] == spec.name);
                assert!(!known, "{id}: {told}");
            }
            // Where Lagent raises, the object is read all the same or the model is told.
            Next::Calls(calls) => assert!(calls[0].1.is_object(), "{id}"),
            Next::Answer(answer) => assert!(!answer.is_empty(), "{id}"),
            Next::Told(told) => assert!(told.starts_with("Error: "), "{id}: {told}"),
        }
    });
}

#[test]
fn rewoo() {
    let protocol = Protocol::ReWoo(ReWoo::default());
    each("rewoo_v024_parse.json", |id, case| {
        let expect = &case["expect"];
        match after(&protocol, case["input"].as_str().unwrap()) {
            Next::Calls(calls) => {
                assert!(
                    raised(expect)
                        || calls[0].0 == expect["actions"][0].as_str().unwrap_or_default(),
                    "{id}"
                );
            }
            // Of the whole plan, or of a step in the solver's log. A plan of known tools that Lagent can run is run.
            Next::Told(told) => {
                assert!(told.contains("Error: "), "{id}: {told}");
                let actions = expect["actions"].as_array();
                let none = actions.is_some_and(Vec::is_empty);
                let known = |action: &Value| specs().iter().any(|spec| *action == spec.name);
                let unknown = actions.is_some_and(|actions| !actions.iter().all(known));
                assert!(none || unknown || raised(expect), "{id}: {told}");
            }
            // No plan is not taken for an answer before the model was told.
            Next::Answer(answer) => panic!("{id}: {answer}"),
        }
    });
}
