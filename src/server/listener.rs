//! The listening socket and its limits.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use aquifer_runtime::metrics::{Counter, Gauge, Registry, Table};
use aquifer_runtime::sockets::{self, Listener};
use aquifer_runtime::tasks::TaskGroup;
use parking_lot::Mutex;
use tokio::sync::watch;

use super::connection::{Connection, ConnectionLimits};
use super::dispatch::Dispatcher;
use super::ended::Ended;
use crate::config::{self, Config};

/// How long to wait after the process ran out of descriptors, before accepting again.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(100);

/// How many connections may be open.
#[derive(Debug, Clone, Copy)]
struct AcceptLimits {
    /// In all (`max.connections`).
    connections_max: usize,
    /// From one address (`max.connections.per.ip`).
    connections_per_ip_max: usize,
}

impl AcceptLimits {
    /// By default three eighths of the descriptors that the process may open: segments have half.
    fn of(configured: &config::Connections) -> AcceptLimits {
        let process_share =
            || usize::try_from(aquifer_runtime::files::open_files_max() / 8 * 3).unwrap_or(usize::MAX);
        let connections_max = configured.count_max.map_or_else(process_share, |count| count as usize);
        let half = connections_max.div_ceil(2);
        let connections_per_ip_max = configured.per_address_max.map_or(half, |count| count as usize);
        AcceptLimits { connections_max, connections_per_ip_max }
    }
}

/// Accepts connections and serves each in a task of its own.
#[derive(Debug)]
pub(crate) struct Acceptor {
    dispatcher: Arc<Dispatcher>,
    limits: ConnectionLimits,
    configs: watch::Receiver<Config>,
    open: OpenConnections,
    metrics: ServerMetrics,
}

#[derive(Debug, Clone, Default)]
struct ServerMetrics {
    accepted: Counter,
    refused: Counter,
    open: Gauge,
    foreign: Counter,
    invalid: Counter,
    accept_failures: Counter,
    given_up: Counter,
    answers_lost: Counter,
}

impl Acceptor {
    pub(crate) fn new(
        dispatcher: Arc<Dispatcher>,
        limits: ConnectionLimits,
        configs: watch::Receiver<Config>,
        registry: &mut Registry,
    ) -> Acceptor {
        let metrics = ServerMetrics::default();
        Table::under(registry, "aquifer_server")
            .row("connections_accepted", "Connections accepted", &metrics.accepted)
            .row("connections_refused", "Connections over a limit", &metrics.refused)
            .row("connections_open", "Connections open now", &metrics.open)
            .row("connections_foreign", "Connections that spoke another protocol", &metrics.foreign)
            .row("requests_invalid", "Requests that could not be read", &metrics.invalid)
            .row("accept_failures", "Connections that could not be accepted", &metrics.accept_failures)
            .row(
                "connections_given_up",
                "Connections whose client sent or read too slowly",
                &metrics.given_up,
            )
            .row("answers_unwritable", "Answers that could not be encoded: a bug", &metrics.answers_lost);
        Acceptor { dispatcher, limits, configs, open: OpenConnections::default(), metrics }
    }

    /// Accepts until the group is stopped.
    pub(crate) async fn run(self: Arc<Acceptor>, listener: Listener, tasks: TaskGroup) {
        let stopping = tasks.cancelled().clone();
        loop {
            let accepted = tokio::select! {
                () = stopping.cancelled() => return,
                accepted = listener.accept() => accepted,
            };
            let (stream, peer) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    // Out of descriptors, or a connection that was gone before it was accepted.
                    self.metrics.accept_failures.inc();
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(ACCEPT_BACKOFF).await;
                    continue;
                }
            };
            // They may have changed. Connections that are open stay; those that come find no room until enough have gone.
            let limits = AcceptLimits::of(&self.configs.borrow().broker().connections);
            let Some(slot) = self.open.enter(peer.ip(), limits) else {
                self.metrics.refused.inc();
                tracing::debug!(%peer, "connection refused: too many are open");
                continue;
            };
            let now = self.dispatcher.world().clock.now();
            if let Err(rest) = self.dispatcher.quotas().connection(peer.ip(), now) {
                tracing::debug!(%peer, ?rest, "connection put off: its address has connected too often");
                let stopping = stopping.clone();
                // As in Kafka, it is closed after its rest, since a client that is refused at once tries again at once.
                tasks.spawn("connection", async move {
                    tokio::select! {
                        () = stopping.cancelled() => {}
                        () = tokio::time::sleep(rest) => {}
                    }
                    drop((stream, slot));
                });
                continue;
            }
            if let Err(error) = sockets::configure(&stream) {
                tracing::debug!(%peer, %error, "connection was gone at once");
                continue;
            }
            self.metrics.accepted.inc();
            self.metrics.open.inc();
            let acceptor = self.clone();
            let stopping = stopping.clone();
            tasks.spawn("connection", async move {
                let limits = acceptor.limits.clone();
                let connection =
                    Connection::new(stream.into_split(), peer, limits, acceptor.dispatcher.clone());
                let ended = connection.serve(stopping).await;
                acceptor.ended(peer, &ended);
                drop(slot);
            });
        }
    }

    fn ended(&self, peer: SocketAddr, ended: &Ended) {
        self.metrics.open.dec();
        match ended {
            Ended::ByClient | Ended::Idle | Ended::Stopping | Ended::CutShort { .. } | Ended::Io(_) => {
                tracing::debug!(%peer, reason = %ended, "connection closed");
            }
            Ended::NotReading | Ended::InTheWay | Ended::TooSlow { .. } => {
                self.metrics.given_up.inc();
                tracing::warn!(%peer, reason = %ended, "connection closed");
            }
            Ended::Answer(_) => {
                self.metrics.answers_lost.inc();
                tracing::error!(%peer, reason = %ended, "connection closed");
            }
            Ended::Foreign(_) => {
                self.metrics.foreign.inc();
                tracing::warn!(%peer, reason = %ended, "connection closed");
            }
            Ended::Frame(_) | Ended::Request(_) => {
                self.metrics.invalid.inc();
                tracing::warn!(%peer, reason = %ended, "connection closed");
            }
            Ended::UnacknowledgedProduce(_) => tracing::info!(%peer, reason = %ended, "connection closed"),
        }
    }
}

#[derive(Debug, Default)]
struct OpenConnections {
    open: Arc<Mutex<Open>>,
}

#[derive(Debug, Default)]
struct Open {
    all: usize,
    by_ip: HashMap<IpAddr, usize>,
}

#[derive(Debug)]
struct Slot {
    open: Arc<Mutex<Open>>,
    ip: IpAddr,
}

impl OpenConnections {
    fn enter(&self, ip: IpAddr, limits: AcceptLimits) -> Option<Slot> {
        let mut open = self.open.lock();
        let from_ip = open.by_ip.get(&ip).copied().unwrap_or(0);
        if open.all >= limits.connections_max || from_ip >= limits.connections_per_ip_max {
            return None;
        }
        open.all += 1;
        open.by_ip.insert(ip, from_ip + 1);
        Some(Slot { open: self.open.clone(), ip })
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut open = self.open.lock();
        open.all -= 1;
        if let Some(from_ip) = open.by_ip.get_mut(&self.ip) {
            *from_ip -= 1;
            if *from_ip == 0 {
                open.by_ip.remove(&self.ip);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_hold_in_all_and_by_address_and_slots_come_back() {
        let open = OpenConnections::default();
        let limits = AcceptLimits { connections_max: 3, connections_per_ip_max: 2 };
        let enter = |last| open.enter(IpAddr::from([127, 0, 0, last]), limits);
        let first = enter(1).unwrap();
        let _second = enter(1).unwrap();
        assert!(enter(1).is_none());
        let _third = enter(2).unwrap();
        assert!(enter(3).is_none());
        drop(first);
        assert!(enter(3).is_some());
    }
}
