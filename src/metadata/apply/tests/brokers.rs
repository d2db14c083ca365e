//! Brokers come and go, and what that does to partitions.

use super::*;

#[test]
fn a_broker_that_starts_again_is_fenced_and_leads_again_under_a_new_epoch() {
    let registered = check(vec![register(2)], Ok(Outcome::Broker(BrokerEpoch(4))));
    assert!(!registered.is_active(BrokerId(2)));
    assert_eq!(
        facts(&registered, 0),
        (Some(1), vec![1, 3], 0, 1, false),
        "it leaves an in-sync set that has others"
    );
    assert_eq!(facts(&registered, 1), (None, vec![2], 1, 1, false), "and waits in one that has not");
    let back = BrokerRef { broker: BrokerId(2), epoch: BrokerEpoch(4) };
    let led = check(vec![register(2), Command::UnfenceBroker(back)], DONE);
    assert_eq!(facts(&led, 1), (Some(2), vec![2], 2, 2, false));
    assert_eq!(facts(&led, 0), (Some(1), vec![1, 3], 0, 1, false));

    let other_leads = check(vec![register(1)], Ok(Outcome::Broker(BrokerEpoch(4))));
    assert_eq!(facts(&other_leads, 0), (Some(2), vec![2, 3], 1, 1, false));
}

#[test]
fn registrations_are_judged_by_process_and_data_directory() {
    let first = samples::registration(5, RaftNodeId(5));
    let told_again = vec![
        Command::RegisterBroker(first.clone()),
        Command::UnfenceBroker(at(5)),
        Command::RegisterBroker(RegisterBroker { rack: Some("r1".to_owned()), ..first }),
    ];
    let image = check(told_again, Ok(Outcome::Broker(BrokerEpoch(4))));
    assert!(image.is_active(BrokerId(5)), "the same process keeps its standing");
    assert_eq!(image.broker(BrokerId(5)).unwrap().rack.as_deref(), Some("r1"));

    let elsewhere = |broker| Command::RegisterBroker(samples::registration(broker, RaftNodeId(99)));
    check(vec![elsewhere(1)], Err(Rejected::DuplicateBroker(BrokerId(1))));
    check(vec![elsewhere(4)], Ok(Outcome::Broker(BrokerEpoch(4))));
    let taken = Command::RegisterBroker(samples::registration(7, RaftNodeId(1)));
    check(vec![taken], Err(Rejected::NodeTaken(BrokerId(1))));

    let with = |change: fn(&mut RegisterBroker)| {
        let mut registration = samples::registration(5, RaftNodeId(5));
        change(&mut registration);
        Command::RegisterBroker(registration)
    };
    for command in [
        with(|registration| registration.broker = BrokerId(-1)),
        with(|registration| registration.endpoints.clear()),
        with(|registration| registration.endpoints.push(registration.endpoints[0].clone())),
        with(|registration| registration.endpoints[0].host.clear()),
        with(|registration| registration.endpoints[0].port = 0),
        with(|registration| registration.rack = Some(String::new())),
        with(|registration| registration.rack = Some("r".repeat(256))),
        with(|registration| registration.directories = vec![registration.directories[0]; 65]),
    ] {
        let mut image = cluster();
        let before = image.clone();
        assert!(matches!(apply(&mut image, &command), Err(Rejected::InvalidRegistration(_))), "{command:?}");
        assert_eq!(image, before, "{command:?}");
    }
}

#[test]
fn fencing_moves_leadership_and_unfencing_brings_it_back_where_nobody_leads() {
    let fenced = check(vec![Command::FenceBroker(at(1)), Command::FenceBroker(at(2))], DONE);
    assert_eq!(facts(&fenced, 0), (Some(3), vec![3], 2, 2, false));
    assert_eq!(facts(&fenced, 1), (None, vec![2], 1, 1, false));
    let all = vec![
        Command::FenceBroker(at(1)),
        Command::FenceBroker(at(2)),
        Command::FenceBroker(at(3)),
        Command::UnfenceBroker(at(1)),
    ];
    let image = check(all.clone(), DONE);
    assert_eq!(facts(&image, 0), (None, vec![3], 3, 3, false), "1 is not in sync");
    let image = check([all, vec![Command::UnfenceBroker(at(3))]].concat(), DONE);
    assert_eq!(facts(&image, 0), (Some(3), vec![3], 4, 4, false));

    check(vec![Command::FenceBroker(at(4)), Command::FenceBroker(at(4))], DONE);
    check(vec![Command::UnfenceBroker(at(1))], DONE);
    let stale = Rejected::StaleBrokerEpoch { current: BrokerEpoch(4) };
    check(vec![register(2), Command::UnfenceBroker(at(2))], Err(stale.clone()));
    check(vec![register(2), Command::FenceBroker(at(2))], Err(stale));
    check(vec![Command::FenceBroker(at(9))], Err(Rejected::UnknownBroker(BrokerId(9))));
    let ahead = BrokerRef { broker: BrokerId(1), epoch: BrokerEpoch(9) };
    check(vec![Command::FenceBroker(ahead)], Err(Rejected::NewerEpoch));
}

#[test]
fn forfeited_replicas_leave_the_in_sync_set_or_must_recover() {
    let forfeit = |broker: BrokerRef| {
        let missing = TopicPartition { topic: topic(1), partition: PartitionIndex(0) };
        Command::ForfeitReplicas(ForfeitReplicas {
            broker,
            partitions: vec![part(0), missing, part(1), part(7), part(-1)],
        })
    };
    let image = check(vec![forfeit(at(2))], DONE);
    assert_eq!(facts(&image, 0), (Some(1), vec![1, 3], 0, 1, false));
    assert_eq!(
        facts(&image, 1),
        (Some(2), vec![2], 1, 1, true),
        "leading, but under a new epoch and recovering"
    );
    let image = check(vec![forfeit(at(1))], DONE);
    assert_eq!(facts(&image, 0), (Some(2), vec![2, 3], 1, 1, false));

    let back = BrokerRef { broker: BrokerId(2), epoch: BrokerEpoch(4) };
    let started = vec![register(2), forfeit(back), forfeit(back), Command::UnfenceBroker(back)];
    let image = check(started.clone(), DONE);
    assert_eq!(facts(&image, 1), (Some(2), vec![2], 2, 3, true), "told twice is told once");
    let recovered =
        ChangeIsr { partition: part(1), leader: back, isr: vec![(BrokerId(2), None)], ..isr(2, 2, 3, &[]) };
    let image = check(
        [started, vec![Command::ChangeIsr(recovered)]].concat(),
        Ok(Outcome::Partition(PartitionEpoch(4))),
    );
    assert_eq!(facts(&image, 1), (Some(2), vec![2], 2, 4, false));
    check(vec![register(2), forfeit(at(2))], Err(Rejected::StaleBrokerEpoch { current: BrokerEpoch(4) }));
}
