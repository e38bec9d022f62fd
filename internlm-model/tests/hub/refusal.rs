//! What the hub refuses, and what we refuse of it.

use internlm_model::hub::{Error, Fetch};
use serde_json::json;

use super::server::{COMMIT, Hub, Request, Response, git_hash};
use super::{CONFIG, Cache, fetch, model};

fn error(id: &str, hub: &Hub) -> Error {
    fetch(id, hub, &Cache::new()).run().unwrap_err()
}

#[test]
fn what_is_absent() {
    let hub = model();
    let got = error("org/other", &hub);
    assert!(
        matches!(&got, Error::RepoNotFound { repo } if repo == "org/other"),
        "{got:?}"
    );
    let got = error("org/name@v9", &hub);
    assert!(
        matches!(&got, Error::RevisionNotFound { repo, revision } if repo == "org/name" && revision == "v9"),
        "{got:?}"
    );
    let got = error("org/name/x.gguf", &hub);
    assert!(
        matches!(&got, Error::FileNotFound { file, .. } if file == "x.gguf"),
        "{got:?}"
    );
    // Listed, and yet absent.
    let hub = hub.with_hook(
        |request: &Request, response| match request.is_get_of("config.json") {
            true => Response::status(404),
            false => response,
        },
    );
    let got = error("org/name", &hub);
    assert!(
        matches!(&got, Error::FileNotFound { file, .. } if file == "config.json"),
        "{got:?}"
    );
    let got = error("org/name", &Hub::start(&[("README.md", b"x")]));
    assert!(matches!(got, Error::NoFiles { .. }), "{got:?}");
}

fn refusing(status: u16, code: &'static str) -> Hub {
    model().with_hook(move |_, _| match code {
        "" => Response::status(status),
        code => Response::status(status).with("X-Error-Code", code),
    })
}

#[test]
fn what_needs_a_token() {
    for status in [401, 403] {
        let hub = refusing(status, "GatedRepo");
        let got = error("org/name", &hub);
        assert!(matches!(got, Error::Gated { .. }), "{got:?}");
        let hub = refusing(status, "");
        let got = error("org/name", &hub);
        assert!(
            matches!(got, Error::Unauthorized { status: s, .. } if s == status),
            "{got:?}"
        );
        assert_eq!(hub.log().len(), 1);
    }
    // The hub does not tell strangers whether a private repository exists.
    let got = error("org/name", &refusing(401, "RepoNotFound"));
    assert!(matches!(got, Error::RepoNotFound { .. }), "{got:?}");
    let got = error("org/name", &refusing(404, ""));
    assert!(matches!(got, Error::RepoNotFound { .. }), "{got:?}");
}

/// A gate on the files alone, as the hub has it: the listing is open.
#[test]
fn gated_files() {
    let hub = model().with_hook(
        |request, response| match request.path.contains("/resolve/") {
            true => Response::status(403).with("X-Error-Code", "GatedRepo"),
            false => response,
        },
    );
    let got = error("org/name", &hub);
    assert!(matches!(got, Error::Gated { .. }), "{got:?}");
}

/// The answer to the listing.
fn listing(body: impl Into<Vec<u8>>) -> Hub {
    let body = body.into();
    model().with_hook(
        move |request, response| match request.path.contains("/api/") {
            true => Response::status(200).with_body(body.clone()),
            false => response,
        },
    )
}

fn listing_of(commit: &str, name: &str) -> Hub {
    let file = json!({"rfilename": name, "size": CONFIG.len(), "blobId": git_hash(CONFIG)});
    let good = json!({"rfilename": "model.safetensors", "size": 0, "blobId": git_hash(b"")});
    listing(json!({"sha": commit, "siblings": [file, good]}).to_string())
}

#[test]
fn names_that_leave_the_folder() {
    for name in [
        "../../../canary.json",
        "/etc/canary.json",
        "a/../../canary.json",
        "..\\..\\canary.json",
        "C:\\canary.json",
        "canary\0.json",
        "a//canary.json",
        "./canary.json",
        "..",
        "",
        "canary.json/",
        "a/./canary.json",
        "canary\n.json",
    ] {
        let hub = listing_of(COMMIT, name);
        let cache = Cache::new();
        for call in [
            fetch("org/name", &hub, &cache),
            fetch("org/name", &hub, &cache).with_pattern("*"),
        ] {
            let got = call.run().unwrap_err();
            assert!(
                matches!(&got, Error::RemoteName { name: n, .. } if n == name),
                "{name:?}: {got:?}"
            );
        }
        assert!(
            hub.log()
                .iter()
                .all(|request| request.path.contains("/api/"))
        );
        assert_eq!(cache.listing(), [""; 0]);
    }
}

#[test]
fn commits_and_hashes_that_leave_the_folder() {
    for commit in [
        "",
        "main",
        "../../x",
        "/etc",
        &COMMIT.to_uppercase(),
        &format!("{COMMIT}0"),
    ] {
        let got = error("org/name", &listing_of(commit, "config.json"));
        assert!(matches!(got, Error::Response { .. }), "{commit}: {got:?}");
    }
    // A hash that is none is not believed: the file's own headers are asked.
    let file = json!({"rfilename": "model.safetensors", "size": 2, "blobId": "../../canary"});
    let body = json!({"sha": COMMIT, "siblings": [file]}).to_string();
    let hub = listing(body).with_hook_for_head("\"../../canary\"");
    let cache = Cache::new();
    let got = fetch("org/name", &hub, &cache).run().unwrap_err();
    assert!(matches!(got, Error::Response { .. }), "{got:?}");
    assert_eq!(cache.listing(), [""; 0]);
}

impl Hub {
    fn with_hook_for_head(self, etag: &'static str) -> Self {
        let body =
            json!({"sha": COMMIT, "siblings": [{"rfilename": "model.safetensors"}]}).to_string();
        self.with_hook(move |request, response| match request.method.as_str() {
            "HEAD" => Response::status(200)
                .with("ETag", etag)
                .with("content-length", 2),
            _ if request.path.contains("/api/") => Response::status(200).with_body(body.clone()),
            _ => response,
        })
    }
}

#[test]
fn answers_that_are_no_listing() {
    for body in [
        "",
        "{",
        "[]",
        "null",
        "{\"siblings\": []}",
        "{\"sha\": 5}",
        "<html></html>",
    ] {
        let got = error("org/name", &listing(body));
        assert!(matches!(got, Error::Response { .. }), "{body}: {got:?}");
    }
    let deep = "[".repeat(100_000);
    let got = error("org/name", &listing(format!("{{\"sha\": {deep}")));
    assert!(matches!(got, Error::Response { .. }), "{got:?}");
}

#[test]
fn files_of_another_commit() {
    let hub = model().with_hook(
        |request, response| match request.path.contains("/resolve/") {
            true => Response::status(200)
                .with("X-Repo-Commit", "f".repeat(40))
                .with_body(CONFIG),
            false => response,
        },
    );
    let got = error("org/name", &hub);
    assert!(matches!(got, Error::Response { .. }), "{got:?}");
}

#[test]
fn redirects_that_lead_nowhere() {
    for location in [
        "file:///etc/passwd",
        "ftp://x/",
        "",
        "//",
        "/org/name/resolve/main/config.json",
    ] {
        let hub =
            model().with_hook(
                move |request, response| match request.path.contains("/resolve/") {
                    true => Response::status(302).with("Location", location),
                    false => response,
                },
            );
        let got = error("org/name", &hub);
        assert!(matches!(got, Error::Response { .. }), "{location}: {got:?}");
        assert!(hub.log().len() < 12);
    }
    let hub = model().with_hook(|_, _| Response::status(302));
    assert!(matches!(error("org/name", &hub), Error::Response { .. }));
}

#[test]
fn settings_that_can_not_be() {
    let (hub, cache) = (model(), Cache::new());
    for id in [
        "",
        "org/../name",
        "/etc/passwd",
        "org/name@../../x",
        "org/name/x.py",
    ] {
        let got = fetch(id, &hub, &cache).run();
        assert!(matches!(got, Err(Error::Name { .. })), "{id}: {got:?}");
    }
    let got = fetch("org/name", &hub, &cache).with_revision("../x").run();
    assert!(matches!(got, Err(Error::Name { .. })), "{got:?}");
    let got = fetch("org/name", &hub, &cache)
        .with_endpoint("hub.example")
        .run();
    assert!(
        matches!(
            got,
            Err(Error::Setting {
                name: "HF_ENDPOINT",
                ..
            })
        ),
        "{got:?}"
    );
    let got = fetch("org/name", &hub, &cache).with_token("a\r\nb").run();
    assert!(
        matches!(
            got,
            Err(Error::Setting {
                name: "HF_TOKEN",
                ..
            })
        ),
        "{got:?}"
    );
    assert!(hub.log().is_empty());
    let shown = format!("{:?}", Fetch::new("org/name").with_token("hf_secret"));
    assert!(!shown.contains("hf_secret"), "{shown}");
}

#[test]
fn a_cache_that_can_not_be_written() {
    let (hub, cache) = (model(), Cache::new());
    let file = cache.path().join("file");
    std::fs::write(&file, "in the way").unwrap();
    let got = fetch("org/name", &hub, &cache).with_cache_dir(&file).run();
    assert!(matches!(got, Err(Error::Io { .. })), "{got:?}");
    assert_eq!(std::fs::read_to_string(file).unwrap(), "in the way");
}

#[test]
fn errors_show_no_signature() {
    let storage = Hub::start(&[]);
    let hub = model().with_storage(&storage.url);
    let got = error("org/name", &hub);
    assert!(
        matches!(got, Error::Unauthorized { status: 403, .. }),
        "{got:?}"
    );
    assert!(!format!("{got} {got:?}").contains("secret"));
}
