use aquifer_model::ByteCount;
use tokio::time::Instant;

use super::*;
use crate::metadata::image::{QuotaEntity, QuotaName, QuotaValues};
use crate::quotas::charges::FetchCharge;
use crate::quotas::mutations::{Mutations, Strictness};

const OPTIONS: QuotaOptions = QuotaOptions {
    windows: Windows { count: 11, size: Duration::from_secs(1) },
    mutation_windows: Windows { count: 11, size: Duration::from_secs(1) },
    clients_max: 100,
};

/// A clock that stands still until it is moved on.
struct Desk {
    quotas: Quotas,
    now: Instant,
    clock: Clock,
}

impl Desk {
    fn new() -> Desk {
        let clock = Clock::system();
        Desk { quotas: Quotas::new(OPTIONS, &mut Registry::default()), now: clock.now(), clock }
    }

    fn set(&self, quotas: &[(QuotaEntity, &[(Kind, f64)])]) {
        let values = |values: &[(Kind, f64)]| -> QuotaValues {
            values.iter().map(|(kind, value)| (kind.key().to_owned(), *value)).collect()
        };
        let set: ClientQuotas = quotas.iter().map(|(entity, own)| (entity.clone(), values(own))).collect();
        self.quotas.take_up(&mut self.quotas.state.lock(), Arc::new(set));
    }

    fn of(&self, payer: &mut Payer, client_id: &str) -> Option<Arc<Charges>> {
        self.quotas.of(payer, ANONYMOUS, Some(client_id), self.clock)
    }

    /// One who connects, asks once, and leaves.
    fn once(&self, client_id: &str) -> Arc<Charges> {
        self.of(&mut Payer::default(), client_id).expect("a limit")
    }
}

fn client(name: &str) -> QuotaEntity {
    QuotaEntity::ClientId(QuotaName::Named(name.to_owned()))
}

fn user() -> QuotaEntity {
    QuotaEntity::User(QuotaName::Named(ANONYMOUS.to_owned()))
}

fn everyone() -> QuotaEntity {
    QuotaEntity::ClientId(QuotaName::Default)
}

fn bytes(count: u64) -> ByteCount {
    ByteCount(count)
}

const fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[test]
fn what_is_set_holds_from_the_next_request_on() {
    let desk = Desk::new();
    let (mut noisy, mut quiet) = (Payer::default(), Payer::default());
    assert!(desk.of(&mut noisy, "noisy").is_none());
    desk.set(&[(client("noisy"), &[(Kind::Produce, 1000.0)])]);
    let charges = desk.of(&mut noisy, "noisy").unwrap();
    assert_eq!(charges.produce(bytes(10_000), desk.now), Duration::ZERO);
    assert_eq!(charges.produce(bytes(2_000), desk.now), secs(2));
    assert!(desk.of(&mut quiet, "quiet").is_none(), "a neighbour has no limit");
    // Looked up once, as long as nothing changes.
    assert!(Arc::ptr_eq(&charges, &desk.of(&mut noisy, "noisy").unwrap()));
    // More is allowed: what was used stays used.
    desk.set(&[(client("noisy"), &[(Kind::Produce, 2000.0)])]);
    assert_eq!(desk.of(&mut noisy, "noisy").unwrap().produce(bytes(8_000), desk.now), Duration::ZERO);
    assert_eq!(desk.of(&mut noisy, "noisy").unwrap().produce(bytes(2_000), desk.now), secs(1));
    desk.set(&[]);
    assert!(desk.of(&mut noisy, "noisy").is_none());
    // One connection may speak for several.
    desk.set(&[(client("noisy"), &[(Kind::Produce, 1000.0)])]);
    assert!(desk.of(&mut noisy, "quiet").is_none());
    assert!(desk.of(&mut noisy, "noisy").is_some());
}

#[test]
fn a_client_has_one_account_however_it_connects_and_a_user_one_for_all_clients() {
    let desk = Desk::new();
    desk.set(&[(everyone(), &[(Kind::Produce, 1000.0)])]);
    assert_eq!(desk.once("a").produce(bytes(10_000), desk.now), Duration::ZERO);
    assert_eq!(desk.once("a").produce(bytes(1_000), desk.now), secs(1), "by another connection");
    assert_eq!(desk.once("b").produce(bytes(10_000), desk.now), Duration::ZERO, "a default is not shared");
    desk.set(&[(user(), &[(Kind::Produce, 1000.0)])]);
    assert_eq!(desk.once("a").produce(bytes(10_000), desk.now), Duration::ZERO);
    assert_eq!(desk.once("b").produce(bytes(1_000), desk.now), secs(1), "a user's quota is");
}

#[test]
fn a_fetch_that_is_too_much_is_withheld_and_not_counted() {
    let desk = Desk::new();
    desk.set(&[(everyone(), &[(Kind::Fetch, 1000.0)])]);
    let charges = desk.once("a");
    assert_eq!(charges.fetch_bytes_max(), Some(bytes(10_000)));
    assert_eq!(charges.fetch(bytes(9_000), desk.now), FetchCharge::Send(Duration::ZERO));
    assert_eq!(charges.fetch(bytes(4_000), desk.now), FetchCharge::Withhold(secs(3)));
    assert_eq!(charges.fetch(bytes(4_000), desk.now), FetchCharge::Withhold(secs(3)));
    assert_eq!(charges.fetch(bytes(1_000), desk.now), FetchCharge::Send(Duration::ZERO));
    // A batch larger than all that is allowed within the windows is sent when nothing else was, and paid for afterwards.
    let later = desk.now + secs(11);
    assert_eq!(charges.fetch(bytes(25_000), later), FetchCharge::Send(secs(15)));
    assert_eq!(charges.fetch(bytes(1), later), FetchCharge::Withhold(Duration::from_millis(15_001)));
    assert_eq!(charges.produce(bytes(1 << 30), later), Duration::ZERO, "of another kind");
}

#[test]
fn time_is_counted_in_hundredths_of_a_thread_and_rests_last_a_window_at_most() {
    let desk = Desk::new();
    desk.set(&[(everyone(), &[(Kind::Request, 50.0)])]);
    let charges = desk.once("a");
    assert!(charges.times_requests());
    assert_eq!(charges.request(secs(5), desk.now), Duration::ZERO);
    charges.note_request(Duration::from_millis(100), desk.now);
    assert_eq!(charges.request(Duration::from_millis(150), desk.now), Duration::from_millis(500));
    assert_eq!(charges.request(secs(60), desk.now), secs(1));
}

#[test]
fn partitions_in_debt_are_refused_to_those_who_know_and_slow_the_others_down() {
    let desk = Desk::new();
    desk.set(&[(everyone(), &[(Kind::Mutation, 2.0)])]);
    let mutations = |name, strictness| Mutations::new(Some(desk.once(name)), strictness);
    let mut first = mutations("new", Strictness::Strict);
    assert_eq!(first.admit(desk.now), Ok(()));
    first.pay(30, desk.now);
    assert_eq!(first.rest_ms(desk.now), 0, "let through whole");
    let mut second = mutations("new", Strictness::Strict);
    assert_eq!(second.admit(desk.now), Err(secs(4)));
    assert_eq!(second.rest_ms(desk.now + secs(1)), 3000, "what is left of it");
    assert_eq!(mutations("new", Strictness::Strict).admit(desk.now + secs(4)), Ok(()));
    let mut old = mutations("old", Strictness::Permissive);
    for (partitions, rest_ms) in [(22, 0), (2, 1000), (4, 3000)] {
        assert_eq!(old.admit(desk.now), Ok(()));
        old.pay(partitions, desk.now);
        assert_eq!(old.rest_ms(desk.now), rest_ms);
    }
    let mut broker = Mutations::unlimited();
    broker.pay(1_000_000, desk.now);
    assert_eq!(broker.admit(desk.now), Ok(()));
}

#[test]
fn connections_are_counted_by_address() {
    let desk = Desk::new();
    let address = |last| IpAddr::from([10, 0, 0, last]);
    let many = |address, now| (0..1000).take_while(|_| desk.quotas.connection(address, now).is_ok()).count();
    assert_eq!(many(address(1), desk.now), 1000);
    let ip = QuotaEntity::Ip;
    desk.set(&[
        (ip(QuotaName::Named("10.0.0.1".to_owned())), &[(Kind::Connection, 2.0)]),
        (ip(QuotaName::Default), &[(Kind::Connection, 3.0)]),
    ]);
    assert_eq!(many(address(1), desk.now), 20);
    assert_eq!(many(address(2), desk.now), 30, "each has as much as the default");
    let mapped = "::ffff:10.0.0.1".parse().unwrap();
    assert_eq!(desk.quotas.connection(mapped, desk.now), Err(Duration::from_millis(500)));
    assert_eq!(many(address(1), desk.now + Duration::from_millis(500)), 1, "those put off do not count");
    assert_eq!(many(address(1), desk.now + secs(12)), 20);
}

/// Strangers choose their names, and as many as they like.
#[test]
fn names_are_bounded_in_number_and_length() {
    let desk = Desk::new();
    desk.set(&[(everyone(), &[(Kind::Produce, 1.0), (Kind::Mutation, 1.0)])]);
    for number in 0..10_000 {
        desk.once(&format!("client-{number}"));
    }
    let state = desk.quotas.state.lock();
    assert!(state.rates.len() <= 300 && state.buckets.len() <= 100);
    drop(state);
    assert!(desk.quotas.metrics.forgotten.get() > 0);
    let long = "é".repeat(20_000);
    let mut payer = Payer::default();
    let charges = desk.of(&mut payer, &long).unwrap();
    assert!(payer.client_id.len() <= QUOTA_NAME_BYTES_MAX + 1);
    assert_eq!(charges.produce(bytes(11), desk.now), secs(1));
    assert_eq!(desk.once(&format!("{long}x")).produce(bytes(1), desk.now), secs(2), "they count as one");
    assert!(Arc::ptr_eq(&charges, &desk.of(&mut payer, &long).unwrap()), "looked up once");
}
