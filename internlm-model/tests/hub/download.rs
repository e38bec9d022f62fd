//! Bytes on their way: cut, resumed, repeated, redirected, counted.

use std::collections::VecDeque;
use std::fs;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use internlm_model::hub::Error;
use proptest::prelude::*;

use super::server::{Hub, Request, Response, git_hash, sha256};
use super::{CONFIG, Cache, FILES, fetch, model, noise, shards};

/// The bytes that a `Range` header starts at.
fn start(request: &Request) -> Option<usize> {
    request
        .header("range")?
        .strip_prefix("bytes=")?
        .strip_suffix('-')?
        .parse()
        .ok()
}

/// Cuts the first answers for a file after so many bytes each.
fn cutting(hub: Hub, file: &'static str, cuts: &[usize]) -> Hub {
    let mut cuts = VecDeque::from(cuts.to_vec());
    hub.with_hook(move |request, mut response| {
        if request.is_get_of(file)
            && let Some(cut) = cuts.pop_front()
        {
            response.cut = Some(cut.min(response.body.len()));
        }
        response
    })
}

#[test]
fn a_cut_connection_is_resumed() {
    let (hub, cache) = (
        cutting(model(), FILES[1], &[300_000, 100_000]),
        Cache::new(),
    );
    let folder = fetch("org/name", &hub, &cache).run().unwrap();
    assert_eq!(fs::read(folder.join(FILES[1])).unwrap(), shards().0);
    let starts: Vec<_> = hub.gets_of(FILES[1]).iter().map(start).collect();
    assert_eq!(starts, [None, Some(300_000), Some(400_000)]);
}

#[test]
fn a_later_call_resumes() {
    let (one, _) = shards();
    let (hub, cache) = (cutting(model(), FILES[1], &[400_000]), Cache::new());
    let error = fetch("org/name", &hub, &cache)
        .with_retries(0)
        .run()
        .unwrap_err();
    assert!(
        matches!(
            error,
            Error::Interrupted {
                got: 400_000,
                want: 700_001,
                ..
            }
        ),
        "{error:?}"
    );
    let partial = cache.partial(&sha256(&one));
    assert_eq!(fs::read(&partial).unwrap(), one[..400_000]);
    assert!(!cache.repo().join("refs").exists());
    hub.clear_log();
    let folder = fetch("org/name", &hub, &cache).run().unwrap();
    assert_eq!(fs::read(folder.join(FILES[1])).unwrap(), one);
    let starts: Vec<_> = hub.gets_of(FILES[1]).iter().map(start).collect();
    assert_eq!(starts, [Some(400_000)]);
    assert!(!partial.exists());
}

/// Leaves `partial` as an earlier run would, and fetches. Returns the starts of the `GET`s.
fn after_partial(partial: &[u8], hub: &Hub) -> Vec<Option<usize>> {
    let (one, _) = shards();
    let cache = Cache::new();
    fs::create_dir_all(cache.repo().join("blobs")).unwrap();
    fs::write(cache.partial(&sha256(&one)), partial).unwrap();
    let folder = fetch("org/name", hub, &cache).run().unwrap();
    assert_eq!(fs::read(folder.join(FILES[1])).unwrap(), one);
    let gets = hub.gets_of(FILES[1]);
    hub.clear_log();
    gets.iter().map(start).collect()
}

#[test]
fn what_an_earlier_run_left_is_checked() {
    let (one, _) = shards();
    let hub = model();
    // Whole: only hashed. Too long, or of other bytes: from the start.
    assert_eq!(after_partial(&one, &hub), []);
    assert_eq!(
        after_partial(&[one.clone(), vec![0]].concat(), &hub),
        [None]
    );
    assert_eq!(after_partial(&vec![7; one.len()], &hub), [None]);
    assert_eq!(after_partial(&[7; 1000], &hub), [Some(1000), None]);
    assert_eq!(after_partial(&[], &hub), [None]);
    // A hub that knows no ranges.
    let all = one.clone();
    let hub = hub.with_hook(move |request, response| match request.is_get_of(FILES[1]) {
        true => Response::status(200).with_body(all.clone()),
        false => response,
    });
    assert_eq!(after_partial(&one[..5000], &hub), [Some(5000)]);
}

#[test]
fn a_range_that_was_not_asked_for_is_refused() {
    let (one, _) = shards();
    let cache = Cache::new();
    fs::create_dir_all(cache.repo().join("blobs")).unwrap();
    fs::write(cache.partial(&sha256(&one)), &one[..5000]).unwrap();
    let hub = model().with_hook(|request, response| match request.is_get_of(FILES[1]) {
        true => Response::status(206).with("Content-Range", "bytes 4000-700000/700001"),
        false => response,
    });
    let error = fetch("org/name", &hub, &cache).run().unwrap_err();
    assert!(matches!(error, Error::Response { .. }), "{error:?}");
}

#[test]
fn a_silent_connection_is_given_up_and_resumed() {
    let mut silent = 1;
    let hub = model().with_hook(move |request, mut response| {
        if request.is_get_of(FILES[2]) && silent > 0 {
            silent -= 1;
            response.cut = Some(1000);
            response.stall = true;
        }
        response
    });
    let cache = Cache::new();
    let call = fetch("org/name", &hub, &cache).with_timeout(Duration::from_millis(700));
    let folder = call.run().unwrap();
    assert_eq!(fs::read(folder.join(FILES[2])).unwrap(), shards().1);
    assert_eq!(
        hub.gets_of(FILES[2]).iter().map(start).next_back().unwrap(),
        Some(1000)
    );
}

/// The file whose content arrives wrong leaves nothing under its name.
#[track_caller]
fn damaged(file: &'static str, hash: &str, body: Vec<u8>) -> Error {
    let hub = model().with_hook(move |request, mut response| {
        if request.is_get_of(file) {
            response.body = body.clone();
        }
        response
    });
    let cache = Cache::new();
    let error = fetch("org/name", &hub, &cache).run().unwrap_err();
    assert!(!cache.blob(hash).exists() && !cache.partial(hash).exists());
    assert!(!cache.repo().join("refs").exists());
    assert!(
        cache
            .listing()
            .iter()
            .all(|name| !name.ends_with(&format!("/{file}")))
    );
    assert_eq!(hub.gets_of(file).len(), 1);
    error
}

#[test]
fn a_wrong_hash_is_an_error() {
    let (one, _) = shards();
    let hash = sha256(&one);
    let mut wrong = one.clone();
    wrong[650_000] ^= 1;
    let error = damaged(FILES[1], &hash, wrong.clone());
    assert!(
        matches!(&error, Error::Hash { got, want, .. } if *got == sha256(&wrong) && *want == hash),
        "{error:?}"
    );
    let hash = git_hash(b"pieces");
    let error = damaged("tokenizer.model", &hash, b"Pieces".to_vec());
    assert!(
        matches!(&error, Error::Hash { want, .. } if *want == hash),
        "{error:?}"
    );
}

#[test]
fn a_wrong_size_is_an_error() {
    let (one, _) = shards();
    for len in [one.len() - 1, one.len() + 1] {
        let error = damaged(FILES[1], &sha256(&one), noise(len, 1));
        assert!(
            matches!(error, Error::Size { got, want: 700_001, .. } if got == len as u64),
            "{error:?}"
        );
    }
}

#[test]
fn a_file_that_became_shorter_is_an_error() {
    let (one, _) = shards();
    let cache = Cache::new();
    fs::create_dir_all(cache.repo().join("blobs")).unwrap();
    fs::write(cache.partial(&sha256(&one)), &one[..5000]).unwrap();
    let hub = model().with_hook(|request, response| match request.is_get_of(FILES[1]) {
        true => Response::status(416).with("Content-Range", "bytes */4000"),
        false => response,
    });
    let error = fetch("org/name", &hub, &cache).run().unwrap_err();
    assert!(matches!(error, Error::Size { got: 4000, .. }), "{error:?}");
    assert!(!cache.partial(&sha256(&one)).exists());
}

#[test]
fn busy_hubs_are_asked_again() {
    let mut answers = vec![429, 503, 500, 502, 408];
    let hub = model().with_hook(move |request, response| {
        let due = request.path.contains("/api/") || request.is_get_of("config.json");
        match answers.pop() {
            Some(status) if due => Response::status(status).with("Retry-After", "0"),
            _ => response,
        }
    });
    let cache = Cache::new();
    fetch("org/name", &hub, &cache)
        .with_retries(5)
        .run()
        .unwrap();
    let apis = hub
        .log()
        .iter()
        .filter(|r| r.path.contains("/api/"))
        .count();
    assert_eq!(apis, 6);
}

#[test]
fn a_hub_that_stays_busy_is_an_error() {
    let hub = model().with_hook(|_, _| Response::status(503));
    let cache = Cache::new();
    let error = fetch("org/name", &hub, &cache)
        .with_retries(2)
        .run()
        .unwrap_err();
    assert!(
        matches!(error, Error::Status { status: 503, .. }),
        "{error:?}"
    );
    assert_eq!(hub.log().len(), 3);
    let hub = hub.with_hook(|_, _| Response::status(418));
    hub.clear_log();
    let error = fetch("org/name", &hub, &cache).run().unwrap_err();
    assert!(
        matches!(error, Error::Status { status: 418, .. }),
        "{error:?}"
    );
    assert_eq!(hub.log().len(), 1);
}

#[test]
fn the_token_stays_with_the_hub() {
    // The same files on another port: another origin.
    let (hub, storage, cache) = (model(), model(), Cache::new());
    let hub = hub.with_storage(&storage.url);
    fetch("org/name", &hub, &cache)
        .with_token("hf_secret")
        .run()
        .unwrap();
    let log = hub.log();
    assert_eq!(log.len(), 6);
    assert!(
        log.iter()
            .all(|r| r.header("authorization") == Some("Bearer hf_secret"))
    );
    let log = storage.log();
    assert_eq!(log.len(), 2);
    assert!(
        log.iter().all(|r| r.header("authorization").is_none()),
        "{log:?}"
    );
}

#[test]
fn a_redirect_within_the_hub_keeps_the_token_and_the_range() {
    let (one, _) = shards();
    let cache = Cache::new();
    fs::create_dir_all(cache.repo().join("blobs")).unwrap();
    fs::write(cache.partial(&sha256(&one)), &one[..5000]).unwrap();
    let hub = model().with_storage("");
    fetch("org/name", &hub, &cache)
        .with_token("hf_secret")
        .run()
        .unwrap();
    let log = hub.log();
    let stored: Vec<_> = log
        .iter()
        .filter(|r| r.path.starts_with("/storage/"))
        .collect();
    assert_eq!(stored.len(), 2);
    assert!(
        stored
            .iter()
            .all(|r| r.header("authorization") == Some("Bearer hf_secret"))
    );
    assert_eq!(start(stored[0]), Some(5000));
}

#[test]
fn a_listing_without_details_is_completed_by_heads() {
    let (hub, storage) = (model(), model());
    let hub = hub.without_details().with_storage(&storage.url);
    let cache = Cache::new();
    let folder = fetch("org/name", &hub, &cache).run().unwrap();
    assert_eq!(fs::read(folder.join(FILES[1])).unwrap(), shards().0);
    let heads = hub.log().iter().filter(|r| r.method == "HEAD").count();
    assert_eq!(heads, FILES.len());
    assert!(storage.log().iter().all(|r| r.method == "GET"));
    assert!(cache.blob(&sha256(&shards().0)).exists());
}

type Seen = Arc<Mutex<Vec<(String, u64, u64, u64, u64)>>>;

#[test]
fn progress_only_grows() {
    let (one, _) = shards();
    let seen: Seen = Arc::default();
    let cache = Cache::new();
    // A bad start is thrown away, and the connection is cut on the way.
    fs::create_dir_all(cache.repo().join("blobs")).unwrap();
    fs::write(cache.partial(&sha256(&one)), vec![7; 500_000]).unwrap();
    let hub = cutting(model(), FILES[1], &[100_000, 300_000]);
    let sink = seen.clone();
    let call = fetch("org/name", &hub, &cache).with_progress(move |p| {
        sink.lock()
            .unwrap()
            .push((p.file.to_owned(), p.done, p.total, p.all_done, p.all_total));
    });
    call.run().unwrap();
    let seen = seen.lock().unwrap();
    let all = CONFIG.len() as u64 + 6 + 2 + 700_001 + 300_000;
    assert!(seen.iter().all(|&(_, done, total, all_done, all_total)| {
        done <= total && all_done <= all_total && all_total == all
    }));
    assert!(seen.windows(2).all(|pair| {
        pair[0].3 <= pair[1].3 && (pair[0].0 != pair[1].0 || pair[0].1 < pair[1].1)
    }));
    assert_eq!(seen.last().unwrap().3, all);
    for name in FILES {
        let last = seen.iter().rfind(|(file, ..)| file == name).unwrap();
        assert_eq!(last.1, last.2, "{name}");
    }
    assert!(seen.iter().filter(|(file, ..)| file == FILES[1]).count() > 2);
}

proptest! {
    /// Wherever connections are cut, the file is whole in the end, and each byte came once.
    #[test]
    fn any_cuts_give_the_same_file(len in 1usize..3000, cuts in prop::collection::vec(0usize..1500, 0..6)) {
        let bytes = noise(len, 3);
        let hub = cutting(Hub::start(&[("model.safetensors", &bytes)]), "model.safetensors", &cuts);
        let cache = Cache::new();
        let folder = fetch("org/name", &hub, &cache).with_retries(6).run().unwrap();
        prop_assert_eq!(&fs::read(folder.join("model.safetensors")).unwrap(), &bytes);
        let mut at = 0;
        for (i, request) in hub.gets_of("model.safetensors").iter().enumerate() {
            prop_assert_eq!(start(request).unwrap_or(0), at);
            at += cuts.get(i).copied().unwrap_or(len).min(len - at);
        }
        prop_assert_eq!(at, len);
    }
}
