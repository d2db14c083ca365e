//! `aquifer dev` and `aquifer broker`: a broker until it is told to stop.

use anyhow::Context as _;
use aquifer_runtime::World;
use aquifer_tiering::Store;
use tokio::signal::unix::{SignalKind, signal};

use super::logging;
use crate::broker::Broker;
use crate::config::Config;

/// As [`run`], for one who tries things out: a folder that is to be the bucket is made.
pub async fn dev(config: Option<Config>) -> anyhow::Result<()> {
    if let Some(tier) = config.as_ref().and_then(|config| config.broker().tier.as_ref()) {
        Store::make_folder(tier.object_store.as_str(), &World::system())?;
    }
    run(config).await
}

/// Runs a broker until SIGTERM, SIGINT or the failure of a part; stops in order. Without a configuration (it was only to be
/// printed) there is nothing to do.
pub async fn run(config: Option<Config>) -> anyhow::Result<()> {
    let Some(config) = config else { return Ok(()) };
    logging::start(&config.broker().logging);
    let mut terminate = signal(SignalKind::terminate()).context("cannot wait for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot wait for SIGINT")?;
    let world = World::system();
    let began = world.clock.now();
    let store = config.broker().tier.as_ref().map(|tier| tier.object_store.to_string());
    let broker = tokio::select! {
        started = Broker::start(config, world) => started?,
        // Nothing was promised to anybody yet: as after a crash, the next start takes up what lies there.
        _ = terminate.recv() => return given_up("SIGTERM"),
        _ = interrupt.recv() => return given_up("SIGINT"),
    };
    for address in broker.addresses() {
        tracing::info!(%address, "serving Kafka clients");
    }
    if let Some(admin) = broker.admin_address() {
        tracing::info!(%admin, "serving /live, /ready, /metrics, /api/status, /api/groups");
    }
    match store {
        Some(store) => tracing::info!(store, "sealed segments go to this bucket"),
        None => tracing::info!("no object store is configured: topics are local only"),
    }
    tracing::info!(took = ?began.elapsed(), "ready");
    tokio::select! {
        _ = terminate.recv() => tracing::info!("SIGTERM: stopping"),
        _ = interrupt.recv() => tracing::info!("SIGINT: stopping"),
        () = broker.failed() => tracing::error!("a part of the broker failed: stopping"),
    }
    broker.stop().await?;
    tracing::info!("stopped in order");
    Ok(())
}

fn given_up(signal: &str) -> anyhow::Result<()> {
    tracing::info!("{signal}: the start is given up");
    Ok(())
}
