use super::*;

#[allow(clippy::disallowed_methods)] // Pure code is tested with any starting point in time.
fn start() -> Instant {
    Instant::now()
}

fn named(partition: i32) -> PartitionRef {
    PartitionRef { topic: TopicRef::Name(TopicName::new("t").unwrap()), partition }
}

fn wanted(fetch_offset: i64) -> Wanted {
    Wanted {
        fetch_offset,
        current_leader_epoch: -1,
        last_fetched_epoch: -1,
        log_start_offset: -1,
        bytes_max: 1 << 20,
    }
}

fn request(session_id: i32, epoch: i32, partitions: &[(i32, i64)], forgotten: &[i32]) -> SessionRequest {
    let wanted = partitions.iter().map(|&(partition, offset)| (named(partition), wanted(offset)));
    let forgotten = forgotten.iter().map(|&partition| named(partition));
    SessionRequest::new(session_id, epoch, wanted.collect(), forgotten.collect())
}

fn told(high_watermark: i64) -> Option<Told> {
    Some(Told { high_watermark, log_start_offset: 0 })
}

fn partitions(resolved: &Resolved) -> Vec<(i32, i64)> {
    resolved.wanted.iter().map(|(partition, wanted)| (partition.partition, wanted.fetch_offset)).collect()
}

fn opened(sessions: &mut FetchSessions, id: i32, now: Instant) -> i32 {
    let resolved = sessions.resolve(request(0, 0, &[(0, 5), (1, 6), (2, 7)], &[]), now).unwrap();
    assert_eq!(resolved.incremental, None);
    sessions.open(&resolved, &[told(9), told(9), told(9)], id, now)
}

#[test]
fn a_partition_that_is_named_twice_is_wanted_once() {
    let mut sessions = FetchSessions::new(10, 100);
    for epoch in [-1, 0] {
        let named = request(0, epoch, &[(1, 5), (0, 6), (1, 7), (2, 8), (0, 9), (1, 10)], &[]);
        let resolved = sessions.resolve(named, start()).unwrap();
        assert_eq!(partitions(&resolved), [(1, 10), (0, 9), (2, 8)]);
    }
}

#[test]
fn a_session_remembers_and_changes() {
    let now = start();
    let mut sessions = FetchSessions::new(10, 100);
    assert_eq!(opened(&mut sessions, 42, now), 42);
    let resolved = sessions.resolve(request(42, 1, &[(1, 8), (3, 0)], &[2]), now).unwrap();
    assert_eq!(resolved.incremental, Some(42));
    assert_eq!(partitions(&resolved), [(0, 5), (1, 8), (3, 0)]);
    let resolved = sessions.resolve(request(42, 2, &[], &[]), now).unwrap();
    assert_eq!(partitions(&resolved), [(0, 5), (1, 8), (3, 0)]);
}

#[test]
fn an_answer_carries_what_changed_and_data_goes_to_the_end() {
    let now = start();
    let mut sessions = FetchSessions::new(10, 100);
    opened(&mut sessions, 42, now);
    assert!(!sessions.tell(42, &named(0), told(9), false), "nothing new");
    assert!(sessions.tell(42, &named(0), told(10), false), "the watermark moved");
    assert!(!sessions.tell(42, &named(0), told(10), false), "and was told");
    assert!(sessions.tell(42, &named(0), told(10), true), "data");
    assert!(sessions.tell(42, &named(1), None, true), "an error");
    assert!(sessions.tell(42, &named(1), told(9), false), "the first good answer after an error");
    let resolved = sessions.resolve(request(42, 1, &[], &[]), now).unwrap();
    assert_eq!(partitions(&resolved), [(2, 7), (0, 5), (1, 6)]);
}

#[test]
fn wrong_ids_epochs_and_names_are_refused() {
    let now = start();
    let mut sessions = FetchSessions::new(10, 100);
    opened(&mut sessions, 42, now);
    assert_eq!(sessions.resolve(request(43, 1, &[], &[]), now).unwrap_err(), SessionError::Unknown);
    assert_eq!(sessions.resolve(request(42, 2, &[], &[]), now).unwrap_err(), SessionError::Epoch);
    let mut by_id = request(42, 1, &[], &[]);
    by_id.forgotten = vec![PartitionRef { topic: TopicRef::Id(TopicId::ZERO), partition: 0 }];
    assert_eq!(sessions.resolve(by_id, now).unwrap_err(), SessionError::Mixed);
    sessions.resolve(request(42, -1, &[], &[]), now).unwrap();
    assert_eq!(sessions.resolve(request(42, 1, &[], &[]), now).unwrap_err(), SessionError::Unknown);
    assert_eq!(next_epoch(i32::MAX), 1);
}

#[test]
fn a_full_cache_serves_without_a_session_and_evicts_the_idle() {
    let mut now = start();
    let mut sessions = FetchSessions::new(2, 100);
    assert_eq!(opened(&mut sessions, 1, now), 1);
    assert_eq!(opened(&mut sessions, 2, now), 2);
    assert_eq!(opened(&mut sessions, 3, now), 0);
    now += IDLE_MAX / 2;
    sessions.resolve(request(1, 1, &[], &[]), now).unwrap();
    now += IDLE_MAX / 2;
    assert_eq!(opened(&mut sessions, 3, now), 3, "2 was idle");
    assert_eq!(opened(&mut sessions, 4, now), 0);
    assert_eq!(sessions.len(), 2);
    let mut few = FetchSessions::new(10, 4);
    assert_eq!(opened(&mut few, 1, now), 1);
    assert_eq!(opened(&mut few, 2, now), 0, "six partitions are too many");
}

#[test]
fn a_session_that_outgrows_the_cache_ends() {
    let now = start();
    let mut sessions = FetchSessions::new(10, 4);
    assert_eq!(opened(&mut sessions, 1, now), 1);
    sessions.resolve(request(1, 1, &[(3, 0)], &[]), now).unwrap();
    assert_eq!(sessions.resolve(request(1, 2, &[(4, 0)], &[]), now).unwrap_err(), SessionError::Unknown);
    assert_eq!(sessions.len(), 0);
    assert_eq!(opened(&mut sessions, 2, now), 2, "its room is free again");
}
