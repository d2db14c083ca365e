//! Ids for idempotent producers, unique in the cluster for ever.
//!
//! The metadata gives them out in blocks; a broker that stops forgets the rest of its block, which leaves a gap and harms
//! nobody.

use aquifer_model::{BrokerId, ProducerId};

use crate::metadata::command::{AllocateProducerIds, BrokerRef, ProducerIdBlock};
use crate::metadata::{Command, Metadata, Outcome, ProposeError};

/// Gives out ids.
#[derive(Debug)]
pub(crate) struct ProducerIds {
    broker: BrokerId,
    /// Held while a block is fetched: whoever comes meanwhile waits for the same block.
    block: tokio::sync::Mutex<Option<ProducerIdBlock>>,
}

impl ProducerIds {
    pub(crate) fn new(broker: BrokerId) -> ProducerIds {
        ProducerIds { broker, block: tokio::sync::Mutex::new(None) }
    }

    /// The next id.
    pub(crate) async fn next(&self, metadata: &Metadata) -> Result<ProducerId, ProposeError> {
        let mut block = self.block.lock().await;
        let current = match block.take().filter(|block| block.count > 0) {
            Some(current) => current,
            None => self.allocate(metadata).await?,
        };
        *block = Some(ProducerIdBlock { first: ProducerId(current.first.0 + 1), count: current.count - 1 });
        Ok(current.first)
    }

    async fn allocate(&self, metadata: &Metadata) -> Result<ProducerIdBlock, ProposeError> {
        let epoch = metadata.image().broker(self.broker).map(|broker| broker.epoch);
        let Some(epoch) = epoch else {
            return Err(ProposeError::Stopped("this broker is not registered".to_owned()));
        };
        let broker = BrokerRef { broker: self.broker, epoch };
        let command =
            Command::AllocateProducerIds(AllocateProducerIds { broker, count: ProducerIdBlock::SIZE });
        match metadata.propose(command).await? {
            Outcome::ProducerIds(block) => Ok(block),
            Outcome::Done | Outcome::Broker(_) | Outcome::Partition(_) => {
                unreachable!("apply answers an allocation of producer ids with a block")
            }
        }
    }
}
