//! Registration, fencing, and what they do to partitions.
//!
//! A fenced broker leads nothing and is in no in-sync set but those that it is the last member of: these wait for it without a
//! leader. A new process of a broker begins fenced whatever it was before, and leads again when it is unfenced: so each start
//! gives all that it leads a new leader epoch.

use std::collections::BTreeSet;
use std::sync::Arc;

use aquifer_model::BrokerId;
use aquifer_model::format::Tags;

use super::partitions::{change_where, elect, lead_from};
use super::{DIRECTORIES_MAX, ENDPOINTS_MAX, TEXT_BYTES_MAX, is_active, registered};
use crate::metadata::command::{BrokerRef, ForfeitReplicas, RegisterBroker};
use crate::metadata::ids::BrokerEpoch;
use crate::metadata::image::{Broker, BrokerState, Image, Recovery};
use crate::metadata::verdict::{Outcome, Rejected};

pub(super) fn register(image: &mut Image, command: &RegisterBroker) -> Result<Outcome, Rejected> {
    check_registration(command)?;
    let other = image.brokers().find(|broker| broker.node == command.node && broker.id != command.broker);
    if let Some(other) = other {
        return Err(Rejected::NodeTaken(other.id));
    }
    let mut broker = Broker {
        id: command.broker,
        epoch: BrokerEpoch(image.broker_epoch_next),
        incarnation: command.incarnation,
        node: command.node,
        endpoints: command.endpoints.clone(),
        rack: command.rack.clone(),
        directories: command.directories.clone(),
        state: BrokerState::Fenced,
        registered: command.time,
        unknown: Tags::default(),
    };
    let next = image.broker_epoch_next.checked_add(1).ok_or(Rejected::Exhausted("broker epochs"))?;
    if let Some(known) = image.broker(command.broker) {
        if known.node != command.node && known.state == BrokerState::Active {
            return Err(Rejected::DuplicateBroker(command.broker));
        }
        if known.incarnation == command.incarnation && known.node == command.node {
            // Told again, because the first answer was lost or an endpoint changed: the registration goes on.
            broker =
                Broker { epoch: known.epoch, state: known.state, registered: known.registered, ..broker };
            let epoch = broker.epoch;
            put(image, broker);
            return Ok(Outcome::Broker(epoch));
        }
    }
    image.broker_epoch_next = next;
    let (id, epoch) = (broker.id, broker.epoch);
    put(image, broker);
    leave(image, id);
    Ok(Outcome::Broker(epoch))
}

fn check_registration(command: &RegisterBroker) -> Result<(), Rejected> {
    let invalid = |what| Err(Rejected::InvalidRegistration(what));
    let bad = |text: &str| text.is_empty() || text.len() > TEXT_BYTES_MAX;
    if command.broker.0 < 0 {
        return invalid("the broker id is negative");
    }
    if !(1..=ENDPOINTS_MAX).contains(&command.endpoints.len()) {
        return invalid("no endpoint, or too many");
    }
    let listeners: BTreeSet<&str> = command.endpoints.iter().map(|endpoint| &*endpoint.listener).collect();
    if listeners.len() != command.endpoints.len() {
        return invalid("a listener is named twice");
    }
    if command
        .endpoints
        .iter()
        .any(|endpoint| bad(&endpoint.listener) || bad(&endpoint.host) || endpoint.port == 0)
    {
        return invalid("an endpoint's listener or host is empty or too long, or its port is 0");
    }
    if command.rack.as_deref().is_some_and(bad) {
        return invalid("the rack is empty or too long");
    }
    if command.directories.len() > DIRECTORIES_MAX {
        return invalid("too many log directories");
    }
    Ok(())
}

pub(super) fn unfence(image: &mut Image, asked: BrokerRef) -> Result<Outcome, Rejected> {
    if registered(image, asked)?.state == BrokerState::Active {
        return Ok(Outcome::Done);
    }
    set_state(image, asked.broker, BrokerState::Active);
    let brokers = Arc::clone(&image.brokers);
    change_where(
        image,
        |partition| partition.leader.is_none() && partition.isr.contains(&asked.broker),
        |partition| {
            let leader = lead_from(partition, |broker| is_active(&brokers, broker));
            elect(partition, leader);
        },
    );
    Ok(Outcome::Done)
}

pub(super) fn fence(image: &mut Image, asked: BrokerRef) -> Result<Outcome, Rejected> {
    if registered(image, asked)?.state == BrokerState::Fenced {
        return Ok(Outcome::Done);
    }
    set_state(image, asked.broker, BrokerState::Fenced);
    leave(image, asked.broker);
    Ok(Outcome::Done)
}

pub(super) fn forfeit_replicas(image: &mut Image, command: &ForfeitReplicas) -> Result<Outcome, Rejected> {
    registered(image, command.broker)?;
    let broker = command.broker.broker;
    let brokers = Arc::clone(&image.brokers);
    for &at in &command.partitions {
        let held = image.partition(at).is_some_and(|partition| {
            let last = partition.isr == [broker];
            let told = last && partition.recovery == Recovery::Recovering && partition.leader.is_none();
            partition.isr.contains(&broker) && !told
        });
        let Some(partition) = image.topics.get_mut(&at.topic).filter(|_| held).and_then(|topic| {
            let topic = Arc::make_mut(topic);
            topic.partitions.get_mut(usize::try_from(at.partition.0).ok()?)
        }) else {
            continue;
        };
        let partition = Arc::make_mut(partition);
        let led = partition.leader == Some(broker);
        if partition.isr == [broker] {
            partition.recovery = Recovery::Recovering;
        } else {
            partition.isr.retain(|member| *member != broker);
        }
        if led {
            let leader = lead_from(partition, |member| is_active(&brokers, member));
            elect(partition, leader);
        }
        partition.epoch = partition.epoch.next();
    }
    Ok(Outcome::Done)
}

/// Takes a broker, fenced by now, out of all leaderships and of the in-sync sets that have other members.
fn leave(image: &mut Image, broker: BrokerId) {
    let brokers = Arc::clone(&image.brokers);
    change_where(
        image,
        |partition| {
            let last = partition.isr == [broker];
            partition.leader == Some(broker) || (partition.isr.contains(&broker) && !last)
        },
        |partition| {
            if partition.isr != [broker] {
                partition.isr.retain(|member| *member != broker);
            }
            if partition.leader == Some(broker) {
                let leader = lead_from(partition, |member| is_active(&brokers, member));
                elect(partition, leader);
            }
        },
    );
}

fn set_state(image: &mut Image, broker: BrokerId, state: BrokerState) {
    if let Some(broker) = Arc::make_mut(&mut image.brokers).get_mut(&broker) {
        Arc::make_mut(broker).state = state;
    }
}

fn put(image: &mut Image, broker: Broker) {
    Arc::make_mut(&mut image.brokers).insert(broker.id, Arc::new(broker));
}
