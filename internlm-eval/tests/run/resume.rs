//! A run that is killed ends with the same figures, and asks nothing twice.

use std::collections::HashMap;
use std::fs;
use std::ops::ControlFlow;
use std::path::Path;
use std::process::{Command, Stdio};

use internlm_eval::{Error, Report, Run, RunConfig};

use crate::toy::{Made, Toy, all, as_benchmarks, figures};

fn run(folder: &Path, toy: &Toy, made: &[Made]) -> Result<Report, Error> {
    Run::new(RunConfig::default().with_folder(folder).with_score_batch(5))
        .with_scorer(toy)
        .with_chat_model(toy)
        .with_benchmarks(as_benchmarks(made))
        .execute()
}

#[test]
fn without_a_folder_the_figures_are_the_same() {
    let made = all();
    let folder = tempfile::tempdir().unwrap();
    let toy = Toy::new();
    let with = run(folder.path(), &toy, &made).unwrap();
    let without = Run::new(RunConfig::default())
        .with_scorer(&toy)
        .with_chat_model(&toy)
        .with_benchmarks(as_benchmarks(&made))
        .execute()
        .unwrap();
    assert_eq!(figures(&with), figures(&without));
    assert_eq!(with.benchmarks.len(), 6);
    assert_eq!(with.failed(), 0);
}

#[test]
fn a_finished_run_asks_nothing_again() {
    let made = all();
    let folder = tempfile::tempdir().unwrap();
    let first = run(folder.path(), &Toy::new(), &made).unwrap();
    let toy = Toy::new();
    let again = run(folder.path(), &toy, &made).unwrap();
    assert_eq!(toy.asked(), [] as [String; 0]);
    assert_eq!(figures(&first), figures(&again));
    assert_eq!(again.resumed, again.requests);
}

/// The journal is cut at every byte of its last line, at places in the one before, and at every line.
#[test]
fn any_cut_of_the_journal_gives_the_same_figures() {
    let made = vec![
        Made::new("choice", crate::toy::Kind::Choice, 3),
        Made::new("texts", crate::toy::Kind::Text(2), 2),
    ];
    let folder = tempfile::tempdir().unwrap();
    let toy = Toy::new();
    let want = figures(&run(folder.path(), &toy, &made).unwrap());
    let all_asked = toy.asked().len();
    let journal = fs::read(folder.path().join("journal.jsonl")).unwrap();
    let ends: Vec<usize> = (0..journal.len())
        .filter(|&i| journal[i] == b'\n')
        .map(|i| i + 1)
        .collect();
    let last = ends[ends.len() - 2];
    let torn = (ends[ends.len() - 3]..last).step_by(7);
    let whole = ends.iter().copied().filter(|&end| end < last);
    let cuts = whole.chain(torn).chain(last..=journal.len());
    for cut in cuts {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("journal.jsonl"), &journal[..cut]).unwrap();
        let toy = Toy::new();
        let report = run(folder.path(), &toy, &made).unwrap();
        assert_eq!(figures(&report), want, "cut at {cut}");
        // What whole lines hold is not asked again.
        let held = String::from_utf8_lossy(&journal[..cut]);
        let held = held
            .lines()
            .filter(|l| l.contains("\"type\":\"response\"") && l.ends_with('}'));
        let whole = held.count()
            - usize::from(
                cut < journal.len() && !ends.contains(&cut) && ends_whole(&journal[..cut]),
            );
        assert_eq!(toy.asked().len(), all_asked - whole, "cut at {cut}");
    }
}

/// Whether the torn last line is a response's that looks whole: all but the line feed is there.
fn ends_whole(bytes: &[u8]) -> bool {
    let last = bytes.rsplit(|&b| b == b'\n').next().unwrap_or_default();
    let text = String::from_utf8_lossy(last);
    text.contains("\"type\":\"response\"") && text.ends_with('}')
}

#[test]
fn a_run_can_be_stopped_and_goes_on() {
    let made = all();
    let folder = tempfile::tempdir().unwrap();
    let toy = Toy::new();
    let stop = |progress: &internlm_eval::run::Progress| match progress.done >= 20 {
        true => ControlFlow::Break(()),
        false => ControlFlow::Continue(()),
    };
    let config = RunConfig::default()
        .with_folder(folder.path())
        .with_score_batch(4)
        .with_progress_interval(std::time::Duration::ZERO);
    let error = Run::new(config)
        .with_scorer(&toy)
        .with_chat_model(&toy)
        .with_benchmarks(as_benchmarks(&made))
        .with_on_progress(&stop)
        .execute()
        .unwrap_err();
    let Error::Cancelled { done, total } = error else {
        panic!("{error}")
    };
    assert!(done >= 20 && done < total, "{done} {total}");
    let rest = Toy::new();
    let report = run(folder.path(), &rest, &made).unwrap();
    let whole = tempfile::tempdir().unwrap();
    let want = run(whole.path(), &Toy::new(), &made).unwrap();
    assert_eq!(figures(&report), figures(&want));
    assert_eq!(report.resumed, done);
}

#[test]
fn another_model_task_or_prompt_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let made = all();
    run(folder.path(), &Toy::new(), &made).unwrap();
    let differs = |toy: &Toy, made: &[Made], want: &str| match run(folder.path(), toy, made) {
        Err(Error::OtherRun { what, .. }) => assert_eq!(what, want),
        other => panic!("{other:?}"),
    };
    differs(&Toy::new().named("other"), &made, "model");
    let mut changed = all();
    changed[0].identity.prompt_hash = "x".to_owned();
    differs(&Toy::new(), &changed, "prompt of choice");
    let mut changed = all();
    changed[2].identity.shots = 5;
    differs(&Toy::new(), &changed, "number of shots of rolling");
    // The same hash, but other requests: a benchmark that says nothing of it.
    let mut changed = vec![Made::new("choice", crate::toy::Kind::Perplexity, 12)];
    changed[0].identity = all()[0].identity.clone();
    let error = run(folder.path(), &Toy::new(), &changed).unwrap_err();
    assert!(matches!(error, Error::OtherRun { .. }), "{error}");
    // And nothing of the folder was changed by that.
    let toy = Toy::new();
    run(folder.path(), &toy, &made).unwrap();
    assert!(toy.asked().is_empty());
}

#[test]
fn a_folder_can_grow() {
    let folder = tempfile::tempdir().unwrap();
    let made = all();
    let config = RunConfig::default()
        .with_folder(folder.path())
        .with_limit(2);
    let toy = Toy::new();
    Run::new(config)
        .with_scorer(&toy)
        .with_benchmark(&made[0])
        .execute()
        .unwrap();
    let toy = Toy::new();
    let report = run(folder.path(), &toy, &made).unwrap();
    let other = tempfile::tempdir().unwrap();
    let fresh = Toy::new();
    let want = run(other.path(), &fresh, &made).unwrap();
    assert_eq!(figures(&report), figures(&want));
    assert_eq!(toy.asked().len(), fresh.asked().len() - 8);
}

const CHILD: &str = "INTERNLM_EVAL_TEST_FOLDER";

/// What the killed process runs; on its own it does nothing.
#[test]
fn child_of_the_kill_test() {
    let Some(folder) = std::env::var_os(CHILD) else {
        return;
    };
    let made = many();
    let slow = |_: &internlm_eval::run::Progress| {
        std::thread::sleep(std::time::Duration::from_millis(2));
        ControlFlow::Continue(())
    };
    let toy = Toy::new();
    let config = RunConfig::default()
        .with_folder(folder)
        .with_score_batch(4)
        .with_progress_interval(std::time::Duration::ZERO);
    Run::new(config)
        .with_scorer(&toy)
        .with_chat_model(&toy)
        .with_benchmarks(as_benchmarks(&made))
        .with_on_progress(&slow)
        .execute()
        .unwrap();
}

fn many() -> Vec<Made> {
    vec![
        Made::new("choice", crate::toy::Kind::Choice, 40),
        Made::new("texts", crate::toy::Kind::Text(3), 40),
    ]
}

#[test]
fn a_process_that_is_killed_again_and_again_ends_with_the_same_figures() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal.jsonl");
    let length = || fs::metadata(&path).map_or(0, |meta| meta.len());
    for _ in 0..4 {
        let before = length();
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "resume::child_of_the_kill_test"])
            .env(CHILD, folder.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // Kill it in the midst of writing: once the journal has grown by some lines.
        while length() < before + 8_000 && child.try_wait().unwrap().is_none() {
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        child.kill().unwrap();
        child.wait().unwrap();
    }
    let report = run(folder.path(), &Toy::new(), &many()).unwrap();
    let other = tempfile::tempdir().unwrap();
    let want = run(other.path(), &Toy::new(), &many()).unwrap();
    assert_eq!(figures(&report), figures(&want));
    // Over all processes no answer was written twice.
    let journal = fs::read_to_string(&path).unwrap();
    let mut seen: HashMap<&str, usize> = HashMap::new();
    for line in journal
        .lines()
        .filter(|line| line.contains("\"type\":\"response\""))
    {
        *seen.entry(line).or_default() += 1;
    }
    assert_eq!(seen.len(), 40 * 4 + 40 * 3);
    assert!(seen.values().all(|&count| count == 1));
}
