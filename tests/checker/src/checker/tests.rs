//! A clean history is clean, and each violation that is put into it is found, as what it is.

use super::*;
use crate::event::{Number, Object, Segment, Source};
use proptest::prelude::*;

const COUNT: u32 = 10;

fn partition(index: u32) -> Partition {
    Partition { topic: "t".to_owned(), index }
}

fn records(first: u64, count: u32) -> Records {
    Records { producer: Producer(1), first: Number(first), count }
}

fn reader(name: &str) -> Reader {
    Reader(name.to_owned())
}

fn sent(first: u64, count: u32) -> Event {
    Event::Sent { partition: partition(0), records: records(first, count) }
}

fn acked(first: u64, count: u32, offset: i64) -> Event {
    Event::Acked { partition: partition(0), records: records(first, count), offset: Offset(offset) }
}

fn read(name: &str, offset: i64, first: u64, count: u32, source: Source) -> Event {
    let (offset, records) = (Offset(offset), records(first, count));
    Event::Read { reader: reader(name), partition: partition(0), offset, records, source }
}

fn audit(offset: i64, first: u64, count: u32) -> Event {
    read("audit", offset, first, count, Source::Audit)
}

fn audited(log_start: i64, end: i64) -> Event {
    Event::Audited { partition: partition(0), log_start: Offset(log_start), end: Offset(end) }
}

fn marks(name: &str, start: i64, high_watermark: i64) -> Event {
    let (log_start, high_watermark) = (Some(Offset(start)), Some(Offset(high_watermark)));
    Event::Marks { reader: reader(name), partition: partition(0), log_start, high_watermark }
}

fn topic(expiry: Expiry) -> Event {
    Event::Topic { topic: "t".to_owned(), partitions: 1, expiry }
}

fn fault() -> Event {
    Event::Fault { what: "kill".to_owned() }
}

fn manifest(ranges: &[(i64, i64)], others: &[&str]) -> Event {
    let segment = |(base, next): &(i64, i64)| Segment {
        base: Offset(*base),
        next: Offset(*next),
        object: format!("o{base}"),
        bytes: 100,
    };
    let others = others.iter().map(|key| (*key).to_owned()).collect();
    Event::Manifest {
        partition: partition(0),
        segments: ranges.iter().map(segment).collect(),
        others,
        at_ms: 0,
    }
}

fn listing(objects: &[(&str, u64, u64)]) -> Event {
    let object = |(key, bytes, age_ms): &(&str, u64, u64)| Object {
        key: (*key).to_owned(),
        bytes: *bytes,
        age_ms: *age_ms,
    };
    let objects = objects.iter().map(object).collect();
    Event::Listing { partition: partition(0), objects, grace_ms: 1000, at_ms: 400 }
}

/// Records 0 to 9 at offsets 0 to 9, in two acknowledgements, read by a consumer and by the audit.
fn clean() -> Vec<Event> {
    vec![
        topic(Expiry::Never),
        sent(0, COUNT),
        acked(0, 4, 0),
        marks("tail", 0, 4),
        read("tail", 0, 0, 4, Source::Hot),
        fault(),
        acked(4, 6, 4),
        marks("tail", 0, 10),
        read("tail", 4, 4, 6, Source::Hot),
        read("cold", 0, 0, COUNT, Source::Cold),
        manifest(&[(0, 4), (4, 8)], &["page"]),
        listing(&[("o0", 100, 5000), ("o4", 100, 5000), ("page", 1, 5000), ("in flight", 1, 500)]),
        audit(0, 0, COUNT),
        audited(0, 10),
    ]
}

fn judged(events: &[Event]) -> Report {
    let mut checker = Checker::new();
    events.iter().for_each(|event| checker.observe(event));
    checker.finish()
}

/// The events make exactly these kinds of violations.
fn check(events: &[Event], kinds: &[Kind]) -> Report {
    let report = judged(events);
    assert_eq!(report.kinds().collect::<Vec<_>>(), kinds, "{report}");
    report
}

/// The clean history with one event replaced.
fn replaced(from: &Event, to: &[Event]) -> Vec<Event> {
    let clean = clean();
    assert!(clean.contains(from), "what is replaced is there");
    clean.into_iter().flat_map(|event| if event == *from { to.to_vec() } else { vec![event] }).collect()
}

/// The clean history with more before its audit.
fn with(more: &[Event]) -> Vec<Event> {
    let mut events = clean();
    let audit = events.len() - 2;
    events.splice(audit..audit, more.iter().cloned());
    events
}

#[test]
fn a_clean_history_is_clean() {
    let report = check(&clean(), &[]);
    assert!(report.is_clean());
    let counts = (report.sent, report.acked, report.unknown, report.audited, report.read);
    assert_eq!(counts, (10, 10, 0, 10, 30));
    assert_eq!(report.faults["kill"], 1);
}

#[test]
fn the_order_between_clients_does_not_matter() {
    let mut events = clean();
    // All that the producer saw comes last, as if its file were read after the others.
    events.sort_by_key(|event| matches!(event, Event::Sent { .. } | Event::Acked { .. }));
    check(&events, &[]);
    let lost =
        events.into_iter().map(|event| if event == audit(0, 0, COUNT) { audit(0, 0, 9) } else { event });
    let report = check(&lost.collect::<Vec<_>>(), &[Kind::Lost, Kind::Gap]);
    assert_eq!(report.count(Kind::Lost), 1);
}

#[test]
fn a_lost_tail_is_found() {
    let events = replaced(&audit(0, 0, COUNT), &[audit(0, 0, 7)]);
    let events: Vec<Event> =
        events.into_iter().map(|event| if event == audited(0, 10) { audited(0, 7) } else { event }).collect();
    let report = check(&events, &[Kind::Lost]);
    assert_eq!(report.count(Kind::Lost), 3);
    let first = report.told().next().expect("told");
    let want = "offset 7: producer 1 was told record 7 of producer 1, and it was read; the log is [0, 7)";
    assert_eq!(first.what, want);
    assert_eq!(first.after_faults, 1);
}

#[test]
fn a_hole_in_the_log_is_lost_and_a_gap() {
    let holed = replaced(&audit(0, 0, COUNT), &[audit(0, 0, 5), audit(6, 6, 4)]);
    check(&holed, &[Kind::Lost, Kind::Gap]);
}

#[test]
fn what_expired_is_not_lost_unless_nothing_may_expire() {
    let events = |expiry| {
        let events = replaced(&audit(0, 0, COUNT), &[audit(4, 4, 6)]);
        let change = |event| match event {
            Event::Topic { .. } => topic(expiry),
            Event::Audited { .. } => audited(4, 10),
            other => other,
        };
        events.into_iter().map(change).collect::<Vec<_>>()
    };
    check(&events(Expiry::Allowed), &[]);
    let report = check(&events(Expiry::Never), &[Kind::Lost, Kind::StartRaised]);
    assert_eq!(report.count(Kind::Lost), 4);
}

#[test]
fn only_the_last_audit_says_what_was_kept() {
    let mut events = clean();
    events.extend([audit(0, 0, 9), audited(0, 9)]);
    // The second reading by the same reader began anew without saying so.
    events.insert(
        events.len() - 2,
        Event::Seek { reader: reader("audit"), partition: partition(0), offset: Offset(0) },
    );
    check(&events, &[Kind::Lost]);
}

#[test]
fn a_record_that_landed_twice_is_found() {
    let twice = replaced(&audit(0, 0, COUNT), &[audit(0, 0, COUNT), audit(10, 9, 1)]);
    check(&twice, &[Kind::Doubled]);
    let mut plain = twice;
    plain.insert(1, Event::Session { producer: Producer(1), retries: Retries::Plain });
    check(&plain, &[]);
}

#[test]
fn an_acknowledged_offset_that_shows_another_record_is_found() {
    let moved = replaced(&audit(0, 0, COUNT), &[audit(0, 0, 8), audit(8, 9, 1), audit(9, 8, 1)]);
    let report = check(&moved, &[Kind::Doubled, Kind::Moved]);
    assert_eq!(report.count(Kind::Moved), 2);
    let told = report.told().find(|violation| violation.kind == Kind::Moved).expect("told");
    let want = "offset 8: producer 1 was told record 8 of producer 1, audit read record 9 of producer 1";
    assert_eq!(told.what, want);
}

#[test]
fn two_acknowledgements_of_one_offset_are_found() {
    let events = with(&[sent(10, 1), acked(10, 1, 3)]);
    check(&events, &[Kind::Reordered, Kind::Moved]);
}

#[test]
fn records_out_of_order_are_found() {
    let events = [
        sent(0, 3),
        acked(0, 1, 1),
        acked(1, 1, 0),
        acked(2, 1, 2),
        audit(0, 1, 1),
        audit(1, 0, 1),
        audit(2, 2, 1),
        audited(0, 3),
    ];
    check(&events, &[Kind::Reordered]);
}

#[test]
fn an_unacknowledged_offset_that_showed_two_records_is_found() {
    let events = [
        sent(0, 2),
        read("early", 0, 0, 1, Source::Hot),
        read("late", 0, 1, 1, Source::Hot),
        audit(0, 1, 1),
        audited(0, 1),
    ];
    check(&events, &[Kind::TwoValues]);
}

#[test]
fn a_bucket_that_differs_from_the_local_log_is_found() {
    for (one, other) in [(Source::Hot, Source::Cold), (Source::Bucket, Source::Local)] {
        let events =
            [sent(0, 2), read("a", 0, 0, 1, one), read("b", 0, 1, 1, other), audit(0, 0, 1), audited(0, 1)];
        check(&events, &[Kind::TierUnequal]);
    }
}

#[test]
fn records_that_nobody_sent_are_found() {
    check(&with(&[read("tail", 10, 10, 1, Source::Hot)]), &[Kind::Foreign]);
    let foreign = Event::Foreign {
        reader: reader("tail"),
        partition: partition(0),
        offset: Offset(10),
        what: "zeros".to_owned(),
    };
    check(&with(&[foreign]), &[Kind::Foreign]);
}

#[test]
fn a_refused_record_that_is_there_is_found() {
    let refused = Event::Refused { partition: partition(0), records: records(9, 1) };
    let events: Vec<Event> = with(&[refused])
        .into_iter()
        .map(|event| if event == acked(4, 6, 4) { acked(4, 5, 4) } else { event })
        .collect();
    check(&events, &[Kind::RefusedYetThere]);
}

#[test]
fn a_record_of_unknown_fate_may_be_there_or_not() {
    let unknown = Event::Unknown { partition: partition(0), records: records(10, 2) };
    check(&with(&[sent(10, 2), unknown, read("tail", 10, 10, 1, Source::Hot)]), &[]);
}

#[test]
fn a_reader_that_is_led_past_or_back_is_found() {
    let tail = read("tail", 4, 4, 6, Source::Hot);
    check(&replaced(&tail, &[read("tail", 5, 5, 5, Source::Hot)]), &[Kind::Gap]);
    check(&replaced(&tail, &[read("tail", 3, 3, 7, Source::Hot)]), &[Kind::Repeated]);
    let seek = Event::Seek { reader: reader("tail"), partition: partition(0), offset: Offset(7) };
    check(&replaced(&tail, &[seek, read("tail", 7, 7, 3, Source::Hot)]), &[]);
}

#[test]
fn a_start_that_overtakes_a_reader_is_no_gap() {
    let tail = read("tail", 4, 4, 6, Source::Hot);
    check(&replaced(&tail, &[marks("tail", 6, 10), read("tail", 6, 6, 4, Source::Hot)]), &[]);
}

#[test]
fn marks_that_go_back_are_found() {
    check(&with(&[marks("tail", 0, 9)]), &[Kind::WatermarkBack]);
    check(&with(&[marks("cold", 0, 9)]), &[Kind::WatermarkBack]);
    check(&with(&[marks("x", 5, 10), marks("x", 4, 10)]), &[Kind::StartBack]);
    // What another reader was told may have been said earlier.
    check(&with(&[marks("x", 0, 3)]), &[]);
}

#[test]
fn an_offset_that_exists_is_not_out_of_range() {
    let denied =
        |offset| Event::Denied { reader: reader("tail"), partition: partition(0), offset: Offset(offset) };
    check(&with(&[denied(4)]), &[Kind::Denied]);
    check(&with(&[denied(11)]), &[]);
}

#[test]
fn a_session_that_the_broker_broke_is_found() {
    let what = "out of order sequence".to_owned();
    let broken = Event::Broken { producer: Producer(1), partition: partition(0), what };
    check(&with(&[broken]), &[Kind::SessionBroken]);
}

#[test]
fn manifests_are_held_against_themselves_and_the_listing() {
    let named = manifest(&[(0, 4), (4, 8)], &["page"]);
    check(&replaced(&named, &[manifest(&[(0, 3), (4, 8)], &["page"])]), &[Kind::ManifestGap]);
    check(&replaced(&named, &[manifest(&[(0, 5), (4, 8)], &["page"])]), &[Kind::ManifestOverlap]);
    check(&replaced(&named, &[manifest(&[(0, 4), (4, 8), (8, 9)], &["page"])]), &[Kind::MissingObject]);
    check(&replaced(&named, &[manifest(&[(0, 4), (4, 8)], &[])]), &[Kind::Orphan]);
    check(&with(&[listing(&[("o0", 99, 1), ("o4", 100, 1)])]), &[Kind::MissingObject]);
    let expired = manifest(&[(4, 8)], &["page", "o0"]);
    let left = listing(&[("o4", 100, 5000), ("page", 1, 5000)]);
    check(&with(&[expired.clone(), left.clone()]), &[Kind::RemovedEarly]);
    let Event::Listing { partition, objects, grace_ms, .. } = left else { unreachable!("made above") };
    check(&with(&[expired, Event::Listing { partition, objects, grace_ms, at_ms: 1000 }]), &[]);
}

#[test]
fn what_was_not_looked_at_is_told() {
    let events: Vec<Event> = clean().into_iter().filter(|event| *event != audited(0, 10)).collect();
    check(&events, &[Kind::Unaudited]);
    check(&[topic(Expiry::Never)], &[Kind::Unaudited]);
    check(&[manifest(&[(0, 4)], &[]), audited(0, 0)], &[Kind::Unaudited]);
}

#[test]
fn nonsense_is_found_and_costs_nothing() {
    check(&with(&[sent(10, 1), acked(10, 1, i64::MAX)]), &[Kind::Absurd]);
    check(&with(&[sent(10, 1), acked(10, 1, -1)]), &[Kind::Absurd]);
    check(&with(&[sent(u64::MAX, 2)]), &[Kind::Absurd]);
}

#[test]
fn a_history_survives_its_lines() {
    let mut lines = Vec::new();
    let broken = Event::Broken { producer: Producer(1), partition: partition(0), what: "no".to_owned() };
    let events =
        with(&[broken, Event::Denied { reader: reader("r"), partition: partition(0), offset: Offset(4) }]);
    events.iter().for_each(|event| lines::write(&mut lines, event).expect("a Vec takes all"));
    let back: Vec<Event> = lines::read(&lines[..]).collect::<Result<_, _>>().expect("events");
    assert_eq!(back, events);
    let mut checker = Checker::new();
    checker.observe_lines(&lines[..]).expect("events");
    assert_eq!(checker.finish(), judged(&events));
    let cut = &lines[..lines.len() - 3];
    let error = Checker::new().observe_lines(cut).expect_err("half of an event");
    assert!(error.to_string().starts_with("line 16 is no event"), "{error}");
}

#[test]
fn lines_are_as_the_client_programs_write_them() {
    let event: Event = serde_json::from_str(
        r#"{"event":"acked","partition":{"topic":"t","index":0},"records":{"producer":1,"first":4,"count":6},"offset":4}"#,
    )
    .expect("an event");
    assert_eq!(event, acked(4, 6, 4));
}

#[test]
fn one_of_a_million_records_is_missed() {
    let mut checker = Checker::new();
    for batch in 0..1000u32 {
        checker.observe(&sent(u64::from(batch) * 1000, 1000));
        checker.observe(&acked(u64::from(batch) * 1000, 1000, i64::from(batch) * 1000));
    }
    checker.observe(&audit(0, 0, 999_999));
    checker.observe(&audited(0, 999_999));
    let report = checker.finish();
    assert_eq!((report.acked, report.count(Kind::Lost)), (1_000_000, 1));
}

proptest! {
    /// Whatever one acknowledgement is changed to, the history is no longer clean.
    #[test]
    fn no_acknowledgement_can_be_changed_unseen(first in 0u64..10, count in 1u32..5, offset in 0i64..20) {
        prop_assume!(first as i64 != offset && first + u64::from(count) <= 10);
        let report = judged(&with(&[acked(first, count, offset)]));
        prop_assert!(!report.is_clean());
    }

    /// A record more or less in the audit is always seen.
    #[test]
    fn no_acknowledged_record_can_be_left_out(hole in 0i64..10) {
        let before = audit(0, 0, hole as u32);
        let after = audit(hole + 1, hole as u64 + 1, (9 - hole) as u32);
        let report = judged(&replaced(&audit(0, 0, COUNT), &[before, after]));
        prop_assert_eq!(report.count(Kind::Lost), 1);
    }
}
