//! Python's `huggingface_hub` and we read each other's cache.

use std::process::Command;
use std::sync::OnceLock;

use super::server::COMMIT;
use super::{CONFIG, Cache, FILES, fetch, model, without_settings};

/// Whether `huggingface_hub` is there; looked up once, and again where a busy machine refused it: it was
/// seen to fail one time in a dozen runs of the whole suite, beside two compilers.
fn importable() -> &'static Result<(), String> {
    static ANSWER: OnceLock<Result<(), String>> = OnceLock::new();
    ANSWER.get_or_init(|| {
        let mut answer = Ok(());
        for _ in 0..3 {
            let mut command = Command::new("python3");
            answer = match command.args(["-c", "import huggingface_hub"]).output() {
                Ok(output) if output.status.success() => return Ok(()),
                Ok(output) => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
                Err(error) => Err(error.to_string()),
            };
        }
        answer
    })
}

/// Runs a script with `huggingface_hub`, or says why not; with `CI=true` its absence is a failure.
fn python(script: &str, arguments: &[&str]) -> Option<String> {
    if let Err(reason) = importable() {
        let ci = std::env::var("CI").is_ok_and(|value| value == "true");
        assert!(
            !ci,
            "python3 can't import huggingface_hub and CI=true: {reason}"
        );
        println!("skipped: python3 can't import huggingface_hub; pip install huggingface_hub");
        return None;
    }
    let mut command = Command::new("python3");
    without_settings(&mut command);
    let home = tempfile::tempdir().unwrap();
    command
        .env("HF_HOME", home.path())
        .env("HF_HUB_DISABLE_TELEMETRY", "1");
    let output = command
        .args(["-c", script])
        .args(arguments)
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    Some(String::from_utf8(output.stdout).unwrap())
}

#[test]
fn python_reads_ours() {
    let (hub, cache) = (model(), Cache::new());
    let folder = fetch("org/name", &hub, &cache).run().unwrap();
    let script = "
import sys, huggingface_hub as h
info = h.scan_cache_dir(sys.argv[1])
print(len(info.warnings), *info.warnings)
for repo in info.repos:
    print(repo.repo_id, repo.repo_type, repo.nb_files, repo.size_on_disk)
    for revision in repo.revisions:
        print(revision.commit_hash, *sorted(revision.refs), *sorted(f.file_name for f in revision.files))
print(h.hf_hub_download('org/name', 'config.json', cache_dir=sys.argv[1], local_files_only=True))
print(h.snapshot_download('org/name', cache_dir=sys.argv[1], local_files_only=True))
";
    let Some(got) = python(script, &[cache.path().to_str().unwrap()]) else {
        return;
    };
    let size = CONFIG.len() + 6 + 2 + 700_001 + 300_000;
    let (folder, names) = (folder.display(), FILES.join(" "));
    let want = format!(
        "0\norg/name model 5 {size}\n{COMMIT} main {names}\n{folder}/config.json\n{folder}\n"
    );
    assert_eq!(got, want);
}

#[test]
fn we_read_python_s() {
    let (hub, cache) = (model(), Cache::new());
    let script = "
import sys, huggingface_hub as h
for name in sys.argv[3:]:
    print(h.hf_hub_download('org/name', name, cache_dir=sys.argv[1], endpoint=sys.argv[2], token=False))
";
    let mut arguments = vec![cache.path().to_str().unwrap(), hub.url.as_str()];
    arguments.extend(FILES);
    if python(script, &arguments).is_none() {
        return;
    }
    let offline = fetch("org/name", &hub, &cache)
        .with_offline(true)
        .run()
        .unwrap();
    let before = cache.listing();
    hub.clear_log();
    let folder = fetch("org/name", &hub, &cache).run().unwrap();
    assert_eq!(folder, offline);
    assert_eq!(hub.log().len(), 1, "{:?}", hub.log());
    assert_eq!(cache.listing(), before);
}
