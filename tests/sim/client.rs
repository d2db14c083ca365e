//! A client of the simulated node: asks again, on a new connection, until it is answered.

use std::time::Duration;

use aquifer::config::Endpoint;
use aquifer::net::{CallError, Peer, PeerOptions};
use aquifer_protocol::Request;
use aquifer_runtime::tasks::TaskGroup;

/// How long an answer is waited for.
const CALL_TIMEOUT: Duration = Duration::from_secs(20);
/// Between two tries.
const PAUSE: Duration = Duration::from_millis(250);

/// A client with one connection at a time.
pub(crate) struct Client {
    address: Endpoint,
    tasks: TaskGroup,
    peer: Option<Peer>,
}

impl Client {
    pub(crate) fn new(host: &str) -> Client {
        let address = Endpoint { host: host.to_owned(), port: crate::node::PORT };
        Client { address, tasks: TaskGroup::new(), peer: None }
    }

    /// A connection, sooner or later.
    pub(crate) async fn peer(&mut self) -> Peer {
        loop {
            if let Some(peer) = self.peer.as_ref().filter(|peer| !peer.is_closed()) {
                return peer.clone();
            }
            let options = PeerOptions {
                connect_timeout: Duration::from_secs(5),
                call_timeout: CALL_TIMEOUT,
                ..PeerOptions::default()
            };
            match Peer::connect(&self.address, options, &self.tasks).await {
                Ok(peer) => self.peer = Some(peer),
                Err(_) => tokio::time::sleep(PAUSE).await,
            }
        }
    }

    /// Asks once.
    pub(crate) async fn try_call<R: Request>(&mut self, request: &R) -> Result<R::Response, CallError> {
        self.peer().await.call(request).await
    }

    /// Asks until there is an answer: for what may be done twice.
    pub(crate) async fn call<R: Request>(&mut self, request: &R) -> R::Response {
        loop {
            match self.try_call(request).await {
                Ok(answer) => return answer,
                Err(CallError::Closed { .. } | CallError::Timeout { .. }) => tokio::time::sleep(PAUSE).await,
                Err(error) => {
                    panic!("a request that cannot be asked or an answer that cannot be read: {error}")
                }
            }
        }
    }

    /// Lets go of the connection.
    pub(crate) fn hang_up(&mut self) {
        self.peer = None;
    }
}

/// Between two tries after a refusal.
pub(crate) async fn pause() {
    tokio::time::sleep(PAUSE).await;
}
