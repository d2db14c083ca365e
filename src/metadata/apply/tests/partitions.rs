//! Leaders and in-sync sets.

use super::*;

#[test]
fn in_sync_sets_change_in_kafkas_order_of_checks() {
    let change = Command::ChangeIsr;
    let moved = Ok(Outcome::Partition(PartitionEpoch(1)));
    let shrunk = check(vec![change(isr(1, 0, 0, &[1, 3]))], moved);
    assert_eq!(facts(&shrunk, 0), (Some(1), vec![1, 3], 0, 1, false), "no new leader epoch for that");
    let shrink = change(isr(1, 0, 0, &[1]));
    check(vec![shrink.clone(), change(isr(1, 0, 1, &[2, 1]))], Ok(Outcome::Partition(PartitionEpoch(2))));
    check(vec![change(isr(1, 0, 0, &[1, 2, 3]))], Ok(Outcome::Partition(PartitionEpoch(0))));

    let unknown_partition = ChangeIsr { partition: part(7), ..isr(1, 0, 0, &[1]) };
    let unknown_topic =
        ChangeIsr { partition: TopicPartition { topic: topic(5), ..part(0) }, ..isr(1, 0, 0, &[1]) };
    let not_recovered = ChangeIsr { recovery: Recovery::Recovering, ..isr(1, 0, 0, &[1]) };
    let second_life = ChangeIsr { isr: vec![(BrokerId(1), None), (BrokerId(3), None)], ..isr(1, 0, 1, &[]) };
    let fence_1 = Command::FenceBroker(at(1));
    for (commands, expected) in [
        (vec![change(unknown_topic)], Rejected::UnknownTopic),
        (vec![change(unknown_partition)], Rejected::UnknownPartition),
        (
            vec![register(1), change(isr(1, 0, 0, &[1]))],
            Rejected::StaleBrokerEpoch { current: BrokerEpoch(4) },
        ),
        (vec![change(isr(1, 1, 0, &[1]))], Rejected::NewerEpoch),
        (vec![change(isr(1, 0, 1, &[1]))], Rejected::NewerEpoch),
        (
            vec![fence_1, change(isr(1, 0, 0, &[1]))],
            Rejected::StaleLeaderEpoch { current: LeaderEpoch::new(1).unwrap() },
        ),
        (vec![change(isr(2, 0, 0, &[1]))], Rejected::NotLeader(Some(BrokerId(1)))),
        (vec![shrink.clone(), shrink], Rejected::StalePartitionEpoch { current: PartitionEpoch(1) }),
        (vec![change(isr(1, 0, 0, &[]))], Rejected::InvalidIsr),
        (vec![change(isr(1, 0, 0, &[2, 3]))], Rejected::InvalidIsr),
        (vec![change(isr(1, 0, 0, &[1, 4]))], Rejected::InvalidIsr),
        (vec![change(isr(1, 0, 0, &[1, 1]))], Rejected::InvalidIsr),
        (vec![change(not_recovered)], Rejected::InvalidIsr),
        (
            vec![Command::FenceBroker(at(3)), change(isr(1, 0, 1, &[1, 3]))],
            Rejected::IneligibleReplicas(vec![BrokerId(3)]),
        ),
        (vec![register(3), change(second_life)], Rejected::IneligibleReplicas(vec![BrokerId(3)])),
    ] {
        check(commands, Err(expected));
    }
    // A stale catch-up: 3 has registered anew and is active, but the request names its first life.
    let back = BrokerRef { broker: BrokerId(3), epoch: BrokerEpoch(4) };
    let stale = vec![register(3), Command::UnfenceBroker(back), change(isr(1, 0, 1, &[1, 2, 3]))];
    check(stale, Err(Rejected::IneligibleReplicas(vec![BrokerId(3)])));
}

#[test]
fn leaders_are_elected_from_the_in_sync_set_or_at_a_loss() {
    let clean = check(vec![lead(0, 0, 3, Election::Clean)], Ok(Outcome::Partition(PartitionEpoch(1))));
    assert_eq!(facts(&clean, 0), (Some(3), vec![1, 2, 3], 1, 1, false));
    let shrink = Command::ChangeIsr(isr(1, 0, 0, &[1]));
    let unclean = vec![shrink.clone(), lead(0, 1, 2, Election::Unclean)];
    let image = check(unclean.clone(), Ok(Outcome::Partition(PartitionEpoch(2))));
    assert_eq!(facts(&image, 0), (Some(2), vec![2], 1, 2, true));
    let grow = ChangeIsr { recovery: Recovery::Recovering, ..isr(2, 1, 2, &[2, 3]) };
    check([unclean.clone(), vec![Command::ChangeIsr(grow)]].concat(), Err(Rejected::InvalidIsr));
    let recovered = Command::ChangeIsr(isr(2, 1, 2, &[2]));
    let image = check([unclean, vec![recovered]].concat(), Ok(Outcome::Partition(PartitionEpoch(3))));
    assert_eq!(facts(&image, 0), (Some(2), vec![2], 1, 3, false));
    let harmless = check(vec![lead(0, 0, 2, Election::Unclean)], Ok(Outcome::Partition(PartitionEpoch(1))));
    assert_eq!(facts(&harmless, 0), (Some(2), vec![1, 2, 3], 1, 1, false), "in sync: nothing is lost");

    for (commands, expected) in [
        (vec![lead(0, 0, 1, Election::Clean)], Rejected::AlreadyLeader(BrokerId(1))),
        (vec![lead(0, 0, 4, Election::Unclean)], Rejected::NotReplica(BrokerId(4))),
        (vec![lead(0, 1, 2, Election::Clean)], Rejected::NewerEpoch),
        (
            vec![shrink.clone(), lead(0, 0, 2, Election::Clean)],
            Rejected::StalePartitionEpoch { current: PartitionEpoch(1) },
        ),
        (vec![shrink, lead(0, 1, 2, Election::Clean)], Rejected::NotInIsr(BrokerId(2))),
        (
            vec![Command::FenceBroker(at(3)), lead(0, 1, 3, Election::Unclean)],
            Rejected::NotActive(BrokerId(3)),
        ),
        (vec![lead(7, 0, 2, Election::Clean)], Rejected::UnknownPartition),
    ] {
        check(commands, Err(expected));
    }
}

#[test]
fn a_partition_whose_leader_epochs_are_used_up_has_no_leader_ever_after() {
    let mut image = cluster();
    let last = LeaderEpoch::new(i32::MAX).unwrap();
    let worn = image.topics.get_mut(&topic(1001)).unwrap();
    Arc::make_mut(&mut Arc::make_mut(worn).partitions[1]).leader_epoch = last;
    ok(&mut image, Command::FenceBroker(at(2)));
    ok(&mut image, Command::UnfenceBroker(at(2)));
    assert_eq!(facts(&image, 1), (None, vec![2], i32::MAX, 2, false));
    assert_eq!(apply(&mut image, &lead(1, 2, 2, Election::Clean)), Err(Rejected::Exhausted("leader epochs")));
}
