use aquifer_model::format::Tags;
use aquifer_model::{BrokerId, TopicId};
use bytes::Bytes;
use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::metadata::apply::apply;
use crate::metadata::codec::samples::{arbitrary_image, full_image};
use crate::metadata::command::{Command, KnownConfigs, SetClientQuotas, SetGroupConfigs};
use crate::metadata::image::{QuotaEntity, QuotaName};

fn encode(image: &Image) -> Vec<u8> {
    let mut writer = Writer::new();
    write(&mut writer, image);
    writer.finish()
}

/// Bytes that version 1 wrote. If they change, snapshots no longer load.
const GOLDEN: &str = include_str!("../golden/image-v1.txt");

const GOLDEN_QUOTAS: &str = include_str!("../golden/image-v1-quotas.txt");

const GOLDEN_GROUPS: &str = include_str!("../golden/image-v1-groups.txt");

#[test]
fn bytes_are_golden() {
    let image = full_image();
    let hex: String = encode(&image).iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(hex, GOLDEN.trim());
    assert_eq!(read(&encode(&image)), Ok(image));
}

/// Client quotas came later than the rest of version 1, as a field that must be understood; without any, nothing changed.
#[test]
fn client_quotas_are_a_field_of_their_own() {
    let mut image = full_image();
    let named = |name: &str| QuotaName::Named(name.to_owned());
    let changes = [
        (QuotaEntity::User(QuotaName::Default), [("a".to_owned(), Some(1.5))].into()),
        (
            QuotaEntity::UserAndClient { user: named("u"), client_id: named("c") },
            [("b".to_owned(), Some(2.0))].into(),
        ),
    ];
    apply(&mut image, &Command::SetClientQuotas(SetClientQuotas { changes: changes.into() })).unwrap();
    let hex: String = encode(&image).iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(hex, GOLDEN_QUOTAS.trim());
    assert_eq!(read(&encode(&image)), Ok(image.clone()));
    Arc::make_mut(&mut image.client_quotas).insert(named_ip(), [("a".to_owned(), 0.0)].into());
    assert!(read(&encode(&image)).is_err(), "a quota of nothing");
}

/// So did settings of groups.
#[test]
fn settings_of_groups_are_a_field_of_their_own() {
    let mut image = full_image();
    for (group, key) in [("b", "k"), ("a", "k"), ("a", "l")] {
        let changes = [(key.to_owned(), Some("1".to_owned()))].into();
        let set = SetGroupConfigs { group: group.to_owned(), changes, known: KnownConfigs::new() };
        apply(&mut image, &Command::SetGroupConfigs(set)).unwrap();
    }
    let hex: String = encode(&image).iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(hex, GOLDEN_GROUPS.trim());
    assert_eq!(read(&encode(&image)), Ok(image.clone()));
    Arc::make_mut(&mut image.group_configs).insert("c".to_owned(), [].into());
    assert!(read(&encode(&image)).is_err(), "a group without any");
}

fn named_ip() -> QuotaEntity {
    QuotaEntity::Ip(QuotaName::Named("::1".to_owned()))
}

#[test]
fn fields_of_newer_programs_are_kept_where_they_may_be_and_refused_where_not() {
    let mut optional = Tags::default();
    optional.set_optional(4, Bytes::from_static(b"kept"));
    let mut required = Tags::default();
    required.set_required(4, Bytes::from_static(b"needed"));
    let places: [fn(&mut Image, Tags); 5] = [
        |image, tags| image.unknown = tags,
        |image, tags| {
            Arc::make_mut(image.topics.get_mut(&TopicId::new(Uuid::from_u128(1001))).unwrap()).unknown = tags
        },
        |image, tags| {
            let topic = Arc::make_mut(image.topics.get_mut(&TopicId::new(Uuid::from_u128(1001))).unwrap());
            Arc::make_mut(&mut topic.partitions[0]).unknown = tags;
        },
        |image, tags| {
            let brokers = Arc::make_mut(&mut image.brokers);
            Arc::make_mut(brokers.get_mut(&BrokerId(1)).unwrap()).unknown = tags;
        },
        |image, tags| {
            Arc::make_mut(image.deleted.get_mut(&TopicId::new(Uuid::from_u128(1002))).unwrap()).unknown = tags
        },
    ];
    for (place, set) in places.into_iter().enumerate() {
        let mut image = full_image();
        set(&mut image, optional.clone());
        assert_eq!(read(&encode(&image)), Ok(image), "place {place}");
        let mut image = full_image();
        set(&mut image, required.clone());
        assert!(
            matches!(read(&encode(&image)), Err(FormatError::RequiredField { tag: 4, .. })),
            "place {place}"
        );
    }
}

#[test]
fn an_image_that_breaks_its_rules_is_refused() {
    let topic = TopicId::new(Uuid::from_u128(1001));
    let breaks: [fn(&mut Partition); 6] = [
        |partition| partition.replicas.clear(),
        |partition| partition.replicas = vec![BrokerId(1), BrokerId(1)],
        |partition| partition.isr.clear(),
        |partition| partition.isr.push(BrokerId(9)),
        |partition| partition.leader = Some(BrokerId(2)),
        |partition| partition.leader = Some(BrokerId(9)),
    ];
    for (number, damage) in breaks.into_iter().enumerate() {
        let mut image = full_image();
        let broken = Arc::make_mut(image.topics.get_mut(&topic).unwrap());
        damage(Arc::make_mut(&mut broken.partitions[0]));
        assert!(read(&encode(&image)).is_err(), "break {number}");
    }
    let mut image = full_image();
    image.broker_epoch_next = 0;
    assert!(read(&encode(&image)).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn images_round_trip_and_go_on_alike(image in arbitrary_image(), next in crate::metadata::codec::samples::arbitrary_command()) {
        let mut read_back = read(&encode(&image)).unwrap();
        prop_assert_eq!(&read_back, &image);
        prop_assert_eq!(encode(&read_back), encode(&image), "equal images have equal bytes");
        let mut image = image;
        prop_assert_eq!(apply(&mut read_back, &next), apply(&mut image, &next));
        prop_assert_eq!(read_back, image);
    }

    #[test]
    fn no_change_of_the_bytes_makes_the_reader_panic(image in arbitrary_image(), at: prop::sample::Index, value: u8) {
        let mut bytes = encode(&image);
        let at = at.index(bytes.len());
        bytes[at] = value;
        let _ = read(&bytes);
    }
}
