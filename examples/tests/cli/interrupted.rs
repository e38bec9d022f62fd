//! `quantize` that is killed, and `quantize` on a disk that is full.

use std::path::Path;
use std::time::{Duration, Instant};

use super::quantize::{internlm2, quantize, text};
use super::support::{Program, files};

fn entries(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).expect("a folder");
    let name = |e: std::io::Result<std::fs::DirEntry>| e.expect("an entry").file_name();
    let mut names: Vec<_> = entries
        .map(|e| name(e).to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

/// The program with the same data every time.
fn run(data: &Path, model: &Path, out: &Path) -> Option<Program> {
    let run = quantize(model, out)?.args(["--group-size", "64", "--samples", "8"]);
    let run = run.args(["--seq-len", "128", "--threads", "1"]);
    Some(run.arg("--calib").arg(data.join("text.txt")))
}

/// Numbers of the blocks that are finished in a work folder.
fn finished(work: &Path) -> usize {
    let Ok(entries) = std::fs::read_dir(work) else {
        return 0;
    };
    let names = entries.flatten().map(|entry| entry.file_name());
    names
        .filter(|name| name.to_string_lossy().ends_with(".safetensors"))
        .count()
}

/// Killed after its first block, and once more after two others; then it runs to the end.
#[test]
fn a_killed_run_goes_on_and_ends_with_the_same_bytes() {
    let (data, scratch) = (
        tempfile::tempdir().expect("a folder"),
        tempfile::tempdir().expect("a folder"),
    );
    let Some(model) = internlm2(data.path()) else {
        return;
    };
    text(data.path());
    let whole = scratch.path().join("whole");
    let Some(uninterrupted) = run(data.path(), &model, &whole) else {
        return;
    };
    let objects = uninterrupted.objects([]);
    let (out, work) = (
        scratch.path().join("out"),
        scratch.path().join(".out.quantize"),
    );
    let first = work.join("block-00000.safetensors");
    let mut written = None;
    for blocks in [1, 3] {
        let mut child = run(data.path(), &model, &out).expect("was there").spawn();
        let patience = Instant::now() + Duration::from_secs(120);
        while finished(&work) < blocks {
            assert!(
                Instant::now() < patience,
                "block {blocks} is not there after two minutes"
            );
            assert!(
                child.try_wait().expect("a child").is_none(),
                "it ended before it was killed"
            );
            std::thread::sleep(Duration::from_millis(1));
        }
        child.kill().expect("can be killed");
        let status = child.wait().expect("a child");
        assert_eq!(
            std::os::unix::process::ExitStatusExt::signal(&status),
            Some(9)
        );
        assert!(!out.exists() && finished(&work) >= blocks);
        // What the first run finished, the second one leaves as it is.
        let modified = std::fs::metadata(&first).and_then(|m| m.modified());
        let modified = modified.expect("it is finished");
        assert_eq!(*written.get_or_insert(modified), modified);
    }
    let resumed = run(data.path(), &model, &out)
        .expect("was there")
        .objects([]);
    assert_eq!(resumed, objects);
    assert!(files(&out) == files(&whole), "a file differs");
    assert_eq!(entries(scratch.path()), ["out", "whole"]);
}

/// No room for a block, then no room for the checkpoint; then there is room.
#[test]
fn a_full_disk_is_named_and_nothing_is_half_written() {
    let (data, scratch) = (
        tempfile::tempdir().expect("a folder"),
        tempfile::tempdir().expect("a folder"),
    );
    let Some(model) = internlm2(data.path()) else {
        return;
    };
    text(data.path());
    let out = scratch.path().join("out");
    let Some(limited) = run(data.path(), &model, &out) else {
        return;
    };
    let error = limited.with_file_limit(8).error(b"");
    assert!(error.contains(".out.quantize/block-00000"), "{error}");
    assert!(error.contains("File too large"), "{error}");
    assert_eq!(entries(scratch.path()), [".out.quantize"]);
    assert_eq!(finished(&scratch.path().join(".out.quantize")), 0);

    let limited = run(data.path(), &model, &out).expect("was there");
    let error = limited.with_file_limit(2000).error(b"");
    assert!(
        error.contains(".out.tmp-") && error.contains("File too large"),
        "{error}"
    );
    assert_eq!(entries(scratch.path()), [".out.quantize"]);
    assert_eq!(finished(&scratch.path().join(".out.quantize")), 8);

    let whole = scratch.path().join("whole");
    run(data.path(), &model, &out)
        .expect("was there")
        .objects([]);
    run(data.path(), &model, &whole)
        .expect("was there")
        .objects([]);
    assert!(files(&out) == files(&whole), "a file differs");
    assert_eq!(entries(scratch.path()), ["out", "whole"]);
}
