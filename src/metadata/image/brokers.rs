//! Brokers: registrations, endpoints, fencing.

use aquifer_model::format::Tags;
use aquifer_model::{BrokerId, Timestamp};

use crate::metadata::ids::{BrokerEpoch, BrokerIncarnation, DirectoryId, RaftNodeId};

/// A broker's newest registration.
#[derive(Debug, Clone, PartialEq)]
pub struct Broker {
    /// Its configured id.
    pub id: BrokerId,
    /// Fences requests of its earlier registrations.
    pub epoch: BrokerEpoch,
    /// Which process registered.
    pub incarnation: BrokerIncarnation,
    /// Its node in Raft, and so its data directory.
    pub node: RaftNodeId,
    /// Where clients and other brokers reach it.
    pub endpoints: Vec<Endpoint>,
    /// Where it stands.
    pub rack: Option<String>,
    /// Its log directories.
    pub directories: Vec<DirectoryId>,
    /// Whether it may lead and be in sync.
    pub state: BrokerState,
    /// When it registered, by its own clock.
    pub registered: Timestamp,
    /// Fields that a newer program wrote; written back as they are.
    pub(in crate::metadata) unknown: Tags,
}

impl Broker {
    /// Where a listener of it is reached.
    pub fn endpoint(&self, listener: &str) -> Option<&Endpoint> {
        self.endpoints.iter().find(|endpoint| endpoint.listener == listener)
    }
}

/// Whether a broker takes part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BrokerState {
    /// Registered, but not (or no longer) serving: leads nothing, gets no new replicas, joins no in-sync set.
    Fenced,
    /// Serving.
    Active,
}

/// One address of a broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// The listener's name, as in `PLAINTEXT://host:port`.
    pub listener: String,
    /// A name or address that clients can reach.
    pub host: String,
    /// 1 or greater.
    pub port: u16,
    /// What is spoken there.
    pub security: SecurityProtocol,
}

/// Kafka's four ways to secure a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SecurityProtocol {
    /// Neither encrypted nor authenticated.
    Plaintext,
    /// TLS.
    Ssl,
    /// SASL without TLS.
    SaslPlaintext,
    /// SASL over TLS.
    SaslSsl,
}
