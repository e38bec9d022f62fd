//! Serve a model to OpenAI's clients, and a page to chat with.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, ValueEnum};
use internlm_examples::model::ModelArgs;
use internlm_examples::output::Output;
use internlm_examples::sampling::SamplingArgs;
use internlm_examples::{Error, Result, program};
use internlm_model::TextModel;
use internlm_serve::config::{CacheBudget, KvCacheDtype, PromptLookup};
use internlm_serve::http::{self, ServerConfig};
use internlm_serve::{Engine, EngineConfig, Models};
use tracing::level_filters::LevelFilter;

/// Serve a model: OpenAI's API, and a page to chat with.
///
/// SIGTERM and Ctrl-C let the answers that are being written finish; a second one ends at once.
#[derive(Parser)]
struct Arguments {
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    server: ServerArgs,
    #[command(flatten)]
    engine: EngineArgs,
    #[command(flatten)]
    sampling: SamplingArgs,
}

/// Where to listen, and to whom.
#[derive(Args)]
struct ServerArgs {
    /// Address to listen at
    #[arg(long, default_value = "127.0.0.1")]
    host: IpAddr,
    /// Port to listen at; 0 takes any that is free
    #[arg(long, default_value_t = 23333)]
    port: u16,
    /// Key that clients must name; may be given more than once. INTERNLM_API_KEY is one too, and does not
    /// show in the list of processes
    #[arg(long, value_name = "KEY")]
    api_key: Vec<String>,
    /// Listen at an address that other machines reach although there is no key
    #[arg(long)]
    allow_public_without_key: bool,
    /// Name that clients may call this server; * is any
    #[arg(long, value_name = "NAME")]
    allow_host: Vec<String>,
    /// Origin of other pages that may ask, such as https://example.org
    #[arg(long, value_name = "ORIGIN")]
    allow_origin: Vec<String>,
    /// Name of the model in the API; the checkpoint's own without it
    #[arg(long, value_name = "NAME")]
    model_name: Option<String>,
    /// Most seconds from a request to the end of its answer
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..))]
    deadline: Option<u64>,
    /// Seconds that answers get to finish in the end
    #[arg(long, value_name = "SECONDS", default_value_t = 20)]
    grace: u64,
}

/// How much at a time.
#[derive(Args)]
struct EngineArgs {
    /// Most answers that are written at a time
    #[arg(long, value_name = "N")]
    max_batch: Option<usize>,
    /// Most requests that wait; one more is sent away with status 429
    #[arg(long, value_name = "N")]
    max_waiting: Option<usize>,
    /// How keys and values are held: auto, or quantized to 8 or 4 bits
    #[arg(long, default_value = "auto")]
    kv_cache: KvCache,
    /// Memory for keys and values in MiB; half of what is free without it
    #[arg(long, value_name = "MIB")]
    cache_mib: Option<usize>,
    /// Most tokens of prompt and answer together; the model's own limit without it
    #[arg(long, value_name = "N")]
    max_context: Option<usize>,
    /// Folder or file of a smaller model of the same tokenizer that guesses ahead; answers don't change
    #[arg(long, value_name = "MODEL")]
    draft: Option<PathBuf>,
    /// Guess ahead what followed the last tokens before; answers don't change
    #[arg(long)]
    prompt_lookup: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum KvCache {
    /// As goes with the weights.
    Auto,
    /// 8 bits.
    Int8,
    /// 4 bits.
    Int4,
}

impl EngineArgs {
    fn config(&self) -> EngineConfig {
        let defaults = EngineConfig::default();
        let cache = self.cache_mib.map(|mib| CacheBudget::Bytes(mib << 20));
        let cache = cache.unwrap_or(defaults.cache);
        let max_batch = self.max_batch.unwrap_or(defaults.max_batch);
        let max_waiting = self.max_waiting.unwrap_or(defaults.max_waiting);
        defaults
            .with_cache(cache)
            .with_max_batch(max_batch)
            .with_max_waiting(max_waiting)
            .with_max_context(self.max_context)
            .with_prompt_lookup(self.prompt_lookup.then(PromptLookup::default))
            .with_kv_cache(match self.kv_cache {
                KvCache::Auto => KvCacheDtype::Auto,
                KvCache::Int8 => KvCacheDtype::Int8,
                KvCache::Int4 => KvCacheDtype::Int4,
            })
    }
}

impl ServerArgs {
    fn config(&self) -> ServerConfig {
        let from_environment = std::env::var("INTERNLM_API_KEY").ok();
        let keys = self.api_key.iter().cloned().chain(from_environment);
        let mut config = keys.fold(ServerConfig::default(), ServerConfig::with_api_key);
        config.allowed_hosts.extend(self.allow_host.iter().cloned());
        config
            .allowed_origins
            .extend(self.allow_origin.iter().cloned());
        config.model_name = self.model_name.clone();
        config
            .with_allow_public_without_key(self.allow_public_without_key)
            .with_request_deadline(self.deadline.map(Duration::from_secs))
            .with_shutdown_grace(Duration::from_secs(self.grace))
    }
}

fn main() -> ExitCode {
    program::run_logging(LevelFilter::INFO, run)
}

fn run(arguments: Arguments) -> Result<()> {
    let server = &arguments.server;
    let mut config = server.config();
    config.validate()?;
    // Before the model is loaded: that takes a while.
    let listener = http::bind(SocketAddr::new(server.host, server.port), &config)?;
    let address = listener.local_addr().map_err(Error::io("the listener"))?;
    let model = arguments.model.text_model()?;
    let defaults = model.model().recommended_sampling();
    let sampling = arguments.sampling.params(defaults);
    config = config.with_default_sampling(Some(sampling));
    let mut models = Models::new(model);
    if let Some(draft) = &arguments.engine.draft {
        let load = arguments.model.runtime.load_config()?;
        models = models.with_draft(TextModel::load(draft, load)?);
    }
    let engine = Engine::new(models, arguments.engine.config())?;
    // One thread moves bytes; the others are for the model.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(Error::io("the runtime"))?;
    let served = runtime.block_on(async {
        let stop = signals()?;
        Output::new(false).text(&format!("serving at http://{address}\n"))?;
        http::serve(listener, engine.clone(), config, stop).await?;
        Ok(())
    });
    engine.shutdown(Duration::ZERO);
    served
}

/// A future that is done at the first signal. The second one ends the program.
fn signals() -> Result<impl Future<Output = ()> + Send> {
    let (first, told) = tokio::sync::oneshot::channel();
    let mut next = Signals::new()?;
    tokio::spawn(async move {
        next.wait().await;
        let _ = first.send(());
        std::process::exit(next.wait().await);
    });
    Ok(async {
        let _ = told.await;
    })
}

/// SIGTERM and SIGINT, or Ctrl-C.
struct Signals {
    #[cfg(unix)]
    terminate: tokio::signal::unix::Signal,
    #[cfg(unix)]
    interrupt: tokio::signal::unix::Signal,
}

impl Signals {
    #[cfg(unix)]
    fn new() -> Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        let listen = |kind| signal(kind).map_err(Error::io("signals"));
        Ok(Self {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
        })
    }

    #[cfg(not(unix))]
    fn new() -> Result<Self> {
        Ok(Self {})
    }

    /// Waits for one, and gives the status of a program that it ends.
    #[cfg(unix)]
    async fn wait(&mut self) -> i32 {
        // 128 + the number, as shells report it.
        tokio::select! {
            _ = self.terminate.recv() => 143,
            _ = self.interrupt.recv() => 130,
        }
    }

    #[cfg(not(unix))]
    async fn wait(&mut self) -> i32 {
        match tokio::signal::ctrl_c().await {
            Ok(()) => 130,
            Err(_) => std::future::pending().await,
        }
    }
}
