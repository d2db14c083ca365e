//! What holds for the whole cluster: its beginning, producer ids, features.

use super::*;

#[test]
fn only_a_formatted_cluster_takes_commands_and_only_once() {
    let mut image = Image::default();
    assert_eq!(apply(&mut image, &register(1)), Err(Rejected::NotFormatted));
    assert_eq!(image, Image::default());
    check(vec![format()], Err(Rejected::AlreadyFormatted));
}

#[test]
fn producer_ids_are_given_once() {
    let ask = |broker, count| Command::AllocateProducerIds(AllocateProducerIds { broker, count });
    let block = |first| Ok(Outcome::ProducerIds(ProducerIdBlock { first: ProducerId(first), count: 1000 }));
    check(vec![ask(at(1), 1000)], block(0));
    check(vec![ask(at(1), 1000), ask(at(2), 1000)], block(1000));
    check(vec![ask(at(4), 1000)], block(0));
    check(vec![ask(at(1), 0)], Err(Rejected::InvalidBlock { count: 0, max: PRODUCER_IDS_MAX }));
    let too_many = Rejected::InvalidBlock { count: PRODUCER_IDS_MAX + 1, max: PRODUCER_IDS_MAX };
    check(vec![ask(at(1), PRODUCER_IDS_MAX + 1)], Err(too_many));
    check(vec![register(1), ask(at(1), 1000)], Err(Rejected::StaleBrokerEpoch { current: BrokerEpoch(4) }));
    let mut image = cluster();
    image.producer_id_next = i64::MAX - 999;
    assert_eq!(apply(&mut image, &ask(at(1), 1000)), Err(Rejected::Exhausted("producer ids")));
}

#[test]
fn features_rise_fall_and_go() {
    let set = |levels: &[(&str, i16)]| {
        let levels = levels.iter().map(|(name, level)| ((*name).to_owned(), *level)).collect();
        Command::SetFeatures(SetFeatures { levels })
    };
    let image = check(vec![set(&[("a", 2), ("b", 1)]), set(&[("a", 3), ("b", 0)])], DONE);
    assert_eq!(*image.features(), [("a".to_owned(), 3)].into());
    check(vec![set(&[("a", -1)])], Err(Rejected::InvalidFeature("a level is negative")));
    check(vec![set(&[("", 1)])], Err(Rejected::InvalidFeature("a name is empty or too long")));
}
