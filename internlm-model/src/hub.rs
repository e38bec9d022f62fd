//! Model repositories of the Hugging Face hub, fetched into the cache that Python's
//! `huggingface_hub` and the `hf-hub` crate use too. Feature `hub`.
//!
//! ```no_run
//! use internlm_model::{ModelDir, hub};
//!
//! # fn main() -> Result<(), internlm_model::Error> {
//! let path = hub::fetch("internlm/internlm2_5-1_8b-chat")?;
//! let dir = ModelDir::open(path)?;
//! # Ok(())
//! # }
//! ```
//!
//! What is fetched is what loading needs: the configuration, the tokenizer's files, the chat
//! template, and one set of weights (safetensors before `.bin` before a GGUF file). Programs in a
//! repository are not downloaded. Each file's size and hash are compared with the hub's listing
//! before it gets its name, a download that was cut is resumed where it stopped, and two processes
//! that want the same file take turns.
//!
//! The `hf-hub` crate gives the cache's layout. Its downloads are not used: they check no hash and
//! join the hub's file names unchecked. TLS is rustls with ring, and Mozilla's root certificates or
//! those in the file that `SSL_CERT_FILE` names.
//!
//! # Environment
//! `HF_HOME`, `HF_HUB_CACHE`, `HUGGINGFACE_HUB_CACHE`, `XDG_CACHE_HOME` (where the cache is),
//! `HF_ENDPOINT`, `HF_TOKEN`, `HUGGING_FACE_HUB_TOKEN`, `HF_TOKEN_PATH` and the file `token` in
//! `HF_HOME`, `HF_HUB_DISABLE_IMPLICIT_TOKEN`, `HF_HUB_OFFLINE`, `TRANSFORMERS_OFFLINE`, and the
//! proxy variables `ALL_PROXY`, `HTTPS_PROXY`, `HTTP_PROXY`, `NO_PROXY`. What [`Fetch`] is told goes
//! before them.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

mod cache;
mod client;
mod download;
mod environment;
mod error;
mod names;
mod selection;

pub use error::{Error, Result};

use cache::RepoCache;
use client::{Client, Listing, Patience, Remote, Target};
use environment::{Environment, Token};
use names::Source;
use selection::{Chosen, Selection};

/// Fetches what loading a model needs, by the environment's settings.
///
/// `id` is `org/name`, `org/name@revision` (a branch, tag or commit), or `org/name/file.gguf`
/// for one GGUF file of a repository that has several.
///
/// Returns the snapshot folder, or the GGUF file where the weights are one: either is a path for
/// [`ModelDir::open`](crate::ModelDir::open).
///
/// # Errors
/// Those of [`Fetch::run`].
pub fn fetch(id: &str) -> Result<PathBuf> {
    Fetch::new(id).run()
}

/// How far a download is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Progress<'a> {
    /// The file that grew.
    pub file: &'a str,
    /// Its bytes on disk. Never smaller than in an earlier report on the same file.
    pub done: u64,
    /// Its size in bytes.
    pub total: u64,
    /// Bytes on disk of all files that were chosen.
    pub all_done: u64,
    /// Size in bytes of all files that were chosen.
    pub all_total: u64,
}

type Report = Box<dyn FnMut(&Progress<'_>) + Send>;

/// A download with settings of its own.
///
/// ```no_run
/// use internlm_model::hub::Fetch;
///
/// # fn main() -> Result<(), internlm_model::hub::Error> {
/// let dir = Fetch::new("internlm/internlm2-chat-7b")
///     .with_revision("main")
///     .with_progress(|p| eprintln!("{}: {} of {} bytes", p.file, p.done, p.total))
///     .run()?;
/// # Ok(())
/// # }
/// ```
pub struct Fetch {
    id: String,
    revision: Option<String>,
    endpoint: Option<String>,
    token: Option<String>,
    cache_dir: Option<PathBuf>,
    offline: Option<bool>,
    patterns: Vec<String>,
    progress: Option<Report>,
    patience: Patience,
    lock_patience: Duration,
}

impl Fetch {
    /// A download of `id`, which is what [`fetch`] takes.
    pub fn new(id: impl Into<String>) -> Self {
        Self {
            id: id.into(),
            revision: None,
            endpoint: None,
            token: None,
            cache_dir: None,
            offline: None,
            patterns: Vec::new(),
            progress: None,
            patience: Patience {
                retries: 5,
                backoff: Duration::from_millis(500),
                timeout: Duration::from_secs(30),
            },
            lock_patience: Duration::from_secs(120),
        }
    }

    /// A branch, tag or commit. Goes before the one in the id; without either it is `main`.
    pub fn with_revision(mut self, revision: impl Into<String>) -> Self {
        self.revision = Some(revision.into());
        self
    }

    /// The hub's address, in place of `HF_ENDPOINT`.
    pub fn with_endpoint(mut self, endpoint: impl Into<String>) -> Self {
        self.endpoint = Some(endpoint.into());
        self
    }

    /// The token, in place of the environment's; empty for none. It is sent to the endpoint's host
    /// only, and only over https or to this machine.
    pub fn with_token(mut self, token: impl Into<String>) -> Self {
        self.token = Some(token.into());
        self
    }

    /// The folder that holds `models--org--name`, in place of the environment's.
    pub fn with_cache_dir(mut self, cache_dir: impl Into<PathBuf>) -> Self {
        self.cache_dir = Some(cache_dir.into());
        self
    }

    /// Whether the cache alone answers, in place of `HF_HUB_OFFLINE`.
    pub fn with_offline(mut self, offline: bool) -> Self {
        self.offline = Some(offline);
        self
    }

    /// Adds a pattern; files that match any are fetched, in place of what a model needs. `*` stands
    /// for any text, folders included, `?` for a character. Programs (`.py`, `.sh`, `.so` and the
    /// like) match only a pattern that ends in their extension. The path returned is the snapshot
    /// folder.
    pub fn with_pattern(mut self, pattern: impl Into<String>) -> Self {
        self.patterns.push(pattern.into());
        self
    }

    /// A function that hears of each quarter MiB.
    pub fn with_progress(mut self, report: impl FnMut(&Progress<'_>) + Send + 'static) -> Self {
        self.progress = Some(Box::new(report));
        self
    }

    /// How often a request is repeated after a timeout, a cut connection, or status 408, 429 or
    /// 5xx; 5 unless told. In a file, attempts that brought a MiB or more do not count.
    pub fn with_retries(mut self, retries: u32) -> Self {
        self.patience.retries = retries;
        self
    }

    /// The wait before the first repetition, doubled for each further one; half a second unless
    /// told. A server's `Retry-After` goes before it, up to a minute.
    pub fn with_backoff(mut self, backoff: Duration) -> Self {
        self.patience.backoff = backoff;
        self
    }

    /// The longest silence while connecting, awaiting an answer or reading; 30 seconds unless told.
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.patience.timeout = timeout;
        self
    }

    /// How long to wait for another process that downloads the same file and makes no progress; two
    /// minutes unless told.
    pub fn with_lock_patience(mut self, patience: Duration) -> Self {
        self.lock_patience = patience;
        self
    }

    /// Fetches what the cache lacks and returns the path to open, as [`fetch`] does.
    ///
    /// If the hub's listing can't be had (no connection, or a 5xx status to the end) and the cache
    /// holds the revision, the cache's snapshot is returned with a warning in the log.
    ///
    /// # Errors
    /// A malformed id or setting; a repository, revision or file that is absent, private or gated;
    /// nothing that can be loaded; a size or hash that differs from the listing; a connection that
    /// stays broken; offline and not in the cache; a cache that can't be written.
    pub fn run(mut self) -> Result<PathBuf> {
        let source = Source::parse(&self.id)?;
        let revision = self.revision.take().or(source.revision);
        let revision = revision.unwrap_or_else(|| "main".to_owned());
        names::check_revision(&revision)?;
        let selection = match source.file {
            Some(file) => Selection::File(file),
            None if self.patterns.is_empty() => Selection::Model,
            None => Selection::Patterns(std::mem::take(&mut self.patterns)),
        };
        let environment = Environment::of_process();
        let cache_dir = match self.cache_dir.take() {
            Some(cache_dir) => cache_dir,
            None => environment.cache_dir()?,
        };
        let target = Target {
            repo: source.repo,
            revision,
        };
        let cache = RepoCache::new(&cache_dir, &target.repo);
        if self.offline.unwrap_or_else(|| environment.offline()) {
            return cached(&cache, &cache_dir, &target, &selection);
        }
        let token = match self.token.take() {
            Some(token) => Token::new(&token)?,
            None => environment.token()?,
        };
        let endpoint = self
            .endpoint
            .take()
            .unwrap_or_else(|| environment.endpoint());
        let certificates = environment.certificates();
        let client = Client::new(&endpoint, token, certificates.as_deref(), self.patience)?;
        let listing = match client.listing(&target) {
            Ok(listing) => listing,
            Err(error) if error.is_outage() => {
                let Ok(path) = cached(&cache, &cache_dir, &target, &selection) else {
                    return Err(error);
                };
                tracing::warn!(%error, repo = target.repo, "hub: using the cache");
                return Ok(path);
            }
            Err(error) => return Err(error),
        };
        self.online(&client, &cache, &target, &selection, &listing)
    }

    fn online(
        &mut self,
        client: &Client,
        cache: &RepoCache,
        target: &Target,
        selection: &Selection,
        listing: &Listing,
    ) -> Result<PathBuf> {
        for file in &listing.files {
            names::check_file(&file.name).map_err(|what| Error::RemoteName {
                repo: target.repo.clone(),
                name: file.name.clone(),
                what,
            })?;
        }
        let names: Vec<String> = listing.files.iter().map(|file| file.name.clone()).collect();
        let chosen = choose(selection, target, &names)?;
        let commit = &listing.commit;
        let mut remotes = Vec::with_capacity(chosen.names.len());
        for name in &chosen.names {
            let listed = listing.files.iter().find(|file| &file.name == name);
            remotes.push(match listed.map(|file| (file.size, &file.hash)) {
                Some((Some(size), Some(hash))) => Remote {
                    name: name.clone(),
                    size,
                    hash: hash.clone(),
                },
                // A mirror whose listing has names alone.
                _ => client.metadata(target, commit, name)?,
            });
        }
        let all_total = remotes
            .iter()
            .fold(0, |sum: u64, r| sum.saturating_add(r.size));
        let mut before = 0;
        for remote in &remotes {
            let mut most = None;
            let mut report = |done: u64| {
                if most.is_some_and(|most| done <= most) {
                    return;
                }
                most = Some(done);
                if let Some(progress) = &mut self.progress {
                    let (file, total) = (remote.name.as_str(), remote.size);
                    let all_done = before + done;
                    progress(&Progress {
                        file,
                        done,
                        total,
                        all_done,
                        all_total,
                    });
                }
            };
            if cache.size(commit, &remote.name) != Some(remote.size) {
                let patience = self.lock_patience;
                download::blob(client, cache, target, commit, remote, patience, &mut report)?;
                cache.link(commit, &remote.name, &remote.hash)?;
            }
            report(remote.size);
            before = before.saturating_add(remote.size);
        }
        if &target.revision != commit {
            cache.write_ref(&target.revision, commit)?;
        }
        Ok(path_of(cache, commit, chosen))
    }
}

impl fmt::Debug for Fetch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fetch")
            .field("id", &self.id)
            .field("revision", &self.revision)
            .field("endpoint", &self.endpoint)
            .field("token", &self.token.as_ref().map(|_| ".."))
            .field("cache_dir", &self.cache_dir)
            .field("offline", &self.offline)
            .field("patterns", &self.patterns)
            .finish_non_exhaustive()
    }
}

/// A file that was named and is absent is an error of its own.
fn choose(selection: &Selection, target: &Target, names: &[String]) -> Result<Chosen> {
    match (selection, selection.choose(&target.repo, names)) {
        (Selection::File(file), Err(Error::NoFiles { repo, .. })) => Err(Error::FileNotFound {
            repo,
            revision: target.revision.clone(),
            file: file.clone(),
        }),
        (_, result) => result,
    }
}

fn path_of(cache: &RepoCache, commit: &str, chosen: Chosen) -> PathBuf {
    let folder = cache.snapshot(commit);
    chosen.file.map_or(folder.clone(), |file| folder.join(file))
}

/// The answer of the cache alone.
fn cached(
    cache: &RepoCache,
    cache_dir: &Path,
    target: &Target,
    selection: &Selection,
) -> Result<PathBuf> {
    let missing = |what: String| Error::Offline {
        repo: target.repo.clone(),
        revision: target.revision.clone(),
        cache: cache_dir.to_owned(),
        what,
    };
    let Some(commit) = cache.commit_of(&target.revision) else {
        return Err(missing("the revision was never fetched".to_owned()));
    };
    let names = cache.names(&commit);
    let chosen = match selection.choose(&target.repo, &names) {
        Ok(chosen) => chosen,
        Err(Error::NoFiles { wanted, .. }) => {
            return Err(missing(format!("no file matches {wanted}")));
        }
        Err(error) => return Err(error),
    };
    if matches!(selection, Selection::Model)
        && let Some(shard) = selection::missing_shard(&chosen.names)
    {
        return Err(missing(format!("`{shard}`")));
    }
    Ok(path_of(cache, &commit, chosen))
}
