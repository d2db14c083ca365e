//! This broker's place in the cluster: it registers, fenced; opens its logs; and asks to be let in.

use std::time::Duration;

use aquifer_model::BrokerId;
use aquifer_runtime::World;
use uuid::Uuid;

use crate::metadata::command::{BrokerRef, RegisterBroker};
use crate::metadata::image::Endpoint;
use crate::metadata::{
    BrokerEpoch, BrokerIncarnation, Command, DirectoryId, Metadata, Outcome, ProposeError,
};

/// What a broker says of itself.
#[derive(Debug, Clone)]
pub(crate) struct Registration {
    pub(crate) broker: BrokerId,
    pub(crate) endpoints: Vec<Endpoint>,
    pub(crate) rack: Option<String>,
    /// The directories that its logs lie in.
    pub(crate) directories: Vec<Uuid>,
}

/// How long to wait before an outcome that is not known is asked for again.
const AGAIN_AFTER: Duration = Duration::from_millis(100);
/// How often; the metadata has a deadline of its own for each.
const ATTEMPTS_MAX: u32 = 5;

/// Registers this process as the broker. It is fenced until [`enter`].
pub(crate) async fn register(
    world: &World,
    metadata: &Metadata,
    registration: Registration,
) -> Result<BrokerRef, ProposeError> {
    let broker = registration.broker;
    let command = Command::RegisterBroker(RegisterBroker {
        broker,
        incarnation: BrokerIncarnation(world.rng.uuid()),
        node: metadata.node_id(),
        endpoints: registration.endpoints,
        rack: registration.rack,
        directories: registration.directories.into_iter().map(DirectoryId).collect(),
        time: world.clock.wall(),
    });
    match persist(metadata, command).await? {
        Outcome::Broker(epoch) => Ok(BrokerRef { broker, epoch }),
        Outcome::Done | Outcome::Partition(_) | Outcome::ProducerIds(_) => {
            unreachable!("apply answers a registration with a broker epoch")
        }
    }
}

/// Asks to be let in: from now on this broker leads what is its to lead, under new epochs.
pub(crate) async fn enter(metadata: &Metadata, broker: BrokerRef) -> Result<BrokerEpoch, ProposeError> {
    persist(metadata, Command::UnfenceBroker(broker)).await?;
    Ok(broker.epoch)
}

/// Both commands may be proposed again when their outcome was lost: a registration of the same incarnation gets the same epoch.
async fn persist(metadata: &Metadata, command: Command) -> Result<Outcome, ProposeError> {
    let mut attempt = 1;
    loop {
        match metadata.propose(command.clone()).await {
            Err(ProposeError::Unknown(_) | ProposeError::Timeout { .. }) if attempt < ATTEMPTS_MAX => {
                attempt += 1;
                tokio::time::sleep(AGAIN_AFTER).await;
            }
            settled => return settled,
        }
    }
}
