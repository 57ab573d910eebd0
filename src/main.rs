//! The program: reads the settings and does what the command line asks for.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::{Parser, Subcommand};
use parlor::auth::password::Hasher;
use parlor::auth::token::{Keys, kept_secret};
use parlor::cluster::Cluster;
use parlor::commands;
use parlor::config::{Config, DotEnv, Secret, absolute};
use parlor::files::give_up_parts;
use parlor::in_flight::InFlight;
use parlor::limits::Limits;
use parlor::live::{HubBuilder, Renderer};
use parlor::logging;
use parlor::mail::Mailer;
use parlor::metrics::Metrics;
use parlor::noted_sessions::NotedSessions;
use parlor::operator::socket::{self, OperatorSocket};
use parlor::operator::{Operator, OperatorCommand};
use parlor::server;
use parlor::signals::Stop;
use parlor::state::{AppState, Services};
use parlor::store::Store;
#[cfg(feature = "mongodb")]
use parlor::store::mongo::MongoStore;
use parlor::store::sqlite::{SqliteStore, make_data_dir};
use parlor::views::{self, FragmentCache};
use tokio::runtime::{Handle, Runtime};
use tokio::task::spawn_blocking;
use tokio::time::timeout;

/// A page is some hundred small pieces and one large one, made and freed 20,000 times a second; this
/// one is a fifth faster at it than the system's. Figures are in `benches/NOTES.md`.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// How long taking leave of the store may take, after the requests under way.
const SHUTDOWN_MAX: Duration = Duration::from_millis(800);

/// For how long a network counts as an account's own after a sign-in from there has ended by itself: a
/// member who comes once a year is not locked out at home.
const KNOWN_BEYOND_SESSION: Duration = Duration::from_secs(400 * 24 * 60 * 60);

/// A self-hosted chat server. Without a command it serves, as the settings in the environment or
/// in .env say; see .env.example.
#[derive(Parser)]
#[command(name = "parlor", version)]
struct Arguments {
    /// Of user, invite and room: print JSON, a line for each thing
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Serve, which is what happens without a command
    Serve,
    /// Write everything as lines of JSON; a server may be running
    Export {
        /// The file to make, for this user only; standard output without one
        file: Option<PathBuf>,
    },
    /// Read an export from standard input into an empty store; no server may be running
    Import {
        /// The export is older than what people have seen of it: let their pages start over
        #[arg(long, alias = "older")]
        new_epoch: bool,
    },
    /// Say that the database was put back to an earlier state by other means, as by mongorestore; no
    /// server may be running
    #[command(alias = "went-back")]
    NewEpoch,
    #[command(flatten)]
    Operator(OperatorCommand),
    /// Copy the embedded database to a new file; a server may be running
    Backup {
        /// The file to make
        file: PathBuf,
    },
    /// Put a backup in the place of the embedded database; no server may be running
    Restore {
        /// The file that a backup made
        file: PathBuf,
    },
}

fn main() -> ExitCode {
    let ended = match Runtime::new() {
        Ok(runtime) => {
            let ended = runtime.block_on(run());
            // Left to the end of the process. A check of a large file, or a read of standard input, may
            // still be under way; and MongoDB's driver panics when its tasks are dropped in turn.
            std::mem::forget(runtime);
            ended
        }
        Err(error) => Err(error).context("cannot start"),
    };
    ended.unwrap_or_else(|error| {
        // One line, with the causes: what an operator sees when it does not start.
        commands::say(&format!("parlor: {error:#}"));
        ExitCode::FAILURE
    })
}

async fn run() -> anyhow::Result<ExitCode> {
    let mut stop = Stop::listen()?;
    let arguments = Arguments::parse();
    let dot_env = DotEnv::read()?;
    let config = Config::from_lookup(|name| dot_env.look_up(name))?;
    let command = match arguments.command {
        None | Some(Command::Serve) => {
            serve(config, stop).await?;
            return Ok(ExitCode::SUCCESS);
        }
        Some(command) => command,
    };
    // On a thread that may be kept waiting, by a large file or by standard input, while this one
    // listens.
    let runtime = Handle::current();
    let as_json = arguments.json;
    let performing = spawn_blocking(move || runtime.block_on(perform(command, as_json, &config)));
    tokio::select! {
        performed = performing => {
            performed.context("a bug")??;
            Ok(ExitCode::SUCCESS)
        }
        signal = stop.heard() => {
            // The databases undo whatever is half done by themselves, as after a power cut.
            give_up_parts();
            commands::say("parlor: stopped by a signal before it was done");
            Ok(ExitCode::from(128 + u8::try_from(signal).unwrap_or(0)))
        }
    }
}

async fn perform(command: Command, as_json: bool, config: &Config) -> anyhow::Result<()> {
    if as_json && !matches!(command, Command::Operator(_)) {
        bail!("--json is for user, invite and room");
    }
    match command {
        Command::Serve => Ok(()),
        Command::Operator(command) => operate(command, as_json, config).await,
        Command::Export { file } => commands::export(config, file.as_deref()).await,
        Command::Import { new_epoch } => commands::import(config, new_epoch).await,
        Command::NewEpoch => commands::new_epoch(config).await,
        Command::Backup { file } => commands::backup(config, &file),
        Command::Restore { file } => commands::restore(config, &file),
    }
}

/// Asks the running server, or, where there is none or it has its database to share, does it here.
async fn operate(command: OperatorCommand, as_json: bool, config: &Config) -> anyhow::Result<()> {
    let asked = match config.mongodb_uri {
        Some(_) => None,
        None => socket::ask(&config.data_dir, &command, as_json)?,
    };
    let outcome = match asked {
        Some(outcome) => outcome,
        None => {
            let metrics = Metrics::default();
            let renderer = Renderer {
                row: views::event_row,
                roster: views::here,
            };
            let nobody_hears = HubBuilder::new(1, &metrics, renderer);
            let (store, _) = open_store(config, &nobody_hears, &metrics).await?;
            let operator = Operator {
                store: &*store,
                config,
                hasher: &Hasher::start()?,
                as_json,
            };
            let done = operator.perform(command).await;
            store.shutdown().await?;
            done?
        }
    };
    commands::print(&outcome.output)?;
    outcome.said.iter().for_each(|said| commands::say(said));
    Ok(())
}

async fn serve(config: Config, mut stop: Stop) -> anyhow::Result<()> {
    let _log = logging::start(&config.rust_log);
    if !config.rate_limits {
        tracing::warn!("RATE_LIMITS is off: anybody may try passwords as fast as they can");
    }

    if config.public_url.is_https && config.trusted_proxies.is_empty() {
        tracing::warn!(
            "PUBLIC_URL is https, so a proxy stands in front, and TRUSTED_PROXIES does not name it: all \
             its clients count as one"
        );
    }

    let connections_max = server::connections_max();
    let metrics = Metrics::default();
    let renderer = Renderer {
        row: views::event_row,
        roster: views::here,
    };
    let hub = HubBuilder::new(config.streams_per_user, &metrics, renderer);
    let (store, cluster) = tokio::select! {
        store = open_store(&config, &hub, &metrics) => store?,
        _ = stop.heard() => {
            tracing::info!("parlor is down: it was asked to end before it was up");
            return Ok(());
        }
    };
    let secret = jwt_secret(&config)?;
    let listener = server::listen(config.bind_addr, "BIND_ADDR")?;
    let address = listener
        .local_addr()
        .context("the listener has no address")?;
    if let Some(address) = config.metrics_addr {
        let listener = server::listen(address, "METRICS_ADDR")?;
        server::serve_metrics(listener, address, metrics);
    }
    let hub = hub.start(
        Arc::<dyn Store>::clone(&store),
        Arc::<dyn Store>::clone(&store),
        Arc::<dyn Store>::clone(&store),
        cluster,
    );
    let keys = Keys::new(&secret, config.jwt_secret_previous.as_ref());
    if !config.bind_addr.ip().is_loopback() && store.has_no_users().await? {
        // Whatever is logged: it is the only way in.
        commands::say(&format!(
            "nobody is here yet: the first account, an admin’s, is made at {}/signup?invite={}",
            config.public_url,
            keys.first_invite()
        ));
    }
    let mailer = config.smtp_url.as_ref();
    let mailer = mailer.map(|url| Mailer::new(url, &config.smtp_from));
    let mailer = mailer.transpose()?;
    let state = AppState::new(Services {
        keys,
        hasher: Hasher::start()?,
        limits: Limits::new(
            config.rate_limits,
            Arc::<dyn Store>::clone(&store),
            KNOWN_BEYOND_SESSION + config.session_lifetime,
        ),
        mailer,
        hub: hub.clone(),
        fragments: FragmentCache::default(),
        noted_sessions: NotedSessions::default(),
        in_flight: InFlight::new(config.requests_per_user),
        store: Arc::clone(&store),
        config: config.clone(),
    });
    let operator = match config.mongodb_uri {
        Some(_) => None,
        None => operator_socket(&config, state.clone()),
    };
    let app = parlor::app(state);

    let data = match &config.mongodb_uri {
        Some(_) => "MongoDB (MONGODB_URI)".to_owned(),
        None => absolute(&config.data_dir).display().to_string(),
    };
    tracing::info!(%address, url = %config.public_url, data, connections_max, "parlor is up");
    let capacity = server::Capacity {
        connections_max,
        stream_threads: config.stream_threads,
        trusted_proxies: config.trusted_proxies,
    };
    let stop = async {
        stop.heard().await;
    };
    server::serve(listener, app, &hub, capacity, stop).await?;
    drop(operator);
    match timeout(SHUTDOWN_MAX, store.shutdown()).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::warn!(?error, "the store was not left in order"),
        Err(_) => tracing::warn!("the store was not left in order: it does not answer"),
    }
    tracing::info!("parlor is down");
    Ok(())
}

/// The socket for the command line. A server does without.
fn operator_socket(config: &Config, state: AppState) -> Option<OperatorSocket> {
    let serving = socket::serve(&config.data_dir, state);
    let warn = |error| {
        tracing::warn!(
            ?error,
            "parlor user, invite and room cannot reach this server"
        )
    };
    serving.map_err(warn).ok()
}

#[cfg_attr(not(feature = "mongodb"), expect(unused_variables))]
async fn open_store(
    config: &Config,
    hub: &HubBuilder,
    metrics: &Metrics,
) -> anyhow::Result<(Arc<dyn Store>, Option<Arc<dyn Cluster>>)> {
    Ok(match &config.mongodb_uri {
        #[cfg(feature = "mongodb")]
        Some(uri) => {
            let (uri, wait) = (uri.expose(), config.startup_wait);
            let (on_change, on_peer_change) = (hub.on_change(), hub.on_peer_change());
            let store =
                MongoStore::open(uri, wait, on_change, on_peer_change, metrics.clone()).await?;
            let cluster = store.cluster();
            (Arc::new(store), Some(cluster))
        }
        _ => {
            make_data_dir(&config.data_dir)?;
            // A large file may have to be read first, which nobody else should have to wait for.
            let (data_dir, on_change) = (config.data_dir.clone(), hub.on_change());
            let opening = spawn_blocking(move || SqliteStore::open(&data_dir, on_change));
            (Arc::new(opening.await.context("a bug")??), None)
        }
    })
}

fn jwt_secret(config: &Config) -> anyhow::Result<Secret> {
    match &config.jwt_secret {
        Some(secret) => Ok(secret.clone()),
        // Config requires one with MongoDB, so the data directory is there.
        None => kept_secret(&config.data_dir),
    }
}
