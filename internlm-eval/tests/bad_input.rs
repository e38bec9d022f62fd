//! Data and task files that are wrong: each is a typed error that names the file and the place.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::path::Path;

use internlm_eval::data::{self, ReadOptions};
use internlm_eval::{Benchmark, Error, Task, TaskOptions, TaskSpec, task};

fn read(name: &str, bytes: &[u8]) -> internlm_eval::Result<data::Dataset> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join(name);
    std::fs::write(&file, bytes).unwrap();
    data::read(&[file], &ReadOptions::default())
}

#[track_caller]
fn refused(name: &str, bytes: &[u8], line: usize, want: &str) {
    let error = read(name, bytes).unwrap_err();
    let text = error.to_string();
    assert!(text.contains(name) && text.contains(want), "{text}");
    match error {
        Error::BrokenLine { line: at, .. } | Error::Encoding { line: at, .. } => {
            assert_eq!(at, line, "{text}");
        }
        Error::EmptySplit { .. } | Error::Format { .. } | Error::DataFeature { .. } => {
            assert_eq!(line, 0, "{text}");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn broken_files() {
    refused(
        "a.jsonl",
        b"{\"a\": 1}\n{\"a\": \n",
        2,
        "not JSON at column",
    );
    refused(
        "a.jsonl",
        b"{\"a\": 1}\n\n[1]\n",
        3,
        "an object was expected",
    );
    refused("a.jsonl", b"\n \n", 0, "no rows");
    refused("a.json", b"{\"a\": 1}", 1, "an array of rows");
    refused("a.json", b"[\n{\"a\": 1},\n{]\n", 3, "not JSON");
    refused("a.json", b"[1]", 1, "row 0");
    refused(
        "a.csv",
        b"a,b\n1,2\n1,2,3\n",
        3,
        "3 fields, 2 were expected (a, b)",
    );
    refused("a.csv", b"a,b\n", 0, "no rows");
    refused("a.csv", b"", 0, "no rows");
    refused("a.xyz", b"a", 0, "format is not known");
    refused("a.parquet", b"PAR1", 0, "arquet");
}

#[test]
fn other_encodings() {
    // The word for "answer" in GBK.
    refused("a.csv", b"q,a\nx,\xb4\xf0\xb0\xb8\n", 2, "it may be GBK");
    refused("a.jsonl", b"\xff\xfe{\0}\0", 1, "UTF-16");
    refused("a.jsonl", b"{\0\"\0\xe9\0", 1, "UTF-16");
    refused(
        "a.jsonl",
        b"{\"a\": \"caf\xe9 \"}\n",
        1,
        "not UTF-8: byte 11 is 0xe9",
    );
    let marked = read("a.csv", b"\xef\xbb\xbfq,a\nx,1\n").unwrap();
    assert_eq!(marked.rows[0]["q"], "x");
}

#[test]
fn only_a_newline_ends_a_line() {
    let read = read(
        "a.jsonl",
        "{\"a\": \"x\u{2028}y\u{85}z\"}\r\n{\"a\": \"\"}".as_bytes(),
    )
    .unwrap();
    assert_eq!(read.rows.len(), 2);
    assert_eq!(read.rows[0]["a"], "x\u{2028}y\u{85}z");
}

#[test]
fn quoted_fields_and_their_lines() {
    let read = read("a.tsv", b"a\tb\n\"x\"\"y\"\t\"two\nlines\"\n").unwrap();
    assert_eq!(read.rows[0]["a"], "x\"y");
    assert_eq!(read.rows[0]["b"], "two\nlines");
    assert_eq!(read.hash.len(), 64);
}

/// The hash is of the whole file, whatever part of it is kept.
#[test]
fn a_limit_keeps_the_hash() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a.jsonl");
    std::fs::write(&file, "{\"a\": 1}\n{\"a\": 2}\n{broken").unwrap();
    let limited = ReadOptions {
        limit: Some(1),
        ..ReadOptions::default()
    };
    let read = data::read(std::slice::from_ref(&file), &limited).unwrap();
    assert_eq!(read.rows.len(), 1);
    let all = std::fs::read(&file).unwrap();
    let hash = <sha2::Sha256 as sha2::Digest>::digest(&all);
    let hash: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(read.hash, hash);
}

const TASK: &str = r#"
name = "t"
mode = "multiple_choice"
prompt = "{{ q }}"
choices = "c"
gold = "g"
data.file = "t.jsonl"
"#;

#[track_caller]
fn refused_task(toml: &str, key: &str, want: &str) {
    let error = TaskSpec::from_toml(toml, Path::new("t.toml")).unwrap_err();
    let text = error.to_string();
    assert!(
        text.contains("t.toml") && text.contains(key) && text.contains(want),
        "{text}"
    );
}

#[test]
fn task_files() {
    refused_task(
        &format!("{TASK}\nchoises = 1"),
        "line 9",
        "unknown field `choises`",
    );
    refused_task(
        &format!("{TASK}\n[fewshot]\nshotz = 1"),
        "fewshot",
        "unknown field `shotz`",
    );
    refused_task(
        "name = 'x'\nmode = 'guess'\n",
        "mode",
        "unknown variant `guess`",
    );
    refused_task("name = 'x'\nmode = ", "line 2", "");
    refused_task("name = 'x'\nmode = 'generate'", "`prompt`", "needs it");
    refused_task(&TASK.replace("\"c\"", "\"c c\""), "`choices`", "");
    refused_task(&TASK.replace("{{ q }}", "{{ q"), "`prompt`", "");
    refused_task(
        &format!("{TASK}\nmetric = [{{ name = 'bleu' }}]"),
        "metric[0].kind",
        "does not give",
    );
    refused_task(
        &format!("{TASK}\nmetric = [{{ name = 'best' }}]"),
        "metric[0].name",
        "`best`",
    );
    let generate = "name = 'x'\nmode = 'generate'\nprompt = 'a'\n";
    refused_task(
        &format!(
            "{generate}filter = [{{ name = 'f', steps = [{{ regex = {{ pattern = '(' }} }}] }}]"
        ),
        "filter[0].steps",
        "",
    );
    refused_task(
        &format!("{generate}metric = [{{ name = 'exact_match', regexes_to_ignore = ['['] }}]"),
        "metric[0].regexes_to_ignore[0]",
        "",
    );
    refused_task(
        &format!("{generate}metric = [{{ name = 'pass_at_k', k = [2], program = 'a' }}]"),
        "metric[0].k",
        "from 1 to the 1 samples",
    );
    refused_task(
        &format!("{generate}[[prepare]]\ntext = 'a'"),
        "prepare[0].set",
        "",
    );
}

fn run(toml: &str, rows: &str) -> internlm_eval::Result<usize> {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("t.jsonl"), rows).unwrap();
    let spec = TaskSpec::from_toml(toml, Path::new("t.toml"))?;
    let task = Task::new(&spec, None, folder.path(), &TaskOptions::default())?;
    task.items(None).map(|items| items.len())
}

#[test]
fn rows_that_do_not_fit() {
    assert_eq!(
        run(TASK, "{\"q\": \"a\", \"c\": [\"x\", \"xy\"], \"g\": 0}").unwrap(),
        1
    );
    let missing = run(
        TASK,
        "{\"q\": \"a\", \"c\": [\"x\"], \"g\": 0}\n{\"c\": [\"x\"], \"g\": 0}",
    );
    let text = missing.unwrap_err().to_string();
    assert!(
        text.contains("`prompt`, row 1") && text.contains("undefined"),
        "{text}"
    );
    let empty = run(TASK, "{\"q\": \"a\", \"c\": [], \"g\": 0}")
        .unwrap_err()
        .to_string();
    assert!(empty.contains("no choices"), "{empty}");
    let number = run(TASK, "{\"q\": \"a\", \"c\": [1], \"g\": 0}")
        .unwrap_err()
        .to_string();
    assert!(number.contains("is not a text"), "{number}");
    let endless = TASK.replace(
        "{{ q }}",
        "{% for i in range(9999) %}{% for j in range(9999) %}{{ j }}{% endfor %}{% endfor %}",
    );
    let text = run(&endless, "{\"q\": \"a\", \"c\": [\"x\"], \"g\": 0}")
        .unwrap_err()
        .to_string();
    assert!(text.contains("does not end"), "{text}");
    let shots = format!("{TASK}\n[fewshot]\nshots = 3\nleave_self_out = true");
    let few = run(&shots, "{\"q\": \"a\", \"c\": [\"x\"], \"g\": 0}").unwrap_err();
    assert!(
        matches!(
            few,
            Error::Shots {
                wanted: 4,
                pool: 1,
                ..
            }
        ),
        "{few:?}"
    );
}

#[test]
fn columns_and_splits() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("gsm8k")).unwrap();
    let options = TaskOptions::default();
    let load = || task::load("gsm8k", None, folder.path(), &options).unwrap_err();
    let text = load().to_string();
    assert!(
        text.contains("no file for the split `test`") && text.contains("test.jsonl"),
        "{text}"
    );
    std::fs::write(
        folder.path().join("gsm8k/train.jsonl"),
        "{\"question\": 1, \"answer\": 1}",
    )
    .unwrap();
    let text = load().to_string();
    assert!(text.contains("there are files for `train`"), "{text}");
    std::fs::write(
        folder.path().join("gsm8k/test.jsonl"),
        "{\"question\": 1, \"reply\": 1}",
    )
    .unwrap();
    let text = load().to_string();
    assert!(
        text.contains("test.jsonl") && text.contains("`answer`"),
        "{text}"
    );
    assert!(text.contains("question, reply"), "{text}");
}
