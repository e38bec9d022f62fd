//! Arguments, results and descriptions of tools.

use std::process::Command;

use internlm_agent::lagent::{
    ActionDescription, ActionReturn, ArgumentParser, PythonProgram, ResultItem, parse_outputs,
    prompts,
};
use internlm_agent::python::PyValue;
use internlm_agent::tool::spec_of;
use schemars::JsonSchema;
use serde_json::{Value, json};

use crate::lagent_tools::{descriptions, executor};
use crate::{assert_same, each, raised};

#[test]
fn action_args_v024() {
    each("action_args_v024.json", |id, case| {
        let parser = match case["parser"].as_str().unwrap() {
            "JsonParser" => ArgumentParser::Json,
            "TupleParser" => ArgumentParser::Tuple,
            "BaseParser" => ArgumentParser::Base,
            parser => panic!("{id}: {parser}"),
        };
        let descriptions = descriptions(&case["tool"]);
        let tool = case["tool"].as_str().unwrap();
        let name = format!("{tool}.{}", case["api"].as_str().unwrap());
        let input = PyValue::from(&case["input"]);
        let expect = &case["expect"];
        match executor(&descriptions, parser).forward(&name, &input) {
            Err(error) => assert!(raised(expect), "{id}: {error}"),
            Ok(got) => assert_same(&serde_json::to_value(got).unwrap(), expect, id),
        }
    });
}

#[test]
fn tool_defs() {
    each("tool_defs.json", |id, case| {
        let description = ActionDescription::new(PyValue::from(&case["description"]));
        assert_eq!(description.is_toolkit(), case["is_toolkit"], "{id}");
        let functions = json!(description.functions());
        assert_eq!(functions, case["executor_description"], "{id}");
        let list = [description];
        assert_eq!(ActionDescription::repr(&list), case["python_repr"], "{id}");
        assert_eq!(
            ActionDescription::json_line(&list),
            case["react_v05_json_dumps"],
            "{id}"
        );
        assert_eq!(
            ActionDescription::plugin_prompt(&list),
            case["internlm_plugin_prompt"],
            "{id}"
        );
        assert_eq!(
            ActionDescription::plugin_prompt_with_prefix(&list),
            case["internlm_plugin_prompt_api_prefix"],
            "{id}"
        );
    });
}

/// The list form of a Rust type is what Lagent makes of the Python function that it stands for.
#[test]
fn list_form_of_a_type() {
    #[derive(JsonSchema)]
    #[expect(dead_code, reason = "only the schema is looked at")]
    struct Add {
        /// augend
        a: i64,
        /// addend
        #[serde(default)]
        b: i64,
    }
    /// Get the current weather in a given location.
    #[derive(JsonSchema)]
    #[expect(dead_code, reason = "only the schema is looked at")]
    struct GetWeather {
        /// The city and state, e.g. San Francisco, CA
        location: String,
        /// celsius or fahrenheit. Defaults to None.
        unit: Option<String>,
    }
    let entry = |name: &str, kind: &str, description: &str| json!({"name": name, "type": kind, "description": description});
    let add = ActionDescription::from_spec(&spec_of::<Add>("add"));
    let want = json!({
        "name": "add",
        "description": "",
        "parameters": [entry("a", "NUMBER", "augend"), entry("b", "NUMBER", "addend")],
        "required": ["a"],
        "parameter_description": prompts::JSON_PARAMETERS,
    });
    assert_eq!(json!(add), want);
    let weather = ActionDescription::from_spec(&spec_of::<GetWeather>("GetWeather"));
    each("tool_defs.json", |id, case| {
        if id == "GetWeather" {
            let mut want = case["description"].clone();
            want.as_object_mut().unwrap().remove("return_data");
            assert_eq!(json!(weather), want);
        }
    });
}

/// What is printed goes before the answer, or its last line is the answer, as `readlines()` has it.
#[test]
#[allow(clippy::print_stdout, reason = "a skipped part says so")]
fn programs_answer_on_their_last_line() {
    let printed = |program: &PythonProgram, code: &str| {
        let program = program.program(code);
        let output = Command::new("python3")
            .args(["-I", "-c", &program])
            .output();
        let output = output
            .inspect_err(|error| println!("skipped: python3 was not run: {error}"))
            .ok()?;
        Some(String::from_utf8(output.stdout).unwrap())
    };
    let mut program = PythonProgram::default();
    let code = "def solution():\n    print('hi')\n    return 'ok\\U0001f600'";
    let Some(output) = printed(&program, code) else {
        return;
    };
    let lines: Vec<&str> = output.lines().collect();
    assert_eq!(lines[0], "hi");
    let line: Value = serde_json::from_str(lines[1]).unwrap();
    assert_eq!(line, json!({"ok": true, "text": "ok\u{1f600}"}));
    program.answer_from_stdout = true;
    for (code, text) in [
        ("print('x')", "x\n"),
        ("print('y\\x0bz')", "y\u{b}z\n"),
        ("print('a'); print('b', end='')", "b"),
    ] {
        let line: Value = serde_json::from_str(&printed(&program, code).unwrap()).unwrap();
        assert_eq!(line, json!({"ok": true, "text": text}), "{code}");
    }
}

#[test]
fn action_results_v05() {
    each("action_results_v05.json", |id, case| {
        let expect = &case["expect"];
        match case["kind"].as_str().unwrap() {
            "format_result" => {
                let result: Option<Vec<ResultItem>> =
                    serde_json::from_value(case["result"].clone()).unwrap();
                let mut action_return = ActionReturn::success("", PyValue::None, Vec::new());
                action_return.result = result;
                assert_eq!(action_return.format_result(), *expect, "{id}");
            }
            "parse_outputs" => {
                let result = parse_outputs(&PyValue::from(&case["output"]));
                assert_eq!(json!(result), *expect, "{id}");
            }
            "python_interpreter" => python_interpreter(id, case, expect),
            kind => panic!("{id}: {kind}"),
        }
    });
}

/// The programs of the goldens are known, so they run without a sandbox here.
#[allow(clippy::print_stdout, reason = "a skipped part says so")]
fn python_interpreter(id: &str, case: &Value, expect: &Value) {
    let mut config = json!(PythonProgram::default());
    let given = case["config"].as_object().unwrap().clone();
    config.as_object_mut().unwrap().extend(given);
    let config: PythonProgram = serde_json::from_value(config).unwrap();
    let command = case["command"].as_str().unwrap();
    assert_same(&PythonProgram::args(command).to_json(), &expect["args"], id);
    let program = config.program(command);
    let output = match Command::new("python3")
        .args(["-I", "-c", &program])
        .output()
    {
        Ok(output) => output,
        Err(error) => {
            println!("skipped: {id} was not run: {error}");
            return;
        }
    };
    let printed = String::from_utf8(output.stdout).unwrap();
    let line: Value = serde_json::from_str(printed.lines().last().unwrap()).unwrap();
    if expect["state"] == 0 {
        let result = json!([{"type": "text", "content": line["text"]}]);
        assert_eq!(result, expect["result"], "{id}");
    } else {
        // How an error is worded differs between versions of Python; its class does not.
        let class = |text: &Value| text.as_str().unwrap().split('(').next().unwrap().to_owned();
        assert_eq!(class(&line["error"]), class(&expect["errmsg"]), "{id}");
    }
}
