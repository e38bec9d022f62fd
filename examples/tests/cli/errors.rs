//! Exit status and error lines, and that no input makes a program panic.

use std::path::Path;

use super::support::{Program, goldens, program};

const PROGRAMS: [&str; 9] = [
    "tokenize",
    "template",
    "logits",
    "generate",
    "chat",
    "loglikelihood",
    "perplexity",
    "bench",
    "quantize",
];

#[test]
fn help_is_a_success_and_wrong_usage_is_status_two() {
    for name in PROGRAMS {
        let Some(help) = program(name) else {
            return;
        };
        let help = help.arg("--help").output(b"");
        assert_eq!(help.status.code(), Some(0), "{name}");
        assert!(!help.stdout.is_empty(), "{name}");
        for wrong in [&[][..], &["--no-such-flag"], &["--model"]] {
            let mut run = program(name).expect("it was there");
            for arg in wrong {
                run = run.arg(arg);
            }
            let output = run.output(b"");
            assert_eq!(output.status.code(), Some(2), "{name} {wrong:?}");
            assert!(output.stdout.is_empty(), "{name} {wrong:?}");
        }
    }
}

#[test]
fn values_out_of_range_are_wrong_usage() {
    for (name, args) in [
        ("logits", ["--device", "gpu"]),
        ("logits", ["--dtype", "int3"]),
        ("generate", ["--threads", "0"]),
        ("generate", ["--act", "int2"]),
        ("bench", ["--reps", "0"]),
        ("bench", ["--shape", "gpt-5"]),
    ] {
        let Some(program) = program(name) else {
            return;
        };
        let output = program.args(["--model", "."]).args(args).output(b"");
        assert_eq!(output.status.code(), Some(2), "{name} {args:?}");
    }
}

/// With the arguments that a program can't do without, besides the model.
fn required(name: &str, program: Program) -> Program {
    match name {
        "perplexity" => program.args(["--text", file!()]),
        "quantize" => program.args(["--out", "no/such/folder"]),
        _ => program,
    }
}

#[test]
fn a_missing_model_is_an_error_that_says_what_was_expected() {
    for name in PROGRAMS {
        let Some(program) = program(name) else {
            return;
        };
        let program = required(name, program.model(Path::new("./no/such/model")));
        let program = program.dir(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/..")));
        let error = program.error(b"");
        assert!(error.contains("no/such/model"), "{name}: {error}");
        assert!(error.contains(".gguf"), "{name}: {error}");
    }
}

#[test]
fn a_device_that_was_not_built_in_is_an_error() {
    if cfg!(feature = "cuda") {
        println!("skipped: built with CUDA");
        return;
    }
    let Some((dir, program)) = goldens("models/internlm2-tiny").zip(program("logits")) else {
        return;
    };
    let error = program.model(&dir).args(["--device", "cuda"]).error(b"");
    assert!(error.contains("--features cuda"), "{error}");
}

#[test]
fn a_folder_without_a_model_is_an_error() {
    let dir = tempfile::tempdir().expect("a folder");
    for name in PROGRAMS {
        let Some(program) = program(name) else {
            return;
        };
        required(name, program.model(dir.path())).error(b"");
    }
}

#[test]
fn a_text_without_a_tokenizer_is_an_error_of_its_line() {
    let Some((dir, program)) = goldens("models/internlm2-tiny").zip(program("generate")) else {
        return;
    };
    let input = b"{\"ids\": [1], \"max_new_tokens\": 1}\n\n{\"text\": \"Hi\"}\n";
    let error = program.model(&dir).arg("--json").error(input);
    assert!(
        error.contains("line 3") && error.contains("tokenizer"),
        "{error}"
    );
}

/// Lines that no program takes.
const GARBAGE: [&[u8]; 11] = [
    b"not json\n",
    b"{\n",
    b"[]\n",
    b"{}\n",
    b"null\n",
    b"{\"ids\": [-1], \"messages\": 3, \"text\": 7, \"context\": null}\n",
    b"{\"ids\": [99999999999], \"messages\": [{}], \"text\": {}}\n",
    b"{\"ids\": \"x\", \"messages\": [{\"role\": \"nobody\", \"content\": \"x\"}]}\n",
    b"{\"ids\": [4000000000], \"messages\": [{\"role\": 1}], \"context\": \"\", \"continuation\": \"\"}\n",
    b"\xff\xfe\x00\n",
    b"{\"text\": \"\\ud800\"}\n",
];

#[test]
fn garbage_lines_are_errors_that_name_the_line() {
    let models = [
        ("tokenize", "tokenizers/internlm2", &[][..]),
        ("tokenize", "tokenizers/internlm2", &["--decode"]),
        ("tokenize", "tokenizers/internlm", &["--stream"]),
        ("template", "tokenizers/internlm2", &[]),
        ("logits", "models/internlm2-tiny", &[]),
        ("generate", "models/internlm2-tiny", &[]),
    ];
    for (name, model, args) in models {
        for garbage in GARBAGE {
            let Some((dir, mut program)) = goldens(model).zip(program(name)) else {
                return;
            };
            for arg in args {
                program = program.arg(arg);
            }
            let error = program.model(&dir).arg("--json").error(garbage);
            assert!(
                error.contains("standard input, line 1: "),
                "{name}: {error}"
            );
        }
    }
}

#[test]
fn deeply_nested_json_is_an_error() {
    let Some((dir, program)) = goldens("tokenizers/internlm2").zip(program("template")) else {
        return;
    };
    let error = program.model(&dir).error("[".repeat(100_000).as_bytes());
    assert!(error.contains("line 1"), "{error}");
}

#[test]
fn prompts_that_do_not_fit_are_errors_with_both_numbers() {
    let Some((dir, program)) = goldens("models/internlm2-tiny").zip(program("generate")) else {
        return;
    };
    let ids = vec!["7"; 256].join(",");
    let error = program
        .model(&dir)
        .error(format!("{{\"ids\": [{ids}]}}").as_bytes());
    assert!(
        error.contains("256 tokens") && error.contains("holds 256"),
        "{error}"
    );
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let Some((dir, program)) = goldens("tokenizers/internlm2").zip(program("tokenize")) else {
        return;
    };
    let mut child = program.model(&dir).spawn();
    drop(child.stdout.take());
    let mut stdin = child.stdin.take().expect("stdin is piped");
    for _ in 0..100 {
        // Fails once the program has ended, which is what is waited for.
        let _ = std::io::Write::write_all(&mut stdin, b"{\"text\": \"a\"}\n");
    }
    drop(stdin);
    let output = child.wait_with_output().expect("it ends");
    assert_eq!(
        (output.status.code(), output.stderr.as_slice()),
        (Some(0), &b""[..])
    );
}
