//! OpenAI's official clients as peers, of a server with all features.
#![cfg(feature = "guided")]
#![allow(clippy::print_stdout, reason = "a skipped test says so")]

use std::path::PathBuf;
use std::process::Command;

use crate::fixture::{CONTEXT, Server, config, engine_config};

/// Where `tests/clients/install.sh` has put them.
fn installed() -> PathBuf {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/clients");
    std::env::var_os("INTERNLM_OPENAI_CLIENTS").map_or(folder.into(), PathBuf::from)
}

/// Runs a client against a server, if the client is there.
#[track_caller]
fn check(program: PathBuf, probe: &[&str], script: &str) {
    let command = || {
        let mut command = Command::new(&program);
        command.env("NODE_PATH", installed().join("node_modules"));
        command
    };
    let there = command()
        .args(probe)
        .output()
        .is_ok_and(|o| o.status.success());
    // CI installs them: there a skipped test would be a test that nobody runs.
    assert!(
        there || std::env::var_os("CI").is_none(),
        "no openai in {}",
        installed().display()
    );
    if !there {
        println!(
            "skipped: {} has no openai; run internlm-serve/tests/clients/install.sh or set \
             INTERNLM_OPENAI_CLIENTS",
            program.display()
        );
        return;
    }
    let server = Server::with(engine_config(16 * CONTEXT), config().with_api_key("sesame"));
    let script = format!("{}/tests/clients/{script}", env!("CARGO_MANIFEST_DIR"));
    let url = format!("http://{}/v1", server.address);
    let output = command().args([&script, &url, "sesame"]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    println!("{said}");
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}\n{complaint}");
    // Nothing is left of the streams that it left.
    server.wait_until_free();
}

#[test]
fn the_python_client_works() {
    let python = installed().join("bin/python3");
    check(python, &["-c", "import openai"], "client.py");
}

#[test]
fn the_node_client_works() {
    check("node".into(), &["-e", "require('openai')"], "client.cjs");
}
