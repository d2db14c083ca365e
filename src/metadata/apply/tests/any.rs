//! Whatever comes, in any order: what must hold of every image, and from one to the next.

use super::*;

/// What must hold from one image to the next.
fn assert_forward(before: &Image, after: &Image) {
    assert!(after.broker_epoch_next >= before.broker_epoch_next);
    assert!(after.producer_id_next >= before.producer_id_next);
    for broker in before.brokers() {
        assert!(after.broker(broker.id).unwrap().epoch >= broker.epoch);
    }
    for topic in before.topics() {
        let Some(now) = after.topic(topic.id) else { continue };
        assert_eq!(now.name, topic.name, "a topic keeps its name");
        assert!(now.partitions.len() >= topic.partitions.len(), "a topic does not shrink");
        for (was, is) in topic.partitions.iter().zip(&now.partitions) {
            assert!(is.leader_epoch >= was.leader_epoch && is.epoch >= was.epoch);
            assert!(is.epoch > was.epoch || is == was, "a change raises the partition's epoch");
            assert!(is.leader_epoch > was.leader_epoch || is.leader == was.leader, "one leader an epoch");
        }
    }
}

/// Any command; whether its proposer knows the image.
fn proposed() -> impl Strategy<Value = (Command, bool)> {
    (arbitrary_command(), prop::bool::weighted(0.9))
}

/// The command as one who knows the image would propose it.
fn informed(image: &Image, mut command: Command) -> Command {
    let now = |broker: &mut BrokerRef| {
        if let Some(known) = image.broker(broker.broker) {
            broker.epoch = known.epoch;
        }
    };
    match &mut command {
        Command::UnfenceBroker(broker) | Command::FenceBroker(broker) => now(broker),
        Command::ForfeitReplicas(command) => now(&mut command.broker),
        Command::ForgetTopic(topic) => {
            *topic = image.deleted_topics().next().map_or(*topic, |deleted| deleted.id);
        }
        Command::AllocateProducerIds(command) => now(&mut command.broker),
        Command::CreatePartitions(command) => {
            command.existing = image.topic(command.topic).map_or(0, |topic| topic.partitions.len());
        }
        Command::ChangeLeader(command) => {
            command.epoch =
                image.partition(command.partition).map_or(PartitionEpoch::ZERO, |known| known.epoch);
        }
        Command::ChangeIsr(command) => {
            let Some(known) = image.partition(command.partition) else {
                return Command::ChangeIsr(command.clone());
            };
            command.leader.broker = known.leader.unwrap_or(command.leader.broker);
            now(&mut command.leader);
            (command.leader_epoch, command.epoch) = (known.leader_epoch, known.epoch);
            command
                .isr
                .retain(|(member, _)| known.replicas.contains(member) && *member != command.leader.broker);
            command.isr.dedup_by_key(|(member, _)| *member);
            command.isr.push((command.leader.broker, None));
        }
        _ => {}
    }
    command
}

/// A cluster of active brokers 0 to 3.
fn begun() -> Image {
    let mut image = Image::default();
    ok(&mut image, format());
    for (broker, epoch) in (0..4).zip(0..) {
        ok(&mut image, register(broker));
        ok(
            &mut image,
            Command::UnfenceBroker(BrokerRef { broker: BrokerId(broker), epoch: BrokerEpoch(epoch) }),
        );
    }
    image
}

fn run(
    begun: Image,
    commands: &[(Command, bool)],
    mut step: impl FnMut(&Image, &Command, &Result<Outcome, Rejected>, &Image),
) {
    let mut image = begun;
    for (command, knows) in commands {
        let command = if *knows { informed(&image, command.clone()) } else { command.clone() };
        let before = image.clone();
        let verdict = apply(&mut image, &command);
        step(&before, &command, &verdict, &image);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]
    #[test]
    fn any_commands_keep_an_image_sound(commands in prop::collection::vec(proposed(), 1..120)) {
        let first = begun();
        let (mut twin, mut last) = (first.clone(), first.clone());
        run(first.clone(), &commands, |before, command, verdict, image| {
            assert_eq!(verdict, &apply(&mut twin, command), "the same on every node");
            if verdict.is_err() {
                assert_eq!(image, before, "a refusal changes nothing");
            }
            assert_eq!(image.flaw(), None, "after {command:?}");
            assert_forward(before, image);
            assert_delta(before, image);
            last = image.clone();
        });
        prop_assert_eq!(&last, &twin);
        assert_delta(&first, &last);
    }
}

/// A delta must tell exactly what a full comparison finds.
fn assert_delta(old: &Image, new: &Image) {
    let delta = Delta::between(old, new);
    let mut topics: BTreeMap<TopicId, _> = old.topics().map(|topic| (topic.id, (**topic).clone())).collect();
    for gone in &delta.topics_deleted {
        assert_eq!(topics.remove(&gone.id).as_ref(), Some(&**gone));
    }
    for come in &delta.topics_created {
        assert!(old.topic(come.id).is_none());
        topics.insert(come.id, Topic { partitions: Vec::new(), ..(**come).clone() });
    }
    for configured in &delta.topics_configured {
        topics.get_mut(&configured.id).unwrap().configs = configured.configs.clone();
    }
    // A revision counts what the rest of the delta tells.
    for (id, topic) in &mut topics {
        topic.revision = new.topic(*id).map_or(topic.revision, |now| now.revision);
    }
    for change in &delta.partitions {
        let partitions = &mut topics.get_mut(&change.topic.id).unwrap().partitions;
        let index = change.partition.0 as usize;
        assert_eq!(partitions.get(index).cloned(), change.before);
        assert_ne!(change.before.as_ref(), Some(&change.after));
        if index == partitions.len() {
            partitions.push(change.after.clone());
        } else {
            partitions[index] = change.after.clone();
        }
    }
    assert!(topics.values().eq(new.topics().map(|topic| &**topic)));
    let mut brokers: BTreeMap<BrokerId, Arc<Broker>> = (*old.brokers).clone();
    for change in &delta.brokers {
        assert_ne!(change.before, change.after);
        assert_eq!(brokers.get(&change.broker), change.before.as_ref());
        brokers.extend(change.after.clone().map(|after| (change.broker, after)));
    }
    assert_eq!(brokers, *new.brokers);
    let keys = old.broker_configs.keys().chain(new.broker_configs.keys());
    for key in keys {
        let differs = old.broker_configs(*key) != new.broker_configs(*key);
        assert_eq!(differs, delta.broker_configs.contains(key));
    }
    assert_eq!(delta.features_changed, old.features() != new.features());
}

/// The property above is worth something only if its commands often stand: every kind must, within a fixed set of runs.
#[test]
fn arbitrary_commands_of_every_kind_stand_now_and_then() {
    use proptest::strategy::ValueTree as _;
    use proptest::test_runner::TestRunner;
    let mut runner = TestRunner::deterministic();
    let strategy = prop::collection::vec(proposed(), 100..120);
    let mut changed: BTreeMap<&str, usize> = BTreeMap::new();
    for _ in 0..100 {
        run(
            begun(),
            &strategy.new_tree(&mut runner).unwrap().current(),
            |before, command, verdict, after| {
                if verdict.is_ok() && before != after {
                    *changed.entry(command.name()).or_default() += 1;
                }
            },
        );
    }
    println!("{changed:?}");
    // All but FormatCluster, which stands once and before these.
    assert_eq!(changed.len(), 16, "{changed:?}");
    assert!(changed.values().all(|count| *count >= 10), "{changed:?}");
}
