//! What lies in the cache afterwards, and what the cache answers.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use internlm_model::hub::{Error, Fetch};

use super::server::{COMMIT, Hub, Response, git_hash, sha256};
use super::{CONFIG, Cache, FILES, fetch, in_child, model, noise, shards};

const NEXT: &str = "89abcdef0123456789abcdef0123456789abcdef";

#[test]
fn the_layout_is_that_of_python() {
    let (hub, cache) = (model(), Cache::new());
    let folder = fetch("org/name", &hub, &cache).run().unwrap();
    assert_eq!(folder, cache.repo().join("snapshots").join(COMMIT));
    let (one, two) = shards();
    let hashes = [
        git_hash(CONFIG),
        sha256(&one),
        sha256(&two),
        git_hash(b"{}"),
        git_hash(b"pieces"),
    ];
    let mut want = vec!["models--org--name/refs/main".to_owned()];
    for (name, hash) in FILES.iter().zip(&hashes) {
        want.push(format!("models--org--name/blobs/{hash}"));
        want.push(format!("models--org--name/snapshots/{COMMIT}/{name}"));
        let content = fs::read(folder.join(name)).unwrap();
        assert_eq!(content, fs::read(cache.blob(hash)).unwrap(), "{name}");
        if cfg!(unix) {
            let link = fs::read_link(folder.join(name)).unwrap();
            assert_eq!(link.to_str().unwrap(), format!("../../blobs/{hash}"));
        }
    }
    want.sort();
    assert_eq!(cache.listing(), want);
    assert_eq!(fs::read(folder.join(FILES[1])).unwrap(), one);
    assert_eq!(
        fs::read_to_string(cache.repo().join("refs/main")).unwrap(),
        COMMIT
    );
}

#[test]
fn the_hf_hub_crate_reads_it() {
    let (hub, cache) = (model(), Cache::new());
    let folder = fetch("org/name", &hub, &cache).run().unwrap();
    let theirs = hf_hub::Cache::new(cache.path().to_owned()).model("org/name".to_owned());
    for name in FILES {
        assert_eq!(theirs.get(name), Some(folder.join(name)));
    }
    assert_eq!(theirs.get("README.md"), None);
}

#[test]
fn a_second_call_asks_for_the_listing_alone() {
    let (hub, cache) = (model(), Cache::new());
    let first = fetch("org/name", &hub, &cache).run().unwrap();
    hub.clear_log();
    assert_eq!(fetch("org/name", &hub, &cache).run().unwrap(), first);
    let log = hub.log();
    assert_eq!(log.len(), 1, "{log:?}");
    assert!(
        log[0]
            .path
            .starts_with("/api/models/org/name/revision/main")
    );
}

#[test]
fn revisions() {
    let (hub, cache) = (model(), Cache::new());
    for (id, reference) in [
        ("org/name@v1.0", Some("refs/v1.0")),
        ("org/name@refs/pr/1", Some("refs/refs/pr/1")),
        (&format!("org/name@{COMMIT}"), None),
    ] {
        let folder = fetch(id, &hub, &cache).run().unwrap();
        assert!(folder.ends_with(COMMIT));
        if let Some(reference) = reference {
            assert_eq!(
                fs::read_to_string(cache.repo().join(reference)).unwrap(),
                COMMIT
            );
        }
    }
    assert!(!cache.repo().join("refs").join(COMMIT).exists());
    fetch("org/name@main", &hub, &cache)
        .with_revision("refs/pr/1")
        .run()
        .unwrap();
    let path = hub.log().pop().unwrap().path;
    assert_eq!(
        path,
        "/api/models/org/name/revision/refs%2Fpr%2F1?blobs=true"
    );
}

#[test]
fn a_moved_branch_brings_only_what_changed() {
    let (hub, cache) = (model(), Cache::new());
    let before = fetch("org/name", &hub, &cache).run().unwrap();
    hub.put("config.json", b"{\"model_type\": \"internlm3\"}");
    hub.move_main_to(NEXT);
    hub.clear_log();
    let after = fetch("org/name", &hub, &cache).run().unwrap();
    assert!(after.ends_with(NEXT));
    let gets: Vec<_> = hub
        .log()
        .into_iter()
        .filter(|r| r.path.contains("/resolve/"))
        .collect();
    assert_eq!(gets.len(), 1, "{gets:?}");
    assert!(gets[0].is_get_of("config.json"));
    assert_eq!(fs::read(before.join("config.json")).unwrap(), CONFIG);
    assert_ne!(fs::read(after.join("config.json")).unwrap(), CONFIG);
    assert_eq!(
        fs::read_to_string(cache.repo().join("refs/main")).unwrap(),
        NEXT
    );
}

/// The reference moves when the new snapshot is whole; until then the old one answers offline.
#[test]
fn an_update_that_fails_leaves_the_old_snapshot() {
    let (hub, cache) = (model(), Cache::new());
    let before = fetch("org/name", &hub, &cache).run().unwrap();
    hub.put(FILES[1], &noise(1000, 9));
    hub.move_main_to(NEXT);
    let mut hub = hub;
    for status in [403, 503] {
        hub = hub.with_hook(move |request, response| {
            if request.is_get_of(FILES[1]) {
                return Response::status(status);
            }
            response
        });
        // Not answered by the old snapshot: the hub has said that there is a newer one.
        match fetch("org/name", &hub, &cache).run().unwrap_err() {
            Error::Unauthorized { status: got, .. } | Error::Status { status: got, .. } => {
                assert_eq!(got, status);
            }
            error => panic!("{error:?}"),
        }
    }
    let offline = fetch("org/name", &hub, &cache)
        .with_offline(true)
        .run()
        .unwrap();
    assert_eq!(offline, before);
}

#[test]
fn offline_answers_from_the_cache() {
    let (hub, cache) = (model(), Cache::new());
    let folder = fetch("org/name", &hub, &cache).run().unwrap();
    hub.clear_log();
    for id in ["org/name", &format!("org/name@{COMMIT}")] {
        assert_eq!(
            fetch(id, &hub, &cache).with_offline(true).run().unwrap(),
            folder
        );
    }
    let patterns = fetch("org/name", &hub, &cache)
        .with_pattern("*.json")
        .with_offline(true);
    assert_eq!(patterns.run().unwrap(), folder);
    assert!(hub.log().is_empty());
}

#[track_caller]
fn is_not_offline(fetch: Fetch) {
    let result = fetch.with_offline(true).run();
    assert!(matches!(result, Err(Error::Offline { .. })), "{result:?}");
}

#[test]
fn offline_without_the_files_is_an_error() {
    let (hub, cache) = (model(), Cache::new());
    is_not_offline(fetch("org/name", &hub, &cache));
    let folder = fetch("org/name", &hub, &cache).run().unwrap();
    is_not_offline(fetch("org/name@v1.0", &hub, &cache));
    is_not_offline(fetch("org/other", &hub, &cache));
    is_not_offline(fetch("org/name", &hub, &cache).with_pattern("*.md"));
    // A shard whose link is broken, then one that is gone.
    fs::remove_file(cache.blob(&sha256(&shards().1))).unwrap();
    is_not_offline(fetch("org/name", &hub, &cache));
    fs::remove_file(folder.join(FILES[2])).unwrap();
    is_not_offline(fetch("org/name", &hub, &cache));
    assert!(hub.gets_of("README.md").is_empty());
}

#[test]
fn an_outage_is_answered_from_the_cache() {
    let (hub, cache) = (model(), Cache::new());
    let folder = fetch("org/name", &hub, &cache).run().unwrap();
    let hub = hub.with_hook(|_, _| Response::status(503));
    assert_eq!(fetch("org/name", &hub, &cache).run().unwrap(), folder);
    let error = fetch("org/name@v1.0", &hub, &cache).run().unwrap_err();
    assert!(
        matches!(error, Error::Status { status: 503, .. }),
        "{error:?}"
    );
    // A port that nobody listens on.
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let nowhere = format!("http://{}", nobody.local_addr().unwrap());
    drop(nobody);
    let there = |id: &str| fetch(id, &hub, &cache).with_endpoint(&nowhere);
    assert_eq!(there("org/name").run().unwrap(), folder);
    let error = there("org/other").run().unwrap_err();
    assert!(matches!(error, Error::Transport { .. }), "{error:?}");
}

#[test]
fn a_damaged_blob_is_fetched_again() {
    let (hub, cache) = (model(), Cache::new());
    let folder = fetch("org/name", &hub, &cache).run().unwrap();
    let (one, _) = shards();
    fs::write(cache.blob(&sha256(&one)), &one[..5000]).unwrap();
    fs::remove_file(cache.blob(&git_hash(CONFIG))).unwrap();
    hub.clear_log();
    fetch("org/name", &hub, &cache).run().unwrap();
    assert_eq!(fs::read(folder.join(FILES[1])).unwrap(), one);
    assert_eq!(fs::read(folder.join("config.json")).unwrap(), CONFIG);
    assert_eq!(hub.log().len(), 3);
}

#[test]
fn writers_take_turns() {
    let hub = Arc::new(model());
    let cache = Cache::new();
    std::thread::scope(|scope| {
        let calls: Vec<_> = (0..4)
            .map(|_| scope.spawn(|| fetch("org/name", &hub, &cache).run().unwrap()))
            .collect();
        for call in calls {
            assert_eq!(
                fs::read(call.join().unwrap().join(FILES[1])).unwrap(),
                shards().0
            );
        }
    });
    for name in FILES {
        assert_eq!(hub.gets_of(name).len(), 1, "{name}");
    }
}

#[test]
fn a_lock_that_stays_is_an_error() {
    let (hub, cache) = (model(), Cache::new());
    let locks = cache.path().join(".locks/models--org--name");
    fs::create_dir_all(&locks).unwrap();
    let lock = locks.join(format!("{}.lock", git_hash(CONFIG)));
    let held = fs::File::create(&lock).unwrap();
    held.lock().unwrap();
    let call = || fetch("org/name", &hub, &cache).with_lock_patience(Duration::from_millis(20));
    let error = call().run().unwrap_err();
    assert!(
        matches!(&error, Error::Locked { lock: at } if *at == lock),
        "{error:?}"
    );
    drop(held);
    call().run().unwrap();
}

#[test]
fn gguf_files() {
    let cache = Cache::new();
    let hub = Hub::start(&[
        ("a-Q4_0.gguf", b"aa"),
        ("b/c d.gguf", b"bb"),
        ("README.md", b""),
    ]);
    let path = fetch("org/name", &hub, &cache).run().unwrap();
    assert_eq!(
        path,
        cache
            .repo()
            .join("snapshots")
            .join(COMMIT)
            .join("a-Q4_0.gguf")
    );
    let path = fetch("org/name/b/c d.gguf", &hub, &cache).run().unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"bb");
    assert!(path.ends_with("b/c d.gguf"));
    let again = fetch("org/name/b/c d.gguf@main", &hub, &cache)
        .with_offline(true)
        .run();
    assert_eq!(again.unwrap(), path);
    is_not_offline(fetch("org/name/other.gguf", &hub, &cache));
    hub.put("d.gguf", b"dd");
    let error = fetch("org/name", &hub, &cache).run().unwrap_err();
    assert!(
        matches!(&error, Error::Ambiguous { files, .. } if files.len() == 2),
        "{error:?}"
    );
}

#[test]
fn patterns_take_programs_only_by_name() {
    let (hub, cache) = (model(), Cache::new());
    let folder = fetch("org/name", &hub, &cache)
        .with_pattern("*")
        .run()
        .unwrap();
    assert!(folder.join("README.md").exists());
    assert!(folder.join("original/params.json").exists());
    assert!(!folder.join("modeling_internlm2.py").exists());
    fetch("org/name", &hub, &cache)
        .with_pattern("*.py")
        .run()
        .unwrap();
    assert_eq!(
        fs::read(folder.join("modeling_internlm2.py")).unwrap(),
        b"import os"
    );
    let error = fetch("org/name", &hub, &cache)
        .with_pattern("*.onnx")
        .run()
        .unwrap_err();
    assert!(matches!(error, Error::NoFiles { .. }), "{error:?}");
}

#[test]
fn the_environment_counts() {
    let (hub, cache) = (model(), Cache::new());
    let home = cache.path().to_str().unwrap();
    let run = |vars: &[(&str, &str)]| {
        let ours = [
            ("HF_HOME", home),
            ("HF_ENDPOINT", hub.url.as_str()),
            ("HF_TOKEN", "hf_env"),
        ];
        in_child("org/name", &[&ours[..], vars].concat())
    };
    let missing = run(&[("HF_HUB_OFFLINE", "1")]);
    assert!(missing.contains("<error Offline"), "{missing}");
    assert!(hub.log().is_empty());
    let found = run(&[]);
    let folder = cache
        .path()
        .join("hub/models--org--name/snapshots")
        .join(COMMIT);
    let want = format!("<path {}>", folder.display());
    assert!(found.contains(&want), "{found}");
    assert!(
        hub.log()
            .iter()
            .all(|r| r.header("authorization") == Some("Bearer hf_env"))
    );
    hub.clear_log();
    let offline = run(&[("HF_HUB_OFFLINE", "1")]);
    assert!(offline.contains(&want), "{offline}");
    assert!(hub.log().is_empty());
    let elsewhere = Cache::new();
    let moved = run(&[("HF_HUB_CACHE", elsewhere.path().to_str().unwrap())]);
    assert!(
        moved.contains(elsewhere.path().to_str().unwrap()),
        "{moved}"
    );
}
