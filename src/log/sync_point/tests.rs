use aquifer_model::{PartitionIndex, TopicId};
use aquifer_runtime::files::Disk;
use uuid::Uuid;

use super::*;

const MAX: u64 = 1_000;

struct House {
    folder: tempfile::TempDir,
    sync: SyncPoint,
}

impl House {
    fn new() -> House {
        let folder = tempfile::tempdir().unwrap();
        let partition =
            TopicPartition { topic: TopicId::new(Uuid::from_u128(1)), partition: PartitionIndex(0) };
        let start = (Offset::ZERO, 0);
        let sync =
            SyncPoint::recovered(partition, folder.path(), Offset::ZERO, Vec::new(), Offset::ZERO, start);
        House { folder, sync }
    }

    fn file(&self, base: i64) -> File {
        Disk::host().open_or_create(&self.folder.path().join(base.to_string())).unwrap()
    }

    fn write(&self, base: i64, written: u64, end: i64) -> Wanted {
        self.sync.note_written(offset(base), &self.file(base), written, offset(end));
        self.ask()
    }

    fn ask(&self) -> Wanted {
        self.sync.ask(Need::Durable, Some(MAX))
    }

    fn synced(&self) -> i64 {
        self.sync.synced().get()
    }
}

fn offset(number: i64) -> Offset {
    Offset::new(number).unwrap()
}

const NOTHING: Wanted = Wanted { sync: false, journal: false };
const SYNC: Wanted = Wanted { sync: true, journal: false };
const JOURNAL: Wanted = Wanted { sync: false, journal: true };

#[test]
fn a_little_goes_to_the_journal_and_much_does_not() {
    let house = House::new();
    assert_eq!(house.ask(), NOTHING);
    assert_eq!(house.write(0, 100, 1), JOURNAL);
    assert_eq!(house.write(0, 200, 2), NOTHING, "it stands in the queue");
    let taken = house.sync.to_journal(1, MAX).unwrap();
    assert_eq!((taken.from, taken.to), (0, 200));
    assert!(house.sync.note_in_journal(&taken, 1));
    house.write(0, 300, 3);
    house.sync.note_journaled(&taken);
    assert_eq!(house.synced(), 2);
    house.sync.leave_queue_of_journal();
    assert_eq!(house.ask(), JOURNAL, "what came meanwhile");
    assert_eq!(house.sync.to_journal(2, MAX).map(|taken| (taken.from, taken.to)), Some((200, 300)));
    assert_eq!(house.write(0, 2_000, 4), SYNC);
    assert!(house.sync.to_journal(2, MAX).is_none());
}

/// A sync that has taken the file of a closed segment is under way: nothing behind it may be called durable.
#[test]
fn no_segment_overtakes_the_one_before() {
    let house = House::new();
    house.write(0, 100, 1);
    house.sync.note_name();
    assert!(house.ask().sync);
    let under_way = house.sync.take();
    house.write(1, 50, 2);
    assert!(house.sync.to_journal(1, MAX).is_none());
    assert!(house.sync.is_left_to_sync(), "whoever waits for the second is not forgotten");
    drop(house.sync.note_synced(under_way));
    assert_eq!(house.synced(), 1);
    let taken = house.sync.to_journal(1, MAX).unwrap();
    assert_eq!((taken.base, taken.from, taken.to), (offset(1), 0, 50));
}

#[test]
fn what_a_sync_that_is_under_way_does_not_cover_is_asked_for_again() {
    let house = House::new();
    house.write(0, 100, 1);
    assert_eq!(house.sync.ask(Need::Settled, None), SYNC);
    let under_way = house.sync.take();
    house.write(0, 200, 2);
    let taken = house.sync.to_journal(5, MAX).unwrap();
    assert!(house.sync.note_in_journal(&taken, 5));
    assert_eq!(house.sync.ask(Need::Settled, None), NOTHING);
    drop(house.sync.note_synced(under_way));
    assert!(!house.sync.is_settled(5), "the sync began before that write");
    assert!(house.sync.is_left_to_sync());
    let next = house.sync.take();
    drop(house.sync.note_synced(next));
    assert!(house.sync.is_settled(5));
    assert!(!house.sync.is_left_to_sync());
}

#[test]
fn a_log_that_is_held_stays_out_of_the_journal_and_of_writes_that_were_begun_before() {
    let house = House::new();
    house.write(0, 100, 1);
    let taken = house.sync.to_journal(3, MAX).unwrap();
    house.sync.hold(|| Some(JournalMark { run: 1, sequence: 4 }));
    assert!(!house.sync.note_in_journal(&taken, 3));
    assert!(house.sync.to_journal(4, MAX).is_none());
    house.sync.leave_queue_of_journal();
    assert!(house.write(0, 200, 2).sync);
    house.sync.cut(offset(1), (Offset::ZERO, 100));
    house.sync.admit();
    house.write(0, 300, 3);
    assert!(house.sync.to_journal(3, MAX).is_none(), "that one is void");
    let taken = house.sync.to_journal(4, MAX).unwrap();
    assert_eq!((taken.from, taken.to), (100, 300));
    assert_eq!(house.sync.journal_mark(), Some(JournalMark { run: 1, sequence: 4 }));
    // What was taken before a cut says nothing behind it.
    house.sync.cut(offset(1), (Offset::ZERO, 100));
    house.sync.note_journaled(&taken);
    assert_eq!(house.synced(), 1);
    assert!(!house.sync.note_in_journal(&taken, 5));
}
