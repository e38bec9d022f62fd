//! Servers that die, hang, flood, lie: errors that say so, in time, and nothing that stays behind.

use std::time::{Duration, Instant};

use internlm_agent::mcp::{McpClient, McpFault, McpServer, McpServers};
use internlm_agent::tool::{CancelToken, ToolContext, ToolError};
use serde_json::{Value, json};

use crate::support::{call, client, config, runs, stand_in, start, text, until};

#[track_caller]
fn fault(mode: &str, short: Duration) -> McpFault {
    let config = config()
        .with_start_timeout(short)
        .with_max_message_bytes(50_000);
    start(stand_in(mode), &config).unwrap_err()
}

const LONG: Duration = Duration::from_secs(60);
const SHORT: Duration = Duration::from_millis(1500);

#[test]
fn a_server_that_does_not_start_says_why() {
    let server = McpServer::stdio("no-such-program", [""; 0]);
    let fault = start(server, &config()).unwrap_err().to_string();
    assert!(
        fault.starts_with("MCP server `s` does not start: `no-such-program`: "),
        "{fault}"
    );
    let server = McpServer::stdio("python3", ["${INTERNLM_NOT_SET}"]);
    let fault = start(server, &config()).unwrap_err().to_string();
    assert_eq!(
        fault,
        "MCP server `s`: the variable `INTERNLM_NOT_SET` is not set"
    );
}

#[test]
fn a_server_that_dies_at_its_start_has_last_words() {
    let fault = fault("dies-at-start", LONG);
    assert!(matches!(fault, McpFault::Ended { .. }), "{fault:?}");
    assert_eq!(
        fault.to_string(),
        "MCP server `s` ended before it was ready (exit status: 3); its last words: no licence found"
    );
}

#[test]
fn a_server_that_refuses_is_quoted() {
    let fault = fault("refuses", LONG).to_string();
    assert_eq!(fault, "MCP server `s`: it refuses to start: not today");
}

#[test]
fn a_silent_server_is_not_waited_for() {
    let before = Instant::now();
    let fault = fault("silent", SHORT);
    assert!(matches!(fault, McpFault::Timeout { .. }), "{fault:?}");
    assert!(before.elapsed() < LONG);
}

#[test]
fn garbage_is_quoted_and_no_flood_is_read() {
    let garbage = fault("garbage", LONG).to_string();
    assert!(
        garbage
            .ends_with("; 3 lines of its output are no messages of MCP, the first is `Welcome!`"),
        "{garbage}"
    );
    let flood = fault("flood", LONG).to_string();
    assert!(
        flood.contains("it wrote more than 1048576 bytes that are no messages"),
        "{flood}"
    );
    let line = fault("endless-line", LONG).to_string();
    assert!(
        line.contains("it sent a line of more than 50000 bytes"),
        "{line}"
    );
}

#[test]
fn a_server_that_chats_besides_is_understood() {
    let client = client(stand_in("chatty"));
    let said = text(&client, "echo", json!({"text": "a"}));
    assert_eq!(said.as_deref(), Ok(r#"echo: {"text": "a"}"#));
}

#[test]
fn a_server_that_dies_in_a_call_fails_it_and_those_behind() {
    let client = client(stand_in("dies-in-call"));
    let want = "the MCP server `s` has ended (exit status: 7); its last words: out of cheese";
    for _ in 0..2 {
        assert_eq!(text(&client, "echo", json!({})).unwrap_err(), want);
    }
}

#[test]
fn a_call_that_hangs_ends_by_its_limit_and_the_server_is_told() {
    let config = config().with_prefix_names(false);
    let client = start(stand_in("slow"), &config.clone().with_call_timeout(SHORT)).unwrap();
    let error = call(&client, "hang", json!({})).unwrap_err();
    assert!(matches!(error, ToolError::Limit { .. }), "{error:?}");
    assert_eq!(
        error.to_string(),
        "the MCP server `s` did not answer `hang` within 1.5s"
    );
    until("the server is told of it", || {
        text(&client, "cancelled", json!({})).is_ok_and(|told| told != "[]")
    });

    let client = start(stand_in("slow"), &config).unwrap();
    let tools = client.tools().unwrap();
    let mut context = ToolContext::default();
    context.deadline = Some(Instant::now() + SHORT);
    let error = tools.call("hang", &json!({}), &context).unwrap_err();
    assert!(matches!(error, ToolError::Limit { .. }), "{error:?}");
    let mut context = ToolContext::default();
    context.cancel = CancelToken::new();
    let cancel = context.cancel.clone();
    let (tools, error) = std::thread::scope(|scope| {
        let calling = scope.spawn(|| tools.call("hang", &json!({}), &context));
        std::thread::sleep(Duration::from_millis(50));
        cancel.cancel();
        (&tools, calling.join().unwrap().unwrap_err())
    });
    assert!(matches!(error, ToolError::Cancelled), "{error:?}");
    until("the server is told of both", || {
        let told = tools.call("cancelled", &json!({}), &ToolContext::default());
        told.unwrap().to_text().contains(',')
    });
}

#[test]
fn errors_of_a_server_are_told() {
    let client = client(stand_in("errors"));
    let error = call(&client, "echo", json!({"text": "bad"})).unwrap_err();
    assert!(matches!(error, ToolError::Arguments { .. }), "{error:?}");
    assert_eq!(error.to_string(), "wrong arguments for `echo`: so it is");
    let error = call(&client, "echo", json!({"text": "other"})).unwrap_err();
    assert_eq!(error.to_string(), "the MCP server `s` failed: so it is");
    // What does not fit the schema never reaches it.
    let error = call(&client, "echo", json!({"text": 1})).unwrap_err();
    assert_eq!(
        error.to_string(),
        "wrong arguments for `echo`: `text` must be string, not a number"
    );
}

#[test]
fn odd_and_long_answers_are_no_surprise() {
    let error = text(&client(stand_in("odd-answer")), "echo", json!({})).unwrap_err();
    assert_eq!(error, "the MCP server `s` failed: Unexpected response type");
    let said = text(&client(stand_in("long-answer")), "echo", json!({})).unwrap();
    assert!(
        said.ends_with("… [34464 more bytes were cut]"),
        "{}",
        said.len()
    );
    let config = config()
        .with_prefix_names(false)
        .with_max_message_bytes(50_000);
    let client = start(stand_in("long-answer"), &config).unwrap();
    let error = text(&client, "echo", json!({})).unwrap_err();
    assert!(
        error.contains("it sent a line of more than 50000 bytes"),
        "{error}"
    );
}

#[test]
fn lists_have_ends() {
    let fault = fault("endless-pages", LONG);
    assert!(matches!(fault, McpFault::TooManyTools { .. }), "{fault:?}");
    let config = config().with_prefix_names(false).with_max_tools(3);
    let fault = start(stand_in("many-tools"), &config).unwrap_err();
    assert_eq!(
        fault.to_string(),
        "MCP server `s` offers more than 3 tools; `allowedTools` may name those that are wanted"
    );
    let wanted = stand_in("many-tools").with_allowed_tools(["t7", "t999", "none"]);
    let client = start(wanted, &config).unwrap();
    assert_eq!(
        client.tools().unwrap().names().collect::<Vec<_>>(),
        ["t7", "t999"]
    );
    // A name that comes twice counts once.
    let client = crate::support::client(stand_in("pages"));
    let tools = client.tools().unwrap();
    assert_eq!(tools.names().collect::<Vec<_>>(), ["t0", "t1", "t2", "t3"]);
}

#[test]
fn odd_tools_are_mapped_cut_or_left_out() {
    let client = start(stand_in("odd-tools"), &config()).unwrap();
    let specs = client.tools().unwrap().specs();
    let names: Vec<&str> = specs.iter().map(|spec| spec.name.as_str()).collect();
    assert_eq!(names, ["s__no_schema_type", "s__long"]);
    assert_eq!(specs[0].parameters, json!({"type": "object"}));
    assert!(
        specs[1]
            .description
            .ends_with("… [67232 more bytes were cut]")
    );
}

#[test]
fn a_changed_list_is_taken_over() {
    check_changes(stand_in("changes"));
    // And one that knows the newest protocol alone, where changes are asked for.
    check_changes(stand_in("new"));
}

fn check_changes(server: McpServer) {
    let client = client(server);
    let before = client.tools().unwrap();
    assert_eq!(before.names().collect::<Vec<_>>(), ["echo", "change"]);
    assert_eq!(client.changes(), 0);
    assert_eq!(text(&client, "change", json!({})).as_deref(), Ok("changed"));
    until("the new list is read", || client.changes() == 1);
    let after = client.tools().unwrap();
    assert_eq!(after.names().collect::<Vec<_>>(), ["echo", "new"]);
    let context = ToolContext::default();
    assert!(after.call("new", &json!({}), &context).is_ok());
    assert!(before.call("echo", &json!({}), &context).is_ok());
    let error = before.call("change", &json!({}), &context).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the MCP server `s` does not offer `change` any more"
    );
}

#[test]
fn a_child_gets_no_more_of_the_environment_than_is_named() {
    let server = stand_in("environment").with("TOKEN", "t-${PATH}");
    let client = client(server);
    let said = text(&client, "environment", json!({})).unwrap();
    let said: serde_json::Map<String, Value> = serde_json::from_str(&said).unwrap();
    let path = std::env::var("PATH").unwrap();
    assert_eq!(said["TOKEN"], format!("t-{path}"));
    assert_eq!(said["PATH"], path);
    // Cargo sets dozens; Python itself may add its locale.
    let known = ["HOME", "LC_CTYPE", "PATH", "TOKEN", "pid"];
    let others: Vec<_> = said
        .keys()
        .filter(|key| !known.contains(&key.as_str()))
        .collect();
    assert!(others.is_empty(), "{others:?}");
}

/// The process ids that a server tells of itself and a child of its own.
fn processes(client: &McpClient) -> [u64; 2] {
    let said = text(client, "grandchild", json!({})).unwrap();
    serde_json::from_str(&said).unwrap()
}

#[test]
fn processes_end_with_the_client_even_if_they_will_not() {
    let client = client(stand_in("stubborn"));
    let tools = client.tools().unwrap();
    let processes = processes(&client);
    drop(client);
    assert!(processes.into_iter().all(runs), "the tools still need them");
    drop(tools);
    until("both are gone", || !processes.into_iter().any(runs));
}

#[test]
fn a_server_whose_child_holds_its_output_is_gone_when_it_ends() {
    let client = client(stand_in("stubborn"));
    let processes = processes(&client);
    let kill = std::process::Command::new("kill")
        .args(["-9", &processes[0].to_string()])
        .status();
    assert!(kill.unwrap().success());
    until("the connection has ended", || {
        let error = text(&client, "grandchild", json!({}));
        error.is_err_and(|error| error.contains("has ended (signal: 9 (SIGKILL))"))
    });
    until("its child is gone", || !runs(processes[1]));
}

#[test]
fn one_bad_server_among_good_ones_is_an_error_or_is_passed_over() {
    let mut disabled = stand_in("dies-at-start");
    disabled.disabled = true;
    let servers = McpServers::new()
        .with("bad", stand_in("dies-at-start"))
        .with("good", stand_in("ok"))
        .with("off", disabled)
        .with("other", stand_in("ok"));
    let fault = McpClient::start(&servers, &config()).unwrap_err();
    assert!(matches!(fault, McpFault::Ended { server, .. } if server == "bad"));
    let client = McpClient::start(&servers, &config().with_allow_failures(true)).unwrap();
    assert_eq!(client.failures().len(), 1);
    assert_eq!(client.servers().collect::<Vec<_>>(), ["good", "other"]);
    let tools = client.tools().unwrap();
    assert_eq!(
        tools.names().collect::<Vec<_>>(),
        ["good__echo", "other__echo"]
    );
}
