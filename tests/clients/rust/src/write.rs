//! Lines from stdin, produced idempotently with `acks=all` to the partitions that the library chooses.

use crate::options::Options;
use crate::seen::Seen;
use anyhow::{Context, Result, bail};
use rdkafka::ClientContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseProducer, BaseRecord, DeliveryResult, Producer, ProducerContext};
use std::io::BufRead;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

const POLL: Duration = Duration::from_millis(100);

/// What was delivered, and the first that went wrong. Deliveries of one partition come in the order of its offsets.
#[derive(Default)]
struct Delivered(Mutex<(Seen, Option<anyhow::Error>)>);

impl ClientContext for Delivered {}

impl ProducerContext for Delivered {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        let mut delivered = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let noted = match result {
            Ok(message) => delivered.0.add(message),
            Err((error, _)) => Err(error.clone().into()),
        };
        if let Err(error) = noted {
            delivered.1.get_or_insert(error);
        }
    }
}

pub fn write(options: &Options) -> Result<()> {
    let topic = options.need("topic")?;
    let mut config = options.client()?;
    config.set("acks", "all").set("enable.idempotence", "true").set("linger.ms", "20");
    config.set("compression.type", options.get("compression").unwrap_or("none"));
    config.set("delivery.timeout.ms", options.timeout()?.as_millis().to_string());
    let producer: BaseProducer<Delivered> = config.create_with_context(Delivered::default())?;
    for (number, line) in std::io::stdin().lock().split(b'\n').enumerate() {
        let line = line.context("reading stdin")?;
        let tab = line.iter().position(|byte| *byte == b'\t');
        let tab = tab.with_context(|| format!("line {} has no tab", number + 1))?;
        let mut record = BaseRecord::to(topic).key(&line[..tab]).payload(&line[tab + 1..]);
        while let Err((error, refused)) = producer.send(record) {
            if error != KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull) {
                bail!(error);
            }
            options.check_deadline("the queue is still full")?;
            producer.poll(POLL);
            record = refused;
        }
        producer.poll(Duration::ZERO);
    }
    producer.flush(options.timeout()?)?;
    let mut delivered = producer.context().0.lock().unwrap_or_else(PoisonError::into_inner);
    let (seen, failure) = std::mem::take(&mut *delivered);
    match failure {
        Some(error) => Err(error),
        None => {
            seen.print();
            Ok(())
        }
    }
}
