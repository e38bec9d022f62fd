//! `agent --mcp FILE`: tools of a server of the Model Context Protocol, which is our own, on its standard streams.

use std::path::{Path, PathBuf};

use serde_json::json;

use super::scripted::{calls, says, scripted, told};
use super::support::{binary, program};

/// An `mcpServers` file with one server.
fn file(folder: &Path, command: &Path, arguments: &[&str]) -> PathBuf {
    let server = json!({"command": command, "args": arguments});
    let file = folder.join("mcp.json");
    let text = json!({"mcpServers": {"own": server}}).to_string();
    std::fs::write(&file, text).expect("the folder can be written");
    file
}

#[test]
fn tools_of_a_server_are_called() {
    let (Some(program), Some(server)) = (program("agent"), binary("internlm-mcp")) else {
        return;
    };
    let folder = tempfile::tempdir().expect("a folder");
    let below = folder.path().join("below");
    std::fs::create_dir(&below).expect("a folder");
    std::fs::write(below.join("note.txt"), "the door code is 4711\n").expect("a file");
    let below = below.to_str().expect("a path");
    let file = file(folder.path(), &server, &["serve", "--files", below]);
    let (url, script) = scripted(vec![
        calls("own__calculator", &json!({"expression": "37 × 12 + 5"})),
        // What does not fit is told by the server, and the model may try again.
        calls("own__read_file", &json!({"file": "note.txt"})),
        calls("own__read_file", &json!({"path": "note.txt"})),
        says("449 and 4711."),
    ]);
    let program = program.args(["--base-url", &url, "--ask", "q", "--tools", "date_now"]);
    let objects = program.arg("--mcp").arg(&file).objects([]);
    let asked = script.join().expect("the server ends");
    let tools = asked[0]["tools"].as_array().expect("tools");
    let names: Vec<&str> = tools
        .iter()
        .filter_map(|tool| tool["function"]["name"].as_str())
        .collect();
    assert!(
        names.contains(&"date_now") && names.contains(&"own__query_table"),
        "{names:?}"
    );
    let called: Vec<_> = objects.iter().filter(|o| !o["tool"].is_null()).collect();
    assert_eq!(called[0]["result"], "449");
    assert_eq!(called[1]["ok"], false);
    assert!(
        told(&asked[2]).contains("`path` is missing"),
        "{}",
        told(&asked[2])
    );
    assert!(told(&asked[3]).contains("4711"));
    assert_eq!(
        objects.last().expect("an answer")["answer"],
        "449 and 4711."
    );
}

/// The model is not even asked: the address leads nowhere.
#[test]
fn files_and_servers_that_are_wrong_are_errors() {
    let Some(_) = program("agent") else {
        return;
    };
    let folder = tempfile::tempdir().expect("a folder");
    let error = |file: &Path| {
        let program = program("agent").expect("it was there");
        let program = program.args(["--base-url", "http://127.0.0.1:9/v1", "--ask", "q"]);
        program.arg("--mcp").arg(file).error(b"")
    };
    let none = error(&folder.path().join("none.json"));
    assert!(none.contains("none.json"), "{none}");
    let wrong = folder.path().join("wrong.json");
    for text in ["{", "[]", "{\"mcpServers\": {\"own\": {}}}"] {
        std::fs::write(&wrong, text).expect("the folder can be written");
        let said = error(&wrong);
        assert!(
            said.contains("wrong.json") || said.contains("own"),
            "{text}: {said}"
        );
    }
    let nobody = Path::new("no-such-program-of-a-server");
    let said = error(&file(folder.path(), nobody, &[]));
    assert!(
        said.contains("no-such-program-of-a-server") || said.contains("own"),
        "{said}"
    );
    // A program that is there and is no server of the protocol.
    let Some(server) = binary("internlm-mcp") else {
        return;
    };
    let said = error(&file(folder.path(), &server, &["dance"]));
    assert!(
        said.contains("own") && said.contains("usage: internlm-mcp"),
        "{said}"
    );
}
