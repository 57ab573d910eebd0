//! Starts a server: settings, log, store, listener, and back down again.

use std::io::IsTerminal;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use parlor::auth::password::Hasher;
use parlor::auth::token::{Keys, kept_secret};
use parlor::config::{Config, Secret};
use parlor::limits::Limits;
use parlor::live::Hub;
use parlor::server;
use parlor::state::AppState;
use parlor::store::Store;
use parlor::store::mongo::MongoStore;
use parlor::store::sqlite::{SqliteStore, make_data_dir};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // One line, with the causes: what an operator sees when it does not start.
            eprintln!("parlor: {error:#}");
            ExitCode::FAILURE
        }
    }
}

#[tokio::main]
async fn run() -> anyhow::Result<()> {
    match dotenvy::dotenv() {
        Ok(_) => {}
        Err(error) if error.not_found() => {}
        Err(_) => anyhow::bail!(".env cannot be read: each line takes NAME=value"),
    }
    let config = Config::from_lookup(|name| std::env::var(name).ok())?;
    tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new(&config.rust_log))
        .with_ansi(std::io::stdout().is_terminal())
        .init();
    if !config.rate_limits {
        tracing::warn!("RATE_LIMITS is off: anybody may try passwords as fast as they can");
    }

    let connections_max = server::connections_max();
    let hub = Hub::new(config.streams_per_user);
    let store = open_store(&config, &hub).await?;
    let secret = jwt_secret(&config)?;
    let listener = server::listen(config.bind_addr)?;
    let address = listener
        .local_addr()
        .context("the listener has no address")?;
    hub.start(Arc::clone(&store));
    let app = parlor::app(AppState {
        keys: Arc::new(Keys::new(&secret, config.jwt_secret_previous.as_ref())),
        hasher: Hasher::start()?,
        limits: Arc::new(Limits::new(config.rate_limits)),
        hub: hub.clone(),
        store,
        config: Arc::new(config.clone()),
    });

    let stop = stop_signal()?;
    tracing::info!(%address, url = %config.public_url, connections_max, "parlor is up");
    server::serve(listener, app, &hub, connections_max, stop).await;
    tracing::info!("parlor is down");
    Ok(())
}

async fn open_store(config: &Config, hub: &Hub) -> anyhow::Result<Arc<dyn Store>> {
    Ok(match &config.mongodb_uri {
        Some(uri) => Arc::new(MongoStore::open(uri.expose(), hub.on_change()).await?),
        None => {
            make_data_dir(&config.data_dir)?;
            Arc::new(SqliteStore::open(&config.data_dir, hub.on_change())?)
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

/// Resolves at the first SIGTERM or Ctrl-C; the second one ends the process as usual.
fn stop_signal() -> anyhow::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = tokio::signal::ctrl_c() => {}
        }
    })
}
