//! `python` and `shell`.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use internlm_agent::sandbox::{Sandbox, SandboxConfig};
use internlm_agent::tool::{Media, MediaSource, OutputPart, Tool, ToolContext, ToolError};
use internlm_agent::tools::Root;
use internlm_agent::tools::code::{CodeConfig, Python, shell};
use serde_json::json;

use super::support::{call, failure, limit, misfit, text};

fn sandbox_with(python: PathBuf) -> Arc<Sandbox> {
    // The helper program: a test can't be its own launcher, for its `main` is not ours.
    let config = SandboxConfig::default()
        .with_launcher(env!("CARGO_BIN_EXE_internlm-sandbox"))
        .with_python(python);
    Arc::new(Sandbox::new(config).unwrap())
}

fn sandbox() -> Arc<Sandbox> {
    // One that every user of the system can reach, if there is one.
    sandbox_with(match std::env::var_os("INTERNLM_SANDBOX_PYTHON") {
        Some(named) => named.into(),
        None if Path::new("/usr/bin/python3").exists() => "/usr/bin/python3".into(),
        None => "python3".into(),
    })
}

fn code(code: &str) -> serde_json::Value {
    json!({"code": code})
}

/// The first line of a new session.
const ANEW: &str = "[this is a new interpreter: variables, imports and files of before are gone]\n";

#[test]
fn what_one_call_defines_the_next_one_finds() {
    let python = Python::new(sandbox());
    assert_eq!(
        text(&python, code("x = 37 * 12")),
        "[it printed nothing and has no value]"
    );
    assert_eq!(
        text(&python, code("```python\nprint('数')\nx + 5\n```")),
        "数\n449"
    );
    assert_eq!(
        text(
            &python,
            code("import sys; print('odd', file=sys.stderr); x")
        ),
        "[errors]\nodd\n444"
    );
    // Another tool of the same sandbox is another session.
    let other = Python::new(sandbox());
    assert!(failure(&other, code("x")).ends_with("NameError: name 'x' is not defined"));
}

#[test]
fn errors_of_python_are_told_with_what_was_printed() {
    let python = Python::new(sandbox());
    let told = failure(&python, code("print('before')\ndef f(): return 1 / 0\nf()"));
    assert!(
        told.starts_with("before\nTraceback (most recent call last):\n"),
        "{told}"
    );
    assert!(
        told.contains("line 2, in f") && told.ends_with("ZeroDivisionError: division by zero"),
        "{told}"
    );
    assert!(failure(&python, code("1 +")).contains("SyntaxError"));
    assert_eq!(
        misfit(&python, json!({"program": "1"})),
        "`code` is missing; `program` is unknown (known are: code)"
    );
    assert_eq!(
        misfit(&python, json!({"code": 1})),
        "`code` must be string, not a number"
    );
}

#[test]
fn time_and_output_have_an_end() {
    let config = CodeConfig::default()
        .with_timeout(Duration::from_secs(2))
        .with_output_bytes(10);
    let python = Python::new(sandbox()).with_config(config);
    let told = limit(&python, code("x = 1\nprint('so')\nwhile True: pass"));
    assert_eq!(
        told,
        "so\nthe code was stopped after 2.0 s; variables and files are still there"
    );
    assert_eq!(text(&python, code("x")), "1");
    assert_eq!(
        text(&python, code("print('数' * 5)\n'y' * 100")),
        "数数数… [cut after 10 bytes]\n'yyyyyyyyy… [cut after 10 bytes]"
    );
    assert!(failure(&python, code("raise ValueError('x' * 1000)")).len() < 40);
    // The run's own time is shorter.
    let python = Python::new(sandbox());
    text(&python, code("1"));
    let mut context = ToolContext::default();
    context.deadline = Some(Instant::now() + Duration::from_millis(300));
    let result = python.call(&code("while True: pass"), &context);
    assert!(matches!(result, Err(ToolError::Limit { .. })), "{result:?}");
    let late = python.call(&code("1"), &context);
    assert!(matches!(late, Err(ToolError::Limit { .. })), "{late:?}");
}

#[test]
fn a_session_that_died_starts_again_and_says_so() {
    let python = Python::new(sandbox());
    text(&python, code("x = 1"));
    assert_eq!(
        failure(
            &python,
            code("import os; print('so', flush=True); os._exit(3)")
        ),
        "so\nthe interpreter ended (Exited(3)); the next call starts a new one"
    );
    let told = failure(&python, code("x"));
    assert!(
        told.starts_with(ANEW) && told.ends_with("NameError: name 'x' is not defined"),
        "{told}"
    );
    // It is said once.
    assert_eq!(text(&python, code("1 + 1")), "2");
    let stubborn = "import signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\nwhile True: pass";
    let python = Python::new(sandbox())
        .with_config(CodeConfig::default().with_timeout(Duration::from_secs(2)));
    assert_eq!(
        limit(&python, code(stubborn)),
        "the code was stopped after 2.0 s; so the interpreter was ended; the next call starts a new one"
    );
    assert_eq!(text(&python, code("1 + 1")), format!("{ANEW}2"));
}

/// Calls a tool and cancels the call half a second later.
#[track_caller]
fn cancelled(tool: &dyn Tool, arguments: &serde_json::Value) {
    let context = ToolContext::default();
    let result = std::thread::scope(|scope| {
        let call = scope.spawn(|| tool.call(arguments, &context));
        std::thread::sleep(Duration::from_millis(500));
        context.cancel.cancel();
        call.join().unwrap()
    });
    assert!(matches!(result, Err(ToolError::Cancelled)), "{result:?}");
}

#[test]
fn code_ends_when_the_run_is_cancelled() {
    let python = Python::new(sandbox());
    text(&python, code("x = 1"));
    cancelled(&python, &code("x = 2\nwhile True: pass"));
    // It stopped as it does when its time is up.
    assert_eq!(text(&python, code("x")), "2");
    let stubborn = "import signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\nwhile True: pass";
    cancelled(&python, &code(stubborn));
    assert_eq!(text(&python, code("1 + 1")), format!("{ANEW}2"));
    let script = shell(sandbox(), CodeConfig::default());
    cancelled(&script, &json!({"command": "sleep 60"}));
}

/// The pieces of a result behind its texts.
#[track_caller]
fn media(tool: &dyn Tool, arguments: serde_json::Value) -> (Vec<String>, Vec<OutputPart>) {
    let (mut texts, mut media) = (Vec::new(), Vec::new());
    for part in call(tool, arguments).unwrap().parts {
        match part {
            OutputPart::Text { text } => texts.push(text),
            other => media.push(other),
        }
    }
    (texts, media)
}

#[test]
fn files_go_in_and_come_out() {
    let python = Python::new(sandbox());
    python.put("in.csv", b"a,b\n1,2\n").unwrap();
    let program = "text = open('in.csv').read()\n\
                   open('out.csv', 'w').write(text.upper())\n\
                   open('dot.png', 'wb').write(b'\\x89PNG')\n\
                   open('tone.wav', 'wb').write(b'RIFF')\n\
                   None";
    let (texts, parts) = media(&python, code(program));
    let named =
        "[files: dot.png (4 bytes), in.csv (8 bytes), out.csv (8 bytes), tone.wav (4 bytes)]";
    assert_eq!(texts, ["[done]", named]);
    let of = |mime: &str, bytes: &[u8]| Media {
        mime: mime.to_owned(),
        source: MediaSource::Bytes(bytes.to_vec()),
    };
    let want = [
        OutputPart::Image {
            image: of("image/png", b"\x89PNG"),
        },
        OutputPart::File {
            file: of("text/csv", b"a,b\n1,2\n"),
        },
        OutputPart::File {
            file: of("text/csv", b"A,B\n1,2\n"),
        },
        OutputPart::Audio {
            audio: of("audio/wav", b"RIFF"),
        },
    ];
    assert_eq!(parts, want);
    // Only what is new comes back.
    assert_eq!(text(&python, code("1")), "1");
}

#[test]
fn files_are_saved_to_a_folder() {
    let place = tempfile::tempdir().unwrap();
    let root = Root::open(place.path()).unwrap();
    let python = Python::new(sandbox()).with_config(CodeConfig::default().with_save_to(root));
    let program = "import os\nos.mkdir('sub')\nopen('sub/plot.svg', 'w').write('<svg/>')";
    let saved = place.path().join("sub/plot.svg");
    assert_eq!(
        text(&python, code(program)),
        format!(
            "6\n[files: sub/plot.svg (6 bytes)]\n[image]({})",
            saved.display()
        )
    );
    assert_eq!(std::fs::read(saved).unwrap(), b"<svg/>");
}

#[test]
fn files_have_limits() {
    let config = CodeConfig::default().with_files(2).with_files_bytes(10);
    let python = Python::new(sandbox()).with_config(config);
    let program = "for n, size in enumerate([8, 8, 2, 0]): open(f'{n}.txt', 'w').write('x' * size)";
    let (texts, parts) = media(&python, code(program));
    let named = "[files: 0.txt (8 bytes), 1.txt (8 bytes, not handed out), 2.txt (2 bytes), \
                 3.txt (0 bytes, not handed out)]";
    assert_eq!(texts, ["[done]", named]);
    assert_eq!(parts.len(), 2);
    // A disk that is full is an error of Python, and no more.
    let told = failure(&python, code("open('big', 'wb').write(b'x' * (1 << 27))"));
    assert!(told.contains("OSError"), "{told}");
}

#[test]
fn a_figure_comes_back() {
    let named = std::env::var_os("INTERNLM_SANDBOX_NUMPY").map(PathBuf::from);
    assert!(
        named.is_some() || std::env::var_os("CI").is_none_or(|ci| ci != "true"),
        "CI=true and no INTERNLM_SANDBOX_NUMPY: it names a Python with numpy, sympy and matplotlib"
    );
    let python = named.clone().unwrap_or_else(|| "python3".into());
    let found = Command::new(&python)
        .args(["-I", "-c", "import matplotlib"])
        .output()
        .is_ok_and(|output| output.status.success());
    // Whoever names one wants this test to run.
    assert!(
        found || named.is_none(),
        "{} has no matplotlib",
        python.display()
    );
    if !found {
        println!("skipped: no matplotlib; INTERNLM_SANDBOX_NUMPY can name a Python that has it");
        return;
    }
    let tool = Python::new(sandbox_with(python))
        .with_config(CodeConfig::default().with_timeout(Duration::from_secs(60)));
    let (texts, parts) = media(
        &tool,
        code("import matplotlib.pyplot as plt\nplt.plot([1, 4, 9])\nNone"),
    );
    assert!(
        texts.last().unwrap().starts_with("[files: figure-1.png ("),
        "{texts:?}"
    );
    let [OutputPart::Image { image }] = parts.as_slice() else {
        panic!("{parts:?}");
    };
    let MediaSource::Bytes(bytes) = &image.source else {
        panic!("{image:?}");
    };
    assert!(image.mime == "image/png" && bytes.starts_with(b"\x89PNG"));
}

#[test]
fn a_script_runs_and_a_person_is_asked() {
    let tool = shell(sandbox(), CodeConfig::default());
    assert!(tool.needs_approval());
    let command = |command: &str| json!({"command": command});
    assert_eq!(
        text(&tool, command("printf '3\\n1\\n2\\n' | sort")),
        "1\n2\n3"
    );
    assert_eq!(text(&tool, command("true")), "[exit status 0]");
    assert_eq!(
        text(&tool, command("echo out; echo err >&2; exit 4")),
        "out\n[errors]\nerr\n[exit status 4]"
    );
    assert_eq!(
        text(
            &tool,
            command("cat /etc/shadow 2>/dev/null || echo refused")
        ),
        "refused"
    );
    let (texts, parts) = media(&tool, command("echo '{}' > a.json"));
    assert_eq!(texts, ["[exit status 0]", "[files: a.json (3 bytes)]"]);
    assert_eq!(parts.len(), 1);
    // The next one finds nothing of it.
    assert_eq!(text(&tool, command("ls")), "[exit status 0]");
    assert_eq!(
        misfit(&tool, json!({"cmd": "ls"})),
        "`command` is missing; `cmd` is unknown (known are: command)"
    );
}

#[test]
fn a_script_has_limits() {
    let config = CodeConfig::default()
        .with_timeout(Duration::from_secs(2))
        .with_output_bytes(10);
    let tool = shell(sandbox(), config);
    let told = limit(&tool, json!({"command": "echo so; sleep 60"}));
    assert_eq!(told, "so\nthe script was ended after 2.0 s");
    assert_eq!(
        text(
            &tool,
            json!({"command": "head -c 1000 /dev/zero | tr '\\0' x"})
        ),
        "xxxxxxxxxx… [cut after 10 bytes]"
    );
}
