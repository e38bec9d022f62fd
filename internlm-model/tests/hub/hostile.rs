//! Answers broken at random: never a panic, never a file that is not what the listing says.

use std::time::Duration;

use internlm_model::hub::Error;

use super::server::{Hub, Response, git_hash, sha256};
use super::{Cache, fetch, noise};

/// A small seeded generator.
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % n
    }
}

/// Changes an answer: its bytes, its status, its headers, or where it ends.
fn break_answer(random: &mut Random, response: &mut Response) {
    match random.below(8) {
        0 if !response.body.is_empty() => {
            for _ in 0..=random.below(3) {
                let at = random.below(response.body.len());
                response.body[at] = random.below(256) as u8;
            }
        }
        1 if !response.body.is_empty() => response.body.truncate(random.below(response.body.len())),
        2 => response.body.extend_from_slice(b"]}\"more"),
        3 => response.status = [200, 204, 206, 301, 304, 400, 404, 416, 500][random.below(9)],
        4 if !response.headers.is_empty() => {
            let at = random.below(response.headers.len());
            let len = response.headers[at].1.len();
            if random.below(2) == 0 || len == 0 {
                response.headers.remove(at);
            } else {
                let keep = response.headers[at]
                    .1
                    .chars()
                    .take(random.below(len))
                    .collect();
                response.headers[at].1 = keep;
            }
        }
        5 => response.cut = Some(random.below(response.body.len() + 1)),
        6 => {
            let length = [0, 1, 1 << 20, usize::MAX][random.below(4)];
            response
                .headers
                .push(("content-length".to_owned(), length.to_string()));
        }
        7 => {
            let text = String::from_utf8_lossy(&response.body);
            let swaps = [
                ("config", "../c"),
                ("size\":", "size\":9"),
                ("sha", "shb"),
                (":", ":-"),
                ("a", "é"),
            ];
            let (from, to) = swaps[random.below(swaps.len())];
            response.body = text.replacen(from, to, 1 + random.below(2)).into_bytes();
        }
        _ => {}
    }
}

#[test]
fn broken_answers() {
    let cases = std::env::var("INTERNLM_FUZZ_CASES").ok();
    let cases = cases.and_then(|text| text.parse().ok()).unwrap_or(2000);
    let bytes = noise(2000, 5);
    let mut random = Random(1);
    let mut outcomes = (0, 0);
    let mut hub = Hub::start(&[("config.json", b"{}"), ("model.safetensors", &bytes)]);
    for case in 0..cases {
        let mut inner = Random(case);
        let break_at = random.below(4);
        let mut count = 0;
        hub = hub.with_hook(move |_, mut response| {
            if count == break_at {
                break_answer(&mut inner, &mut response);
            }
            count += 1;
            response
        });
        let cache = Cache::new();
        let call = fetch("org/name", &hub, &cache).with_retries(1);
        let call = call
            .with_backoff(Duration::ZERO)
            .with_timeout(Duration::from_secs(2));
        match call.run() {
            Ok(folder) => {
                outcomes.0 += 1;
                let weights = folder.join("model.safetensors");
                assert_eq!(std::fs::read(weights).unwrap(), bytes, "case {case}");
            }
            Err(error) => {
                outcomes.1 += 1;
                assert!(!matches!(error, Error::Io { .. }), "case {case}: {error:?}");
            }
        }
        for (hash, len) in [(git_hash(b"{}"), 2), (sha256(&bytes), 2000)] {
            if let Ok(blob) = std::fs::metadata(cache.blob(&hash)) {
                assert_eq!(blob.len(), len, "case {case}");
            }
        }
        let inside = |name: &String| name.starts_with("models--org--name/");
        assert!(
            cache.listing().iter().all(inside),
            "case {case}: {:?}",
            cache.listing()
        );
        // Connections of this case must not meet the next one's hook.
        hub = hub.without_hook();
    }
    assert!(outcomes.0 > 0 && outcomes.1 > 0, "{outcomes:?}");
}
