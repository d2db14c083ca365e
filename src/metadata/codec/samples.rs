//! Commands to test with.

use aquifer_model::{BrokerId, Timestamp};
use uuid::Uuid;

use crate::metadata::command::RegisterBroker;
use crate::metadata::ids::{BrokerIncarnation, DirectoryId, RaftNodeId};
use crate::metadata::image::{Endpoint, SecurityProtocol};

/// A registration of a process that never registered before.
pub(in crate::metadata) fn registration(broker: i32, node: RaftNodeId) -> RegisterBroker {
    static PROCESSES: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(1);
    let process = PROCESSES.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    RegisterBroker {
        broker: BrokerId(broker),
        incarnation: BrokerIncarnation(Uuid::from_u128(u128::from(process))),
        node,
        endpoints: vec![endpoint("PLAINTEXT", 9092, SecurityProtocol::Plaintext)],
        rack: None,
        directories: vec![DirectoryId(Uuid::from_u128(0xd1))],
        time: Timestamp(1_700_000_000_000),
    }
}

pub(in crate::metadata) fn endpoint(listener: &str, port: u16, security: SecurityProtocol) -> Endpoint {
    Endpoint { listener: listener.to_owned(), host: "localhost".to_owned(), port, security }
}
