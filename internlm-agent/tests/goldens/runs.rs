//! Whole runs: what was sent, what was called, what came back. Every run is also written down and read back
//! between any two steps, which must change nothing.

use internlm_agent::error::Error;
use internlm_agent::lagent::{
    ActionDescription, ActionReturn, ArgumentParser, ChatMessage, Executor, ReActMarkers,
    TemplateItem, render_internlm2,
};
use internlm_agent::protocol::lagent::{
    AgentForInternLm, Internlm2Agent, ReActV05, ReActV024, ReWooV024, Record,
};
use internlm_agent::protocol::react_text::Language;
use internlm_agent::protocol::{
    AnyMachine, Machine, Observation, Observed, Outcome, Protocol, Reply, Start, Step,
};
use internlm_agent::python::PyValue;
use internlm_core::chat_model::Input;
use internlm_core::{ChatRequest, Message};
use serde_json::{Value, json};

use crate::lagent_tools::{descriptions, executor};
use crate::{assert_same, each, raised};

/// A machine that is driven by a case.
struct Replay<'a> {
    id: &'a str,
    script: std::slice::Iter<'a, Value>,
    prompts: std::slice::Iter<'a, Value>,
    executors: Vec<Executor>,
}

impl<'a> Replay<'a> {
    fn new(id: &'a str, case: &'a Value, executors: Vec<Executor>) -> Self {
        Self {
            id,
            script: case["script"].as_array().unwrap().iter(),
            prompts: case["prompts"].as_array().unwrap().iter(),
            executors,
        }
    }

    /// Drives a machine to its end.
    fn run(&mut self, machine: &mut AnyMachine) -> Result<Outcome, Error> {
        loop {
            let written = serde_json::to_string(machine).unwrap();
            let read: AnyMachine = serde_json::from_str(&written).unwrap();
            assert_eq!(
                serde_json::to_string(&read).unwrap(),
                written,
                "{}",
                self.id
            );
            *machine = read;
            match machine.step()? {
                Step::Done(outcome) => return Ok(outcome),
                Step::Ask(request) => {
                    let want = self.prompts.next();
                    let want = want.unwrap_or_else(|| panic!("{}: one request too many", self.id));
                    check_prompt(self.id, &request, want);
                    let reply = self.script.next().unwrap().as_str().unwrap();
                    machine.reply(Reply::text(reply))?;
                }
                Step::Call(calls) => {
                    let mut observations = Vec::new();
                    for call in calls {
                        let parameters = PyValue::from(&call.arguments);
                        let tool = call.name.split('.').next().unwrap();
                        let mut executors = self.executors.iter();
                        let executor =
                            executors.find(|e| e.descriptions().iter().any(|d| d.name() == tool));
                        let action_return = executor.unwrap().forward(&call.name, &parameters)?;
                        observations.push(Observation {
                            id: call.id,
                            observed: Observed::Lagent(Box::new(action_return)),
                        });
                    }
                    machine.observe(observations)?;
                }
            }
        }
    }

    /// Drives a machine through all messages of a case, one task after the other.
    fn conversation(
        mut self,
        case: &Value,
        protocol: &Protocol,
        system: Option<String>,
    ) -> (Option<AnyMachine>, Vec<Result<Outcome, Error>>) {
        let mut returns = Vec::new();
        let mut machine: Option<AnyMachine> = None;
        for message in list(case, "messages") {
            let machine = match &mut machine {
                None => machine.insert(protocol.start(start(case, &message, system.clone()))),
                Some(machine) => {
                    let text = message.as_str().unwrap();
                    machine.say(vec![Message::user(text)]).unwrap();
                    machine
                }
            };
            returns.push(self.run(machine));
        }
        (machine, returns)
    }
}

#[track_caller]
fn check_prompt(id: &str, request: &ChatRequest, want: &Value) {
    match (&request.input, want) {
        (Input::Prompt(parts), Value::String(want)) => {
            assert_eq!(&internlm_core::message::join(parts), want, "{id}");
        }
        (Input::Messages(messages), Value::Array(want)) => {
            let roles = |list: &[Value]| {
                list.iter()
                    .map(|m| m["role"].to_string())
                    .collect::<Vec<_>>()
            };
            let got: Vec<Value> = messages
                .iter()
                .zip(want.iter().chain(std::iter::repeat(&Value::Null)))
                .map(|(message, want)| message_value(message, want))
                .collect();
            assert_eq!(roles(&got), roles(want), "{id}");
            for (got, want) in got.iter().zip(want) {
                assert_same(got, want, id);
            }
        }
        (input, _) => panic!("{id}: {input:?}"),
    }
}

/// A message in the goldens' form. A content that was no text in Python is JSON here.
fn message_value(message: &Message, want: &Value) -> Value {
    let text = message.text();
    let content = match &want["content"] {
        Value::String(_) | Value::Null => json!(text),
        _ => serde_json::from_str(&text).unwrap_or(json!(text)),
    };
    let mut value = json!({"role": message.role.as_str(), "content": content});
    if let Some(name) = &message.name {
        value["name"] = json!(name);
    }
    value
}

fn turns(case: &Value) -> Option<usize> {
    case["max_turn"]
        .as_u64()
        .map(|n| usize::try_from(n).unwrap())
}

fn start(case: &Value, message: &Value, system: Option<String>) -> Start {
    Start {
        system,
        messages: vec![Message::user(message.as_str().unwrap())],
        max_turns: turns(case),
        ..Start::default()
    }
}

/// The calls of a case, in the goldens' form.
fn check_calls(id: &str, records: &[Record], want: &[&Value]) {
    assert_eq!(records.len(), want.len(), "{id}: calls");
    for (record, want) in records.iter().zip(want) {
        let mut action_return = record.action_return.clone();
        action_return.thought = None;
        assert_eq!(record.name, want["name"], "{id}");
        let parameters = want
            .get("parameters")
            .or_else(|| want.get("command"))
            .unwrap();
        assert_same(&record.parameters.to_json(), parameters, id);
        assert_same(&json!(action_return), &want["action_return"], id);
    }
}

fn list(case: &Value, key: &str) -> Vec<Value> {
    case[key].as_array().cloned().unwrap_or_default()
}

fn actions(records: &[Record]) -> Value {
    let returns: Vec<&ActionReturn> = records.iter().map(|record| &record.action_return).collect();
    json!(returns)
}

/// What the case's configuration was, read off its first prompt: a system text before the protocol's own, and
/// few shots between the system messages and the task.
fn configuration(case: &Value, meta: &str) -> (Option<String>, Vec<ChatMessage>) {
    let prompt = case["prompts"][0].as_array().unwrap();
    let first = prompt[0]["content"].as_str().unwrap();
    let system = (first != meta).then(|| first.to_owned());
    let shots = prompt[..prompt.len() - 1]
        .iter()
        .filter(|m| m["role"] != "system");
    let shots = shots.map(|m| serde_json::from_value(m.clone()).unwrap());
    (system, shots.collect())
}

#[test]
fn internlm_v05_run() {
    each("internlm_v05_run.json", |id, case| {
        let plugins = descriptions(&case["plugins"]);
        let interpreters = descriptions(&case["interpreter"]);
        let (system, shots) = configuration(case, internlm_agent::lagent::prompts::META_CN);
        let config = AgentForInternLm {
            plugins: plugins.clone(),
            interpreters: interpreters.clone(),
            few_shot: vec![shots],
            ..AgentForInternLm::default()
        };
        let executors = [plugins, interpreters].map(|d| executor(&d, ArgumentParser::Json));
        let protocol = Protocol::LagentInternLm(config);
        let replay = Replay::new(id, case, executors.into());
        let (machine, returns) = replay.conversation(case, &protocol, system);
        let Some(AnyMachine::LagentInternLm(machine)) = machine else {
            panic!("{id}");
        };
        check_returns(id, &returns, &case["expect"]["returns"]);
        check_memory(
            id,
            &json!(machine.memory()),
            &case["expect"]["inner_memory"],
        );
        assert_same(&json!(machine.steps()), &case["expect"]["get_steps"], id);
        let calls = list(case, "tool_calls");
        check_calls(id, machine.records(), &calls.iter().collect::<Vec<_>>());
        for (prompt, want) in list(case, "prompts")
            .into_iter()
            .zip(list(case, "prompt_strings"))
        {
            let items: Vec<TemplateItem> = serde_json::from_value(prompt).unwrap();
            assert_eq!(render_internlm2(&items).unwrap(), want, "{id}");
        }
    });
}

#[track_caller]
fn check_returns(id: &str, returns: &[Result<Outcome, Error>], want: &Value) {
    let want = want.as_array().unwrap();
    assert_eq!(returns.len(), want.len(), "{id}");
    for (got, want) in returns.iter().zip(want) {
        match got {
            Ok(outcome) => {
                assert!(!raised(want), "{id}: an error was expected");
                for key in ["content", "sender", "formatted"] {
                    assert_same(&outcome.details[key], &want[key], id);
                }
            }
            Err(error) => assert!(raised(want), "{id}: {error}"),
        }
    }
}

#[track_caller]
fn check_memory(id: &str, got: &Value, want: &Value) {
    let (got, want) = (got.as_array().unwrap(), want.as_array().unwrap());
    assert_eq!(got.len(), want.len(), "{id}");
    for (got, want) in got.iter().zip(want) {
        for key in ["content", "sender", "formatted"] {
            assert_same(&got[key], &want[key], id);
        }
    }
}

#[test]
fn internlm2_v024_run() {
    each("internlm2_v024_run.json", |id, case| {
        let plugins = descriptions(&case["plugins"]);
        let interpreters = descriptions(&case["interpreter"]);
        let (system, shots) = configuration(case, internlm_agent::lagent::prompts::META_CN);
        let config = Internlm2Agent {
            plugins: plugins.clone(),
            interpreter: interpreters.first().cloned(),
            few_shot: vec![shots],
            ..Internlm2Agent::default()
        };
        let executors = [plugins, interpreters].map(|d| executor(&d, ArgumentParser::Json));
        let mut machine =
            Protocol::LagentInternLm2(config).start(start(case, &case["message"], system));
        let outcome = Replay::new(id, case, executors.into()).run(&mut machine);
        let expect = &case["expect"];
        let Ok(outcome) = outcome else {
            assert!(raised(expect), "{id}");
            return;
        };
        let AnyMachine::LagentInternLm2(machine) = machine else {
            panic!("{id}");
        };
        assert_eq!(outcome.answer, expect["response"], "{id}");
        assert_same(&json!(machine.inner_steps()), &expect["inner_steps"], id);
        assert_same(&actions(machine.records()), &expect["actions"], id);
        let (plugin, interpreter) = (list(case, "plugin_calls"), list(case, "interpreter_calls"));
        let is_code = |record: &Record| interpreter.iter().any(|call| call["name"] == record.name);
        let (code, tools): (Vec<Record>, Vec<Record>) =
            machine.records().iter().cloned().partition(is_code);
        check_calls(id, &tools, &plugin.iter().collect::<Vec<_>>());
        check_calls(id, &code, &interpreter.iter().collect::<Vec<_>>());
    });
}

/// The language of Lagent's instructions, read off their beginning.
fn language(prompt: &str) -> Language {
    match prompt.starts_with("你是") {
        true => Language::Chinese,
        false => Language::English,
    }
}

/// The language and the markers of a case, read off its first prompt.
fn react_configuration(actions: Vec<ActionDescription>, case: &Value) -> ReActV024 {
    let prompt = case["prompts"][0][0]["content"].as_str().unwrap();
    let language = language(prompt);
    let hints = match language {
        Language::English => [
            "Think what",
            "the tool name,",
            "the input to",
            "the results after",
            "final answer\n```",
        ],
        Language::Chinese => [
            "思考你当前",
            "工具名称，",
            "工具输入参数",
            "调用工具后",
            "最终答案\n```",
        ],
    };
    let marker = |hint: &str| {
        let at = prompt.find(hint).unwrap();
        prompt[..at].rsplit('\n').next().unwrap().to_owned()
    };
    let [thought, action, action_input, response, finish] = hints.map(marker);
    let markers = ReActMarkers {
        thought,
        action,
        action_input,
        response,
        finish,
        ..ReActMarkers::default()
    };
    let last = case["prompts"].as_array().unwrap().last().unwrap();
    let forced = last.as_array().unwrap().last().unwrap()["content"]
        .as_str()
        .unwrap_or_default();
    let force_stop = match forced == internlm_agent::lagent::prompts::FORCE_STOP_CN {
        true => Language::Chinese,
        false => Language::English,
    };
    ReActV024 {
        actions,
        language,
        force_stop,
        markers,
        ..ReActV024::default()
    }
}

#[test]
fn react_v024_run() {
    each("react_v024_run.json", |id, case| {
        let tools = descriptions(&case["tools"]);
        let config = react_configuration(tools.clone(), case);
        let mut machine =
            Protocol::LagentReActText(config).start(start(case, &case["message"], None));
        let executors = vec![executor(&tools, ArgumentParser::Json)];
        let outcome = Replay::new(id, case, executors).run(&mut machine);
        let expect = &case["expect"];
        let Ok(outcome) = outcome else {
            assert!(raised(expect), "{id}: {outcome:?}");
            return;
        };
        let AnyMachine::LagentReActText(machine) = machine else {
            panic!("{id}");
        };
        assert_eq!(outcome.answer, expect["response"], "{id}");
        assert_same(&json!(machine.inner_steps()), &expect["inner_steps"], id);
        assert_same(&actions(machine.records()), &expect["actions"], id);
        let calls = list(case, "tool_calls");
        check_calls(id, machine.records(), &calls.iter().collect::<Vec<_>>());
    });
}

#[test]
fn react_v05_run() {
    each("react_v05_run.json", |id, case| {
        let tools = descriptions(&case["tools"]);
        let config = ReActV05 {
            actions: tools.clone(),
            ..ReActV05::default()
        };
        let protocol = Protocol::LagentReActJson(config);
        let replay = Replay::new(id, case, vec![executor(&tools, ArgumentParser::Json)]);
        let (machine, returns) = replay.conversation(case, &protocol, None);
        let Some(AnyMachine::LagentReActJson(machine)) = machine else {
            panic!("{id}");
        };
        check_returns(id, &returns, &case["expect"]["returns"]);
        check_memory(
            id,
            &json!(machine.memory()),
            &case["expect"]["select_agent_memory"],
        );
        let calls = list(case, "tool_calls");
        check_calls(id, machine.records(), &calls.iter().collect::<Vec<_>>());
    });
}

#[test]
fn rewoo_v024_run() {
    each("rewoo_v024_run.json", |id, case| {
        let tools = descriptions(&case["tools"]);
        let prompt = case["prompts"][0][0]["content"].as_str().unwrap();
        let config = ReWooV024 {
            actions: tools.clone(),
            language: language(prompt),
            ..ReWooV024::default()
        };
        let mut machine = Protocol::LagentReWoo(config).start(start(case, &case["message"], None));
        let executors = vec![executor(&tools, ArgumentParser::Json)];
        let outcome = Replay::new(id, case, executors).run(&mut machine);
        let expect = &case["expect"];
        let Ok(outcome) = outcome else {
            assert!(raised(expect), "{id}: {outcome:?}");
            return;
        };
        let AnyMachine::LagentReWoo(machine) = machine else {
            panic!("{id}");
        };
        assert_eq!(outcome.answer, expect["response"], "{id}");
        assert_same(&json!(machine.inner_steps()), &expect["inner_steps"], id);
        let calls = list(case, "tool_calls");
        check_calls(id, machine.records(), &calls.iter().collect::<Vec<_>>());
    });
}
