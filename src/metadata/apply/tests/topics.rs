//! Topics come, grow and go.

use super::*;

#[test]
fn topics_are_created_where_names_ids_and_replicas_allow() {
    let image = check(vec![create(1002, "b", &[&[3, 1], &[4, 2]])], DONE);
    let created = image.topic_named("b").unwrap();
    let first = &created.partitions[0];
    assert_eq!((first.leader, first.isr.clone()), (Some(BrokerId(3)), vec![BrokerId(3), BrokerId(1)]));
    let second = &created.partitions[1];
    assert_eq!((second.leader, second.isr.clone()), (Some(BrokerId(2)), vec![BrokerId(2)]), "4 is fenced");
    assert_eq!((image.topic_count(), image.partition_count()), (2, 4));

    let collides = Rejected::NameCollides(TopicName::new("x.y").unwrap());
    let invalid =
        |partition| Rejected::InvalidReplicas { partition: PartitionIndex(partition), max: REPLICAS_MAX };
    let count = |count| Rejected::InvalidPartitionCount { count, max: TOPIC_PARTITIONS_MAX };
    let many: Vec<&[i32]> = vec![&[1]; TOPIC_PARTITIONS_MAX + 1];
    for (commands, expected) in [
        (vec![create(1002, "a", &[&[1]])], Rejected::TopicExists(topic(1001))),
        (vec![create(1002, "x.y", &[&[1]]), create(1003, "x_y", &[&[1]])], collides),
        (vec![create(1001, "b", &[&[1]])], Rejected::TopicIdTaken),
        (vec![create(0, "b", &[&[1]])], Rejected::TopicIdTaken),
        (vec![create(1, "b", &[&[1]])], Rejected::TopicIdTaken),
        (vec![create(1002, "b", &[])], count(0)),
        (vec![create(1002, "b", &many)], count(TOPIC_PARTITIONS_MAX + 1)),
        (vec![create(1002, "b", &[&[1], &[]])], invalid(1)),
        (vec![create(1002, "b", &[&[1, 2, 1]])], invalid(0)),
        (vec![create(1002, "b", &[&[1, 9]])], Rejected::UnknownBroker(BrokerId(9))),
        (vec![create(1002, "b", &[&[1], &[4]])], Rejected::NoActiveReplica(PartitionIndex(1))),
    ] {
        check(commands, Err(expected));
    }
}

#[test]
fn topics_grow_from_the_count_that_was_planned_on() {
    let grow = |id, existing, added: &[&[i32]]| {
        let added = added.iter().map(|replicas| replicas.iter().copied().map(BrokerId).collect()).collect();
        Command::CreatePartitions(CreatePartitions { topic: topic(id), existing, added })
    };
    let image = check(vec![grow(1001, 2, &[&[3], &[1, 2]])], DONE);
    assert_eq!(image.partition_count(), 4);
    assert_eq!(facts(&image, 2), (Some(3), vec![3], 0, 0, false));
    for (command, expected) in [
        (grow(1001, 1, &[&[3]]), Rejected::PartitionCountChanged { existing: 2 }),
        (grow(1009, 2, &[&[3]]), Rejected::UnknownTopic),
        (grow(1001, 2, &[]), Rejected::InvalidPartitionCount { count: 2, max: TOPIC_PARTITIONS_MAX }),
        (grow(1001, 2, &[&[4]]), Rejected::NoActiveReplica(PartitionIndex(2))),
    ] {
        check(vec![command], Err(expected));
    }
}

#[test]
fn deleted_topics_are_remembered_while_the_bucket_may_hold_them() {
    let delete =
        |remains| Command::DeleteTopic(DeleteTopic { topic: topic(1001), remains, time: Timestamp(7) });
    let gone = check(vec![delete(Remains::Nothing)], DONE);
    assert_eq!((gone.topic_count(), gone.partition_count(), gone.deleted_topics().count()), (0, 0, 0));
    assert!(gone.topic_named("a").is_none());

    let kept = check(vec![Command::FenceBroker(at(1)), delete(Remains::InTier)], DONE);
    let deleted = kept.deleted_topics().next().unwrap();
    let claims: Vec<i32> = deleted.claims.iter().map(|epoch| epoch.get()).collect();
    assert_eq!((&*deleted.name, claims), ("a", vec![2, 1]), "each claim is above every leader's epoch");

    let again = vec![delete(Remains::InTier), create(1002, "a", &[&[1]])];
    check(again, DONE);
    check(vec![delete(Remains::InTier), create(1001, "a", &[&[1]])], Err(Rejected::TopicIdTaken));
    check(vec![delete(Remains::InTier), Command::ForgetTopic(topic(1001))], DONE);
    check(vec![Command::ForgetTopic(topic(1001))], Err(Rejected::UnknownTopic));
    check(vec![delete(Remains::Nothing), delete(Remains::Nothing)], Err(Rejected::UnknownTopic));
}
