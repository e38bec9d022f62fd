//! Runs programs and finds goldens.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use serde::de::DeserializeOwned;
use serde_json::Value;

/// A folder or file of the shared goldens.
pub(crate) fn goldens(path: &str) -> Option<PathBuf> {
    let root = std::env::var_os("INTERNLM_SHARED").map_or_else(
        || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared")),
        PathBuf::from,
    );
    found(root.join("goldens").join(path), "set INTERNLM_SHARED")
}

/// SmolLM2-135M-Instruct as GGUF.
pub(crate) fn smollm2() -> Option<PathBuf> {
    let file = std::env::var_os("INTERNLM_SMOLLM2_GGUF").map_or_else(
        || {
            PathBuf::from(concat!(
                env!("CARGO_MANIFEST_DIR"),
                "/../models/SmolLM2-135M-Instruct.Q4_1.gguf"
            ))
        },
        PathBuf::from,
    );
    found(
        file,
        "run examples/fetch_smollm2.sh or set INTERNLM_SMOLLM2_GGUF",
    )
}

#[allow(clippy::print_stdout, reason = "says why a test is skipped")]
fn found(path: PathBuf, how: &str) -> Option<PathBuf> {
    if path.exists() {
        return Some(path);
    }
    let ci = std::env::var("CI").is_ok_and(|v| v == "true");
    assert!(!ci, "{} is absent and CI=true; {how}", path.display());
    println!("skipped: {} is absent; {how}", path.display());
    None
}

pub(crate) fn read<T: DeserializeOwned>(file: &Path) -> T {
    let bytes = std::fs::read(file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
    serde_json::from_slice(&bytes).unwrap_or_else(|e| panic!("{}: {e}", file.display()))
}

/// A program with its arguments.
pub(crate) struct Program {
    name: &'static str,
    command: Command,
}

/// The folder of what was built.
fn built() -> PathBuf {
    let test = std::env::current_exe().expect("a test knows its own path");
    let profile = test.ancestors().nth(2);
    profile
        .expect("tests lie in target/PROFILE/deps")
        .to_owned()
}

/// A binary of another package; `None` where it was not built.
pub(crate) fn binary(name: &str) -> Option<PathBuf> {
    let file = built()
        .join(name)
        .with_extension(std::env::consts::EXE_EXTENSION);
    found(file, "run cargo build --workspace")
}

/// A program by its name; `None` where it was not built.
pub(crate) fn program(name: &'static str) -> Option<Program> {
    let file = built()
        .join("examples")
        .join(name)
        .with_extension(std::env::consts::EXE_EXTENSION);
    let mut command = Command::new(found(file, "run cargo build --examples")?);
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    Some(Program { name, command })
}

impl Program {
    pub(crate) fn arg(mut self, arg: impl AsRef<std::ffi::OsStr>) -> Self {
        self.command.arg(arg);
        self
    }

    pub(crate) fn args<const N: usize>(mut self, args: [&str; N]) -> Self {
        self.command.args(args);
        self
    }

    pub(crate) fn model(self, path: &Path) -> Self {
        self.arg("--model").arg(path)
    }

    pub(crate) fn dir(mut self, path: &Path) -> Self {
        self.command.current_dir(path);
        self
    }

    /// The same where no file may grow beyond so many blocks of `ulimit -f` (512 or 1024 bytes): a write
    /// beyond it fails, as on a full disk.
    #[cfg(unix)]
    pub(crate) fn with_file_limit(self, blocks: u32) -> Self {
        self.with_limit(&format!("trap '' XFSZ; ulimit -f {blocks}"))
    }

    /// The same with an address space of so many KiB.
    #[cfg(target_os = "linux")]
    pub(crate) fn with_memory_limit(self, kib: usize) -> Self {
        self.with_limit(&format!("ulimit -v {kib}"))
    }

    /// The same after a shell's commands.
    #[cfg(unix)]
    fn with_limit(mut self, commands: &str) -> Self {
        let script = format!("{commands}; exec \"$0\" \"$@\"");
        let mut command = Command::new("sh");
        command
            .arg("-c")
            .arg(script)
            .arg(self.command.get_program())
            .args(self.command.get_args())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        self.command = command;
        self
    }

    pub(crate) fn spawn(mut self) -> Child {
        self.command
            .spawn()
            .unwrap_or_else(|e| panic!("{}: {e}", self.name))
    }

    /// Runs to the end.
    pub(crate) fn output(self, stdin: &[u8]) -> Output {
        let mut child = self.spawn();
        let mut pipe = child.stdin.take().expect("stdin is piped");
        let stdin = stdin.to_vec();
        // The program may end before it has read everything.
        let writer = std::thread::spawn(move || pipe.write_all(&stdin));
        let output = child
            .wait_with_output()
            .expect("the program can be waited for");
        let _ = writer.join().expect("the writer does not panic");
        output
    }

    /// Runs to a success with `--json` and nothing on stderr; the objects of stdout.
    #[track_caller]
    pub(crate) fn objects<'a>(self, stdin: impl IntoIterator<Item = &'a Value>) -> Vec<Value> {
        let name = self.name;
        let lines: String = stdin
            .into_iter()
            .map(|value| format!("{value}\n"))
            .collect();
        let output = self.arg("--json").output(lines.as_bytes());
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success(),
            "{name}: {}: {stderr}",
            output.status
        );
        assert_eq!(stderr, "", "{name}: stderr");
        let stdout = String::from_utf8(output.stdout).expect("stdout is UTF-8");
        let parse =
            |line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{name}: {e}: {line}"));
        stdout.lines().map(parse).collect()
    }

    /// Runs to status 1 and one line `error: …`, which is returned.
    #[track_caller]
    pub(crate) fn error(self, stdin: &[u8]) -> String {
        let name = self.name;
        let output = self.output(stdin);
        let stderr = String::from_utf8(output.stderr).expect("stderr is UTF-8");
        assert_eq!(output.status.code(), Some(1), "{name}: {stderr}");
        assert!(stderr.starts_with("error: "), "{name}: {stderr}");
        assert_eq!(stderr.trim_end().lines().count(), 1, "{name}: {stderr}");
        assert!(!stderr.contains("this is a bug"), "{name}: {stderr}");
        stderr
    }
}

/// Files of a folder with their bytes.
pub(crate) fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = std::fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let file = |entry: std::io::Result<std::fs::DirEntry>| {
        let path = entry.expect("an entry").path();
        let name = path.file_name().expect("a name").to_string_lossy();
        (name.into_owned(), std::fs::read(&path).expect("a file"))
    };
    entries.map(file).collect()
}

pub(crate) fn floats(value: &Value) -> Vec<f32> {
    serde_json::from_value(value.clone()).expect("a list of numbers")
}

#[track_caller]
pub(crate) fn assert_close(got: &[f32], want: &[f32], tolerance: f32) {
    assert_eq!(got.len(), want.len());
    for (i, (got, want)) in got.iter().zip(want).enumerate() {
        assert!((got - want).abs() <= tolerance, "{i}: {got}, not {want}");
    }
}
