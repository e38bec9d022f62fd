//! How long a session takes to start, a call, and a run from start to end.
//!
//! The baseline is the interpreter itself, started without walls. Medians of many, printed.

use std::process::Command;
use std::time::{Duration, Instant};

use internlm_agent::sandbox::{self, Sandbox, SandboxConfig};
use internlm_core::CodeExecutor;
use internlm_core::code_executor::CodeRequest;

const LONG: Duration = Duration::from_secs(60);

#[allow(clippy::print_stdout, reason = "a report is what a benchmark is for")]
fn measure(what: &str, rounds: usize, mut run: impl FnMut()) {
    let mut times: Vec<Duration> = (0..rounds)
        .map(|_| {
            let begin = Instant::now();
            run();
            begin.elapsed()
        })
        .collect();
    times.sort_unstable();
    let at = |part: usize| times[(times.len() * part / 100).min(times.len() - 1)];
    println!(
        "{what:<40} median {:>10.2?}   90 % {:>10.2?}",
        at(50),
        at(90)
    );
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    sandbox::init();
    let mut config = SandboxConfig::default();
    if let Some(python) = std::env::var_os("INTERNLM_SANDBOX_PYTHON") {
        config = config.with_python(python);
    }
    let python = config.python.clone().unwrap_or_else(|| "python3".into());
    let sandbox = Sandbox::new(config)?;
    let mut session = sandbox.session()?;
    measure("baseline: python -I -c pass", 50, || {
        let status = Command::new(&python).args(["-I", "-c", "pass"]).status();
        assert!(status.is_ok_and(|status| status.success()));
    });
    measure("a session, started and ended", 50, || {
        assert!(sandbox.session().is_ok());
    });
    let mut kept = Vec::new();
    measure("a session, started", 20, || {
        kept.extend(sandbox.session());
    });
    assert_eq!(kept.len(), 20);
    drop(kept);
    measure("a call: x = 1", 500, || {
        assert!(session.call("x = 1", LONG).is_ok());
    });
    measure("a call: print, value, file", 500, || {
        assert!(
            session
                .call("print(x); open('f', 'w').write('x')", LONG)
                .is_ok()
        );
    });
    let request = CodeRequest::new("python", "print(1)").with_timeout(LONG);
    measure("a run: python", 50, || {
        assert!(
            sandbox
                .run(&request)
                .is_ok_and(|output| output.stdout == "1\n")
        );
    });
    let request = CodeRequest::new("bash", "echo 1").with_timeout(LONG);
    measure("a run: bash", 50, || {
        assert!(
            sandbox
                .run(&request)
                .is_ok_and(|output| output.stdout == "1\n")
        );
    });
    Ok(())
}
