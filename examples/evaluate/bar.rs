//! How far a run is, on stderr.

use indicatif::ProgressBar;
use internlm_eval::run::Progress;
use internlm_examples::progress;

/// Requests done and left, items a second and the running score; nothing where stderr is no terminal.
pub(crate) struct Bar(ProgressBar);

impl Bar {
    pub(crate) fn new() -> Self {
        Self(progress::bar(0, "rendering prompts"))
    }

    pub(crate) fn show(&self, progress: &Progress) {
        self.0.set_length(progress.total as u64);
        self.0.set_position(progress.done as u64);
        let running = match progress.running {
            Some(right) => format!("{} {:.1} % right", progress.benchmark, 100.0 * right),
            None => progress.benchmark.clone(),
        };
        let failed = match progress.failed {
            0 => String::new(),
            failed => format!(", {failed} failed"),
        };
        self.0
            .set_message(format!("{running}{failed}, {:.1}/s", progress.rate()));
    }

    pub(crate) fn clear(&self) {
        self.0.finish_and_clear();
    }
}

/// Columns of the terminal; where there is none, as many as the table wants.
pub(crate) fn columns() -> usize {
    comfy_table::Table::new().width().map_or(200, usize::from)
}
