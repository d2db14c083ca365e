//! What the tests of several modules need.

use uuid::Uuid;

use crate::cli::cluster::{Partition, Topic};
use crate::config::Endpoint;

/// A topic with an id, all of whose partitions one broker leads.
pub(super) fn topic(name: &str, partitions: i32) -> Topic {
    let partition = |index| Partition {
        index,
        leader: Some(Endpoint { host: "h".to_owned(), port: 1 }),
        leader_epoch: 0,
        replicas: vec![1],
        in_sync: vec![1],
        leader_id: 1,
    };
    Topic {
        name: name.into(),
        id: Uuid::from_u128(0x1234_5678_9abc_def0_1234_5678_9abc_def0),
        partitions: (0..partitions).map(partition).collect(),
    }
}
