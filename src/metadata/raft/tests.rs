use std::collections::BTreeSet;
use std::io;
use std::time::Duration;

use aquifer_runtime::clock::Clock;
use aquifer_runtime::files::Disk;
use aquifer_runtime::metrics::Registry;
use aquifer_runtime::tasks::TaskGroup;
use openraft::storage::{RaftLogStorage, RaftLogStorageExt as _, RaftStateMachine};
use openraft::testing::log::{StoreBuilder, Suite};
use openraft::{EmptyNode, RaftLogReader, StorageError};
use redb::StorageBackend;
use redb::backends::InMemoryBackend;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use super::backend::Backend;
use super::codec;
use super::log::{Held, Log, LogError};
use super::machine::Machine;
use super::platter::Platter;
use super::snapshots::Snapshots;
use super::types::{Entry, LeaderId, LogId, Members, Payload, StoredMembers, Types, Vote};
use crate::metadata::codec::samples::full_image;
use crate::metadata::command::Command;
use crate::metadata::ids::RaftNodeId;
use crate::metadata::metrics::Metrics;

const NODE: RaftNodeId = RaftNodeId(7);
const PATIENCE: Duration = Duration::from_secs(20);

fn metrics() -> Metrics {
    Metrics::new(&mut Registry::default())
}

/// A log on `backend`, and word of its end.
fn open(backend: impl StorageBackend, tasks: &TaskGroup) -> Result<(Log, CancellationToken), LogError> {
    let closed = CancellationToken::new();
    let held = Held { _lock: None, _closed: closed.clone().drop_guard() };
    let log = Log::open(backend, NODE, tasks, Clock::system(), metrics(), held)?;
    Ok((log, closed))
}

fn file(dir: &TempDir) -> Backend {
    Backend(Disk::host().open_or_create(&dir.path().join("raft.redb")).unwrap())
}

async fn close(log: Log, closed: CancellationToken) {
    drop(log);
    tokio::time::timeout(PATIENCE, closed.cancelled()).await.unwrap();
}

fn position(term: u64, index: u64) -> LogId {
    LogId { leader_id: LeaderId { term, node_id: NODE.0 }, index }
}

fn blank(term: u64, index: u64) -> Entry {
    Entry { log_id: position(term, index), payload: Payload::Blank }
}

fn vote(term: u64) -> Vote {
    Vote { leader_id: LeaderId { term, node_id: NODE.0 }, committed: true }
}

/// Terms and indexes of all entries.
async fn contents(log: &mut Log) -> Vec<(u64, u64)> {
    let entries = log.try_get_log_entries(..).await.unwrap();
    entries.iter().map(|entry| (entry.log_id.leader_id.term, entry.log_id.index)).collect()
}

struct Stores;

impl StoreBuilder<Types, Log, Machine, (TempDir, TaskGroup)> for Stores {
    async fn build(&self) -> Result<((TempDir, TaskGroup), Log, Machine), StorageError<Types>> {
        let (dir, tasks) = (tempfile::tempdir().unwrap(), TaskGroup::new());
        let (log, _) = open(file(&dir), &tasks).unwrap();
        let snapshots = Snapshots::new(Disk::host(), dir.path(), metrics());
        let machine = Machine::open(snapshots, metrics()).unwrap();
        Ok(((dir, tasks), log, machine))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn openrafts_own_suite_passes() {
    Suite::test_all(Stores).await.unwrap();
}

#[tokio::test]
async fn a_log_that_is_opened_again_is_the_same() {
    let (dir, tasks) = (tempfile::tempdir().unwrap(), TaskGroup::new());
    let (mut log, closed) = open(file(&dir), &tasks).unwrap();
    log.save_vote(&vote(2)).await.unwrap();
    let command = Payload::Normal(Command::FenceBroker(crate::metadata::command::BrokerRef {
        broker: aquifer_model::BrokerId(1),
        epoch: crate::metadata::ids::BrokerEpoch(5),
    }));
    let mut entries: Vec<Entry> = (0..10).map(|index| blank(1, index)).collect();
    entries.push(Entry { log_id: position(2, 10), payload: command });
    entries.push(blank(2, 11));
    log.blocking_append(entries).await.unwrap();
    log.truncate_after(Some(position(2, 10))).await.unwrap();
    log.purge(position(1, 3)).await.unwrap();
    log.save_committed(Some(position(2, 10))).await.unwrap();
    let before = log.try_get_log_entries(..).await.unwrap();
    assert_eq!(before.len(), 7);
    close(log, closed).await;

    let (mut log, closed) = open(file(&dir), &tasks).unwrap();
    assert_eq!(log.try_get_log_entries(..).await.unwrap(), before);
    assert_eq!(log.read_vote().await.unwrap(), Some(vote(2)));
    assert_eq!(log.read_committed().await.unwrap(), Some(position(2, 10)));
    let state = log.get_log_state().await.unwrap();
    assert_eq!((state.last_purged_log_id, state.last_log_id), (Some(position(1, 3)), Some(position(2, 10))));
    log.purge(position(2, 10)).await.unwrap();
    log.blocking_append([blank(2, 11)]).await.unwrap();
    assert!(log.blocking_append([blank(2, 13)]).await.is_err(), "no holes");
    close(log, closed).await;

    let (mut log, closed) = open(file(&dir), &tasks).unwrap();
    assert_eq!(contents(&mut log).await, [(2, 11)]);
    close(log, closed).await;
}

/// One bit anywhere: the log is what it was, or it is refused. Nothing of it is believed that is not, and nothing panics.
#[tokio::test]
async fn a_log_with_a_flipped_bit_is_as_it_was_or_refused() {
    /// A prime, so that all of a page's fields are met over the pages.
    const STEP: usize = 61;
    let (dir, tasks) = (tempfile::tempdir().unwrap(), TaskGroup::new());
    let (mut log, closed) = open(file(&dir), &tasks).unwrap();
    log.save_vote(&vote(2)).await.unwrap();
    log.blocking_append((0..12).map(|index| blank(1, index))).await.unwrap();
    let before = contents(&mut log).await;
    close(log, closed).await;
    let whole = Disk::host().read_if_exists(&dir.path().join("raft.redb")).unwrap().unwrap();
    let used: Vec<usize> = (0..whole.len()).filter(|at| whole[*at] != 0).collect();
    let mut refused = 0;
    for (turn, at) in used.into_iter().step_by(STEP).enumerate() {
        let mut harmed = whole.to_vec();
        harmed[at] ^= 1 << (turn % 8);
        let backend = InMemoryBackend::new();
        backend.set_len(harmed.len() as u64).unwrap();
        backend.write(0, &harmed).unwrap();
        match open(backend, &tasks) {
            Ok((mut log, closed)) => {
                assert_eq!(
                    (contents(&mut log).await, log.read_vote().await.unwrap()),
                    (before.clone(), Some(vote(2)))
                );
                close(log, closed).await;
            }
            Err(_) => refused += 1,
        }
    }
    assert!(refused > 0);
}

#[tokio::test]
async fn a_log_of_another_node_is_refused() {
    let (dir, tasks) = (tempfile::tempdir().unwrap(), TaskGroup::new());
    let (log, closed) = open(file(&dir), &tasks).unwrap();
    close(log, closed).await;
    let held = Held { _lock: None, _closed: CancellationToken::new().drop_guard() };
    let other = Log::open(file(&dir), RaftNodeId(8), &tasks, Clock::system(), metrics(), held);
    assert!(matches!(other.err(), Some(LogError::Owner { found: NODE, expected: RaftNodeId(8) })));
}

/// After a power cut at any sync, with any part of the unsynced writes on the disk, the log opens, has no hole, and has all that
/// it had called durable.
#[tokio::test]
async fn what_was_called_durable_survives_a_power_cut() {
    let mut cuts = 0;
    for syncs_max in 4..28 {
        let (platter, tasks) = (Platter::default(), TaskGroup::new());
        platter.fail_after(syncs_max);
        let Ok((mut log, _)) = open(platter.clone(), &tasks) else {
            continue;
        };
        let (mut durable, mut promised) = (None, None);
        for round in 0..12 {
            if round % 4 == 0 {
                if log.save_vote(&vote(round / 4 + 1)).await.is_err() {
                    break;
                }
                promised = Some(vote(round / 4 + 1));
            }
            if log.blocking_append([blank(1, 2 * round), blank(1, 2 * round + 1)]).await.is_err() {
                break;
            }
            durable = Some(2 * round + 1);
        }
        // A run that ended before its last sync fails here.
        platter.fail();
        assert!(log.blocking_append([blank(1, 24)]).await.is_err(), "nothing is written after a failed sync");
        for pattern in [0u64, u64::MAX, 0x5555_5555_5555_5555, 0x3, 0xffff_0000_ffff_0000] {
            let survivor = platter.after_power_cut(|write| pattern >> (write % 64) & 1 == 1);
            let (mut log, closed) = open(survivor, &tasks).unwrap();
            let found = contents(&mut log).await;
            assert!(found.len() as u64 >= durable.map_or(0, |last| last + 1), "lost what was durable");
            assert!(found.iter().zip(0..).all(|((_, index), expected)| *index == expected), "no hole");
            let kept = log.read_vote().await.unwrap();
            assert!(kept >= promised, "{kept:?} after a promise of {promised:?}");
            close(log, closed).await;
            cuts += 1;
        }
    }
    assert!(cuts > 50, "only {cuts} cuts happened");
}

fn snapshot_file(index: u64) -> codec::SnapshotFile {
    let members = Members::new(
        vec![BTreeSet::from([NODE.0])],
        [(NODE.0, EmptyNode {})].into_iter().collect::<std::collections::BTreeMap<_, _>>(),
    );
    codec::SnapshotFile {
        applied: Some(position(3, index)),
        members: StoredMembers::new(Some(position(0, 0)), members.unwrap()),
        image: full_image(),
    }
}

#[test]
fn a_snapshot_is_read_back_as_it_was_and_its_head_is_golden() {
    let file = snapshot_file(300);
    let bytes = codec::encode_snapshot(&file).unwrap();
    assert_eq!(codec::decode_snapshot(&bytes), Ok(file));
    let hex = |bytes: &[u8]| -> String { bytes.iter().map(|byte| format!("{byte:02x}")).collect() };
    assert_eq!(
        hex(&bytes[16..16 + 1 + 24 + 1 + 24 + 20]),
        concat!(
            "01",
            "00000000000000030000000000000007000000000000012c",
            "01",
            "000000000000000000000000000000070000000000000000",
            "01010000000000000007",
            "01000000000000000700",
        ),
    );
    for at in 0..bytes.len() {
        let mut flipped = bytes.clone();
        flipped[at] ^= 4;
        assert!(codec::decode_snapshot(&flipped).is_err(), "byte {at}");
    }
}

#[test]
fn log_records_are_golden() {
    let hex = |bytes: &[u8]| -> String { bytes[16..].iter().map(|byte| format!("{byte:02x}")).collect() };
    let id = "00000000000000030000000000000007000000000000012c";
    let command = Entry {
        log_id: position(3, 300),
        payload: Payload::Normal(Command::ForgetTopic(aquifer_model::TopicId::ZERO)),
    };
    let members = Entry {
        log_id: position(3, 300),
        payload: Payload::Membership(snapshot_file(1).members.membership().clone()),
    };
    let entries = [
        (blank(3, 300), format!("{id}0000")),
        (members, format!("{id}020101000000000000000701000000000000000700{}", "00")),
        (command, format!("{id}012241514d430001000000000012CRC08000000000000000000000000000000000000")),
    ];
    for (entry, golden) in entries {
        let bytes = codec::encode_entry(&entry);
        let written = hex(&bytes);
        let golden = match golden.find("CRC") {
            Some(at) => golden.replace("CRC", &written[at..at + 8]),
            None => golden,
        };
        assert_eq!(written, golden);
        assert_eq!(codec::decode_entry(&bytes), Ok(entry));
    }
    assert_eq!(hex(&codec::encode_vote(&vote(3))), "000000000000000300000000000000070100");
    assert_eq!(codec::decode_vote(&codec::encode_vote(&vote(3))), Ok(vote(3)));
    assert_eq!(hex(&codec::encode_position(&position(3, 300))), format!("{id}00"));
    assert_eq!(hex(&codec::encode_owner(NODE)), "000000000000000700");
}

#[tokio::test]
async fn a_damaged_snapshot_is_set_aside_for_the_one_before_it() {
    let dir = tempfile::tempdir().unwrap();
    let snapshots = Snapshots::new(Disk::host(), dir.path(), metrics());
    for index in [10, 20, 30] {
        snapshots.save(snapshot_file(index)).await.unwrap();
    }
    assert_eq!(snapshots.indexes().unwrap(), [30, 20], "two are kept");
    assert_eq!(snapshots.newest(), Some(30));
    let mut running = Machine::open(snapshots, metrics()).unwrap();
    let offered = running.get_current_snapshot().await.unwrap().unwrap();
    assert_eq!(offered.meta.last_log_id, Some(position(3, 30)));
    assert_eq!(codec::decode_snapshot(&offered.snapshot), Ok(snapshot_file(30)));
    let newest = dir.path().join("image-00000000000000000030.snapshot");
    let file = Disk::host().open(&newest).unwrap();
    file.write_all_at(200, &mut [io::IoSlice::new(b"\xff\x00\xff")]).unwrap();
    let offered = running.get_current_snapshot().await.unwrap().unwrap();
    assert_eq!(offered.meta.last_log_id, Some(position(3, 20)), "a running node notices too");
    let machine = Machine::open(Snapshots::new(Disk::host(), dir.path(), metrics()), metrics()).unwrap();
    assert_eq!(machine.applied(), Some(position(3, 20)));
    assert_eq!(**machine.watch().borrow(), full_image());
    let names: Vec<String> =
        Disk::host().list(dir.path()).unwrap().into_iter().map(|entry| entry.name).collect();
    assert_eq!(names, ["image-00000000000000000020.snapshot", "image-00000000000000000030.snapshot.damaged"]);
}

#[tokio::test]
async fn a_snapshot_of_a_newer_program_is_refused_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let snapshots = Snapshots::new(Disk::host(), dir.path(), metrics());
    snapshots.save(snapshot_file(10)).await.unwrap();
    let bytes = codec::encode_snapshot(&snapshot_file(20)).unwrap();
    let newer = aquifer_model::format::Format { version: 2, ..codec::SNAPSHOT };
    snapshots.save_bytes(20, newer.seal(&bytes[16..]).into()).await.unwrap();
    let error = Machine::open(snapshots.clone(), metrics()).err().unwrap();
    assert_eq!(error.kind(), io::ErrorKind::Unsupported, "{error}");
    assert_eq!(snapshots.indexes().unwrap(), [20, 10]);
}

#[tokio::test]
async fn a_snapshot_that_is_not_the_one_announced_is_not_installed() {
    let dir = tempfile::tempdir().unwrap();
    let snapshots = Snapshots::new(Disk::host(), dir.path(), metrics());
    let mut machine = Machine::open(snapshots, metrics()).unwrap();
    let file = snapshot_file(20);
    let bytes = bytes::Bytes::from(codec::encode_snapshot(&file).unwrap());
    let meta = |index| openraft::SnapshotMeta {
        last_log_id: Some(position(3, index)),
        last_membership: file.members.clone(),
    };
    assert!(machine.install_snapshot(&meta(21), bytes.clone()).await.is_err());
    assert!(machine.install_snapshot(&meta(20), bytes.slice(..bytes.len() - 1)).await.is_err());
    assert_eq!(machine.applied(), None);
    machine.install_snapshot(&meta(20), bytes).await.unwrap();
    assert_eq!(machine.applied(), Some(position(3, 20)));
    assert_eq!(**machine.watch().borrow(), full_image());
}

#[test]
fn what_newer_programs_add_is_read_over_or_refused_by_name() {
    use aquifer_model::format::FormatError;
    use aquifer_model::fuzzing::{of_next_version, with_unknown_field};
    let position = LogId { leader_id: LeaderId { term: 1, node_id: 2 }, index: 3 };
    let blank = Entry { log_id: position, payload: Payload::Blank };
    let vote = Vote { leader_id: position.leader_id, committed: true };
    type Read = fn(&[u8]) -> Result<(), FormatError>;
    let records: [(&str, Vec<u8>, Read); 4] = [
        ("raft log entry", codec::encode_entry(&blank), |b| codec::decode_entry(b).map(drop)),
        ("raft vote", codec::encode_vote(&vote), |b| codec::decode_vote(b).map(drop)),
        ("raft log position", codec::encode_position(&position), |b| codec::decode_position(b).map(drop)),
        ("raft log owner", codec::encode_owner(RaftNodeId(4)), |b| codec::decode_owner(b).map(drop)),
    ];
    for (format, bytes, read) in records {
        assert_eq!(read(&with_unknown_field(&bytes, false)), Ok(()), "{format}");
        let required = Err(FormatError::RequiredField { format, tag: 100 });
        assert_eq!(read(&with_unknown_field(&bytes, true)), required);
        assert_eq!(read(&of_next_version(&bytes)), Err(FormatError::Version { format, found: 2, known: 1 }));
    }
}
