//! Bars on stderr, and only where it is a terminal.

use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

/// Something that takes a while, without a known end. Gone when dropped or cleared.
pub fn spinner(what: impl Into<String>) -> ProgressBar {
    shown(
        ProgressBar::new_spinner(),
        what,
        "{spinner} {msg} {elapsed}",
    )
}

/// A known number of steps.
pub fn bar(steps: u64, what: impl Into<String>) -> ProgressBar {
    ticking(shown(
        ProgressBar::new(steps),
        what,
        "{msg} {bar:30} {pos}/{len} {eta}",
    ))
}

/// A number of bytes that becomes known later; nothing is shown until then.
pub fn bytes(what: impl Into<String>) -> ProgressBar {
    shown(
        ProgressBar::new(0),
        what,
        "{msg} {bar:30} {bytes}/{total_bytes} {bytes_per_sec}",
    )
}

fn shown(bar: ProgressBar, what: impl Into<String>, style: &str) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    if let Ok(style) = ProgressStyle::with_template(style) {
        bar.set_style(style);
    }
    bar.set_message(what.into());
    bar
}

/// Moves also where no step is done for a while.
fn ticking(bar: ProgressBar) -> ProgressBar {
    if !bar.is_hidden() {
        bar.enable_steady_tick(Duration::from_millis(120));
    }
    bar
}
