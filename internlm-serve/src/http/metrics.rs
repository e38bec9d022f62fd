//! `/metrics`, in the text format of Prometheus.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::{Arc, Mutex, PoisonError};

use axum::extract::State;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};

use super::state::Server;
use crate::metrics::{Histogram, Metrics};

/// Requests by route and status.
#[derive(Default)]
pub(super) struct Requests(Mutex<BTreeMap<(String, u16), u64>>);

impl Requests {
    pub(super) fn count(&self, route: &str, status: u16) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *counts.entry((route.to_owned(), status)).or_default() += 1;
    }
}

/// All numbers of the engine and of the server.
pub(super) async fn metrics(State(server): State<Arc<Server>>) -> Response {
    let mut text = engine(&server.engine.metrics());
    let counts = server.requests.0.lock();
    let counts = counts.unwrap_or_else(PoisonError::into_inner).clone();
    let name = "internlm_http_requests_total";
    head(&mut text, name, "counter", "Requests by route and status.");
    for ((route, status), count) in counts {
        // Writing to a string can't fail.
        let _ = writeln!(
            text,
            "{name}{{route=\"{route}\",status=\"{status}\"}} {count}"
        );
    }
    let plain = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    ([(header::CONTENT_TYPE, plain)], text).into_response()
}

fn head(text: &mut String, name: &str, kind: &str, help: &str) {
    let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
}

fn ratio(part: u64, whole: u64) -> f64 {
    match whole {
        0 => 0.0,
        _ => part as f64 / whole as f64,
    }
}

/// The engine's numbers.
fn engine(metrics: &Metrics) -> String {
    let m = metrics;
    let mut text = String::new();
    let size = |n: usize| n as f64;
    let used = ratio(m.blocks_in_use as u64, m.blocks_total as u64);
    let hits = ratio(m.cached_tokens, m.prompt_tokens);
    for (name, help, value) in [
        (
            "requests_running",
            "Sequences that are computed.",
            size(m.running),
        ),
        (
            "requests_waiting",
            "Sequences that wait for room.",
            size(m.waiting),
        ),
        ("cache_blocks", "Blocks of the cache.", size(m.blocks_total)),
        (
            "cache_blocks_in_use",
            "Blocks that sequences hold.",
            size(m.blocks_in_use),
        ),
        (
            "cache_blocks_cached",
            "Blocks kept for later requests only.",
            size(m.blocks_cached),
        ),
        (
            "cache_usage_ratio",
            "Share of the blocks that sequences hold.",
            used,
        ),
        (
            "prefix_cache_hit_ratio",
            "Share of all prompt tokens that were found in the cache.",
            hits,
        ),
    ] {
        let name = format!("internlm_{name}");
        head(&mut text, &name, "gauge", help);
        let _ = writeln!(text, "{name} {value}");
    }
    for (name, help, value) in [
        ("requests", "Requests that were taken in.", m.requests),
        (
            "requests_finished",
            "Requests that ended with all answers.",
            m.finished,
        ),
        (
            "requests_cancelled",
            "Requests that were dropped by their clients.",
            m.cancelled,
        ),
        (
            "requests_failed",
            "Requests that ended with an error.",
            m.failed,
        ),
        (
            "preemptions",
            "Sequences that were computed again for want of room.",
            m.preemptions,
        ),
        ("prompt_tokens", "Tokens of prompts.", m.prompt_tokens),
        (
            "prompt_tokens_cached",
            "Tokens of prompts that were found in the cache.",
            m.cached_tokens,
        ),
        (
            "completion_tokens",
            "Tokens of answers.",
            m.completion_tokens,
        ),
        ("steps", "Passes of the model.", m.steps),
    ] {
        let name = format!("internlm_{name}_total");
        head(&mut text, &name, "counter", help);
        let _ = writeln!(text, "{name} {value}");
    }
    histogram(
        &mut text,
        "internlm_time_to_first_token_seconds",
        "Time from a request's arrival to its first token.",
        &m.time_to_first_token,
    );
    histogram(
        &mut text,
        "internlm_time_per_token_seconds",
        "Time between the tokens of an answer.",
        &m.time_per_token,
    );
    text
}

fn histogram(text: &mut String, name: &str, help: &str, histogram: &Histogram) {
    head(text, name, "histogram", help);
    let mut count = 0;
    for (bound, n) in Histogram::BOUNDS.iter().zip(&histogram.counts) {
        count += n;
        let _ = writeln!(text, "{name}_bucket{{le=\"{bound}\"}} {count}");
    }
    let (count, sum) = (histogram.count(), histogram.sum);
    let _ = writeln!(text, "{name}_bucket{{le=\"+Inf\"}} {count}");
    let _ = writeln!(text, "{name}_sum {sum}\n{name}_count {count}");
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_histogram_adds_up() {
        let mut metrics = Metrics {
            running: 3,
            ..Metrics::default()
        };
        for milliseconds in [1, 3, 3, 100_000] {
            let duration = Duration::from_millis(milliseconds);
            metrics.time_to_first_token.record(duration);
        }
        let text = engine(&metrics);
        for line in [
            "internlm_requests_running 3",
            "internlm_time_to_first_token_seconds_bucket{le=\"0.001\"} 1",
            "internlm_time_to_first_token_seconds_bucket{le=\"0.005\"} 3",
            "internlm_time_to_first_token_seconds_bucket{le=\"60\"} 3",
            "internlm_time_to_first_token_seconds_bucket{le=\"+Inf\"} 4",
            "internlm_time_to_first_token_seconds_count 4",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} is not in {text}");
        }
        assert!(
            text.lines()
                .all(|line| line.starts_with("# ") || line.split(' ').count() == 2)
        );
    }
}
