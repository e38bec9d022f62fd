//! The HTML pages, made of toy benchmarks with everything that is hard to show: long and hostile names, failed items,
//! a grid, groups, a comparison. `tests/page/run.mjs` opens them in a browser.

use std::fs;
use std::path::PathBuf;

use internlm_eval::{Report, Run, RunConfig};

use crate::toy::{Kind, Made, Toy, all, as_benchmarks};

/// Markup that would do something if it were taken for markup.
const HOSTILE: &str = "<img src=x onerror=\"document.title='broken'\"></script><script>document.title='broken'</script>";

fn report(model: &str, poison: &'static str) -> Report {
    let mut made = all();
    made.push(Made::new(HOSTILE, Kind::Choice, 3));
    made.push(Made::new(
        &"很长的名字_and_a_long_name_".repeat(6),
        Kind::Text(1),
        30,
    ));
    made[0] = Made::new("choice", Kind::Choice, 60);
    let toy = Toy::new().named(model).poisoned(poison);
    Run::new(RunConfig::default().with_concurrency(1).with_score_batch(1))
        .with_scorer(&toy)
        .with_chat_model(&toy)
        .with_benchmarks(as_benchmarks(&made))
        .execute()
        .unwrap()
}

/// With `INTERNLM_EVAL_TEST_PAGES=FOLDER` the pages stay there.
#[test]
fn pages_of_everything_that_is_hard_to_show() {
    let (first, second) = (
        report("org/toy", "choice 7."),
        report("org/toy-2", "choice 11."),
    );
    let page = first.html();
    let compared = second.html_compared(&first.compare(&second));
    assert!(first.failed() > 0 && second.failed() > 0);
    for page in [&page, &compared] {
        assert!(page.starts_with("<!doctype html>") && !page.contains("<img"));
        assert!(page.contains("class=\"heatmap\"") && page.contains("class=\"bars\""));
    }
    assert!(!page.contains("class=\"comparison\"") && compared.contains("class=\"comparison\""));
    if let Some(folder) = std::env::var_os("INTERNLM_EVAL_TEST_PAGES").map(PathBuf::from) {
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("report.html"), page).unwrap();
        fs::write(folder.join("comparison.html"), compared).unwrap();
    }
}
