use super::*;

const DAY: Duration = Duration::from_secs(24 * 3600);

fn key(topic: &str, partition: i32) -> OffsetKey {
    OffsetKey { group: Str::from("g"), topic: Str::from(topic), partition }
}

fn value(committed: Duration) -> OffsetValue {
    OffsetValue {
        offset: 1,
        leader_epoch: None,
        topic_id: None,
        metadata: Str::EMPTY,
        committed: Timestamp(0).plus(committed),
        expires: None,
    }
}

fn gone(positions: &Positions, aging: &Aging, now: Duration) -> Vec<String> {
    let records = positions.expired(&Str::from("g"), aging, Timestamp(0).plus(now), 7 * DAY);
    let names = records.into_iter().map(|record| match record {
        Record::Offset { key, value: None } => format!("{}-{}", key.topic, key.partition),
        other => panic!("{other:?} takes nothing back"),
    });
    names.collect()
}

#[test]
fn a_position_ages_as_its_group_is_used() {
    let mut positions = Positions::default();
    positions.note(&key("old", 0), Some(value(Duration::ZERO)));
    positions.note(&key("young", 3), Some(value(5 * DAY)));
    let now = 8 * DAY;
    assert_eq!(gone(&positions, &Aging::EachSinceCommitted, now), ["old-0"]);
    assert!(gone(&positions, &Aging::Since(Timestamp(0).plus(2 * DAY)), now).is_empty());
    assert_eq!(gone(&positions, &Aging::Since(Timestamp(0).plus(DAY)), now), ["old-0"]);
    let reads = |topic: &str| BTreeSet::from([Str::from(topic)]);
    assert!(gone(&positions, &Aging::Except(reads("old")), now).is_empty());
    assert_eq!(gone(&positions, &Aging::Except(reads("young")), now), ["old-0"]);
    assert!(gone(&positions, &Aging::Never, now).is_empty());
    let aged_out = gone(&positions, &Aging::Since(Timestamp(0)), 12 * DAY);
    assert_eq!(aged_out, ["old-0", "young-3"]);
}

#[test]
fn a_client_that_says_how_long_is_heeded() {
    let mut positions = Positions::default();
    let expires = Some(Timestamp(0).plus(2 * DAY));
    positions.note(&key("t", 0), Some(OffsetValue { expires, ..value(Duration::ZERO) }));
    assert!(gone(&positions, &Aging::EachSinceCommitted, DAY).is_empty());
    assert_eq!(gone(&positions, &Aging::EachSinceCommitted, 2 * DAY), ["t-0"]);
    assert_eq!(gone(&positions, &Aging::Since(Timestamp(0)), 2 * DAY), ["t-0"]);
    // But what is read stays, as it does in Kafka.
    assert!(gone(&positions, &Aging::Except(BTreeSet::from([Str::from("t")])), 9 * DAY).is_empty());
    assert!(gone(&positions, &Aging::Never, 9 * DAY).is_empty());
}

#[test]
fn what_is_taken_back_is_gone() {
    let mut positions = Positions::default();
    positions.note(&key("t", 0), Some(value(DAY)));
    assert!(positions.get("t", 0).is_some());
    assert!(positions.get("t", 1).is_none());
    positions.note(&key("t", 0), None);
    positions.note(&key("never", 0), None);
    assert!(positions.is_empty());
}
