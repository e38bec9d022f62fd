//! The programs that need a real model with a tokenizer: SmolLM2-135M-Instruct.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::support::{program, smollm2};

/// Our own words, so that nothing has to be fetched.
const PROSE: &str = "A cache holds what was computed before, so that it need not be computed again. \
    The keys and values of earlier tokens do not change when a new token is read, and therefore a \
    model keeps them. The longer the text, the more there is to keep and to read at every step. ";

#[test]
fn generate_continues_text() {
    let Some((file, program)) = smollm2().zip(program("generate")) else {
        return;
    };
    let program = program
        .model(&file)
        .args(["--greedy", "--max-new-tokens", "8"]);
    let got = program.objects(&[
        json!({ "text": "The capital of France is" }),
        json!({ "text": "One, two, three,", "max_new_tokens": 3 }),
    ]);
    assert!(
        got[0]["text"]
            .as_str()
            .is_some_and(|text| text.contains("Paris")),
        "{}",
        got[0]
    );
    assert_eq!(got[1]["finish_reason"], "length");
    assert_eq!(got[1]["ids"].as_array().map(Vec::len), Some(3));
}

#[test]
fn generate_stops_at_a_text() {
    let Some((file, program)) = smollm2().zip(program("generate")) else {
        return;
    };
    let program =
        program
            .model(&file)
            .args(["--greedy", "--max-new-tokens", "40", "--stop", "Paris"]);
    let got = program.objects(&[json!({ "text": "The capital of France is" })]);
    assert_eq!(got[0]["finish_reason"], "stop");
    assert!(
        got[0]["text"]
            .as_str()
            .is_some_and(|text| !text.contains("Paris")),
        "{}",
        got[0]
    );
}

#[test]
fn loglikelihood_scores_each_line() {
    let Some((file, program)) = smollm2().zip(program("loglikelihood")) else {
        return;
    };
    let context = "The capital of France is";
    let got = program.model(&file).objects(&[
        json!({ "context": context, "continuation": " Paris" }),
        json!({ "context": context, "continuation": " a small town in Ohio" }),
        json!({ "context": "", "continuation": "Hello" }),
    ]);
    assert_eq!(got.len(), 3);
    let logprob = |i: usize| got[i]["logprob"].as_f64().expect("a number");
    assert!(logprob(0) > logprob(1) && logprob(0) < 0.0, "{got:?}");
    assert_eq!(
        (&got[0]["num_tokens"], &got[0]["is_greedy"]),
        (&json!(1), &json!(true))
    );
    assert_eq!(got[1]["is_greedy"], json!(false));
}

#[test]
fn perplexity_counts_windows_and_predictions() {
    let Some(file) = smollm2() else {
        return;
    };
    let dir = tempfile::tempdir().expect("a folder");
    let text = dir.path().join("prose.txt");
    std::fs::write(&text, PROSE.repeat(3)).expect("a file");
    let run = |more: &[&str]| -> Option<Value> {
        let mut program = program("perplexity")?.model(&file).arg("--text").arg(&text);
        for arg in more {
            program = program.arg(arg);
        }
        program.objects(&[]).pop()
    };
    let Some(all) = run(&["--window", "32"]) else {
        return;
    };
    let windows = all["windows"].as_u64().expect("a count");
    assert!(windows >= 4, "{all}");
    assert_eq!(all["tokens"], windows * 31);
    assert!(
        all["ppl"]
            .as_f64()
            .is_some_and(|ppl| ppl > 1.0 && ppl < 1000.0),
        "{all}"
    );
    let one = run(&["--window", "32", "--max-windows", "1"]).expect("it ran before");
    assert_eq!(one["tokens"], 31);
    assert_ne!(one["ppl"], all["ppl"]);
}

#[test]
fn chat_answers_once() {
    let Some((file, program)) = smollm2().zip(program("chat")) else {
        return;
    };
    let program = program.model(&file).args([
        "--greedy",
        "--max-new-tokens",
        "24",
        "--system",
        "Be brief.",
    ]);
    let got = program
        .args(["--once", "What is the capital of France?"])
        .objects(&[]);
    assert!(
        got[0]["text"]
            .as_str()
            .is_some_and(|text| text.contains("Paris")),
        "{}",
        got[0]
    );
    let usage = &got[0]["usage"];
    let count = |field: &str| usage[field].as_u64().expect("a count");
    assert!(
        count("prompt_tokens") > 10 && count("completion_tokens") > 0,
        "{usage}"
    );
    assert_eq!(
        count("total_tokens"),
        count("prompt_tokens") + count("completion_tokens")
    );
}

/// What a conversation of several lines prints and saves.
fn talk(more: &[&str], lines: &str) -> Option<(String, Value)> {
    let (file, mut program) = smollm2().zip(program("chat"))?;
    let dir = tempfile::tempdir().expect("a folder");
    for arg in more {
        program = program.arg(arg);
    }
    let program = program
        .model(&std::path::absolute(file).expect("a path"))
        .arg("--greedy")
        .dir(dir.path());
    let output = program.output(format!("{lines}/save saved.json\n/exit\nnot read\n").as_bytes());
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    let left: Vec<_> = std::fs::read_dir(dir.path()).expect("a folder").collect();
    assert_eq!(left.len(), 1, "{left:?}");
    let saved = std::fs::read(dir.path().join("saved.json")).expect("it was saved");
    let stdout = String::from_utf8(output.stdout).expect("UTF-8");
    Some((stdout, serde_json::from_slice(&saved).expect("JSON")))
}

#[test]
fn chat_keeps_the_conversation() {
    let lines = "My name is Ada.\\\nRemember it.\n/system Be brief.\nWhat is my name?\n";
    let Some((stdout, saved)) = talk(&["--max-new-tokens", "12"], lines) else {
        return;
    };
    let messages = saved["messages"].as_array().expect("messages");
    let roles: Vec<_> = messages
        .iter()
        .map(|m| m["role"].as_str().expect("a role"))
        .collect();
    assert_eq!(roles, ["system", "user", "assistant", "user", "assistant"]);
    assert_eq!(messages[1]["content"], "My name is Ada.\nRemember it.");
    let mut want = String::new();
    for answer in [&messages[2], &messages[4]] {
        writeln!(want, "{}", answer["content"].as_str().expect("a text")).expect("a string grows");
    }
    assert_eq!(stdout, want);
}

#[test]
fn chat_answers_the_same_from_a_cache() {
    let Some((_, with)) = talk(
        &["--max-new-tokens", "12"],
        "Name a colour.\nAnd another one.\n",
    ) else {
        return;
    };
    let messages = with["messages"].as_array().expect("messages");
    // The second answer alone: the same conversation without anything in the cache.
    let first = json!({ "messages": [messages[0], messages[1], messages[2]] });
    let (file, render) = smollm2().zip(program("template")).expect("they were there");
    let prompt = render.model(&file).objects(&[first]).remove(0);
    let generate = program("generate").expect("it was there").model(&file);
    let line = json!({ "ids": prompt["ids"], "max_new_tokens": 12 });
    let got = generate.arg("--greedy").objects(&[line]);
    assert_eq!(got[0]["text"], messages[3]["content"]);
}

#[test]
fn chat_drops_the_oldest_turns_and_keeps_the_system_prompt() {
    let lines: String = (0..6)
        .map(|i| format!("This is remark number {i}, and it is a long one.\n"))
        .collect();
    let more = [
        "--max-new-tokens",
        "8",
        "--context",
        "128",
        "--system",
        "Be brief.",
    ];
    let Some((_, saved)) = talk(&more, &lines) else {
        return;
    };
    let messages = saved["messages"].as_array().expect("messages");
    assert_eq!(messages[0]["role"], "system");
    assert!(messages.len() < 13, "{messages:?}");
    let last = messages[messages.len() - 2]["content"]
        .as_str()
        .expect("a text");
    assert!(last.contains("number 5"), "{last}");
}

#[test]
fn hello_answers() {
    let Some((file, program)) = smollm2().zip(program("hello")) else {
        return;
    };
    let output = program
        .arg(&file)
        .arg("What is the capital of France? One word.")
        .output(b"");
    assert!(output.status.success());
    assert!(!output.stdout.is_empty());
}
