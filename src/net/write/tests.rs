use std::sync::atomic::{AtomicUsize, Ordering};

use aquifer_protocol::Elsewhere;
use aquifer_runtime::clock::Clock;
use aquifer_runtime::files::{Disk, File};
use tokio::io::{AsyncReadExt as _, DuplexStream};

use super::*;

/// As a socket does it, by a copy.
impl Wire for DuplexStream {
    async fn send(&mut self, slices: &[IoSlice<'_>], _: bool) -> io::Result<usize> {
        self.write_vectored(slices).await
    }

    async fn send_lent(&mut self, lent: &Lent, at: usize, count: usize) -> io::Result<Option<usize>> {
        if !lent.is_sound(at, count) {
            return Ok(None);
        }
        // At the file's end there may be less.
        let count = count.min((lent.file().size()?.get().saturating_sub(lent.position(at))) as usize);
        let read = lent.file().read_cached_and_look(lent.position(at), count)?;
        let Some((bytes, _)) = read else { return Ok(None) };
        self.write(&bytes).await.map(Some)
    }
}

fn all_of(pieces: &[Piece]) -> Vec<u8> {
    pieces.iter().flat_map(|piece| piece.here().unwrap().to_vec()).collect()
}

#[tokio::test]
async fn a_write_leaves_whole_and_a_peer_that_takes_nothing_is_given_up() {
    let turns = WriteTurns::new(1, Clock::system());
    // Below a step, and many of them, between others that are nothing.
    for factor in [6, 5_000] {
        let bytes = |number: u32| Bytes::from(vec![number as u8; number as usize * factor]);
        let pieces: Vec<Piece> = (0..200).map(|number| bytes(number).into()).collect();
        let (near, mut far) = tokio::io::duplex(1000 * factor);
        let writing = async {
            let mut near = near;
            write_pieces(&mut near, &pieces, Duration::from_secs(60), &turns).await.unwrap();
        };
        let mut read = Vec::new();
        let (_, outcome) = tokio::join!(writing, far.read_to_end(&mut read));
        outcome.unwrap();
        assert!(read == all_of(&pieces), "{factor}");

        let (mut near, _far) = tokio::io::duplex(10);
        let stalled = write_pieces(&mut near, &pieces, Duration::from_millis(20), &turns).await;
        assert_eq!(stalled.unwrap_err().kind(), io::ErrorKind::TimedOut);
    }
}

/// Where the runtime wants a task to give way, it says so to the write, and wakes the task once.
#[tokio::test]
async fn a_task_that_has_done_much_already_writes_all_the_same() {
    let (turns, pieces) =
        (WriteTurns::new(1, Clock::system()), [Piece::Here(Bytes::from(vec![7; 2 * STEP_BYTES_MAX]))]);
    for done in 120..=130 {
        let (mut near, _far) = tokio::io::duplex(4 * STEP_BYTES_MAX);
        tokio::task::yield_now().await;
        for _ in 0..done {
            tokio::task::consume_budget().await;
        }
        let writing = write_pieces(&mut near, &pieces, Duration::from_secs(600), &turns);
        let written = tokio::time::timeout(Duration::from_secs(10), writing).await;
        assert!(matches!(written, Ok(Ok(()))), "after {done}: {written:?}");
    }
}

/// Takes so much, and then stands still; says how much it took.
struct Sink<'a> {
    room: usize,
    taken: &'a AtomicUsize,
}

impl Wire for Sink<'_> {
    async fn send(&mut self, slices: &[IoSlice<'_>], _: bool) -> io::Result<usize> {
        let count = slices.iter().map(|slice| slice.len()).sum::<usize>().min(self.room);
        if count == 0 {
            std::future::pending::<()>().await;
        }
        self.room -= count;
        self.taken.fetch_add(count, Ordering::Relaxed);
        Ok(count)
    }

    async fn send_lent(&mut self, _: &Lent, _: usize, count: usize) -> io::Result<Option<usize>> {
        self.taken.fetch_add(count, Ordering::Relaxed);
        Ok(Some(count))
    }
}

/// With one turn: a step each, and one whose peer takes nothing keeps no other from it.
#[tokio::test]
async fn large_answers_take_turns_and_nobody_waits_for_a_peer_that_stands_still() {
    const STEPS: usize = 4;
    let (turns, patience) = (WriteTurns::new(1, Clock::system()), Duration::from_secs(60));
    let pieces = [Piece::Here(Bytes::from(vec![7; STEPS * STEP_BYTES_MAX]))];
    let taken = [const { AtomicUsize::new(0) }; 3];
    let mut sinks = [1, STEPS, STEPS].into_iter().zip(&taken);
    let mut sink = || {
        let (steps, taken) = sinks.next().unwrap();
        Sink { room: steps * STEP_BYTES_MAX, taken }
    };
    let (mut stuck, mut first, mut second) = (sink(), sink(), sink());
    let mut stuck = pin!(write_pieces(&mut stuck, &pieces, patience, &turns));
    let mut first = pin!(write_pieces(&mut first, &pieces, patience, &turns));
    let mut second = pin!(write_pieces(&mut second, &pieces, patience, &turns));
    let steps = || taken.each_ref().map(|taken| taken.load(Ordering::Relaxed) / STEP_BYTES_MAX);
    let mut done = [false; 2];
    for round in 0..4 * STEPS {
        assert!(futures::poll!(stuck.as_mut()).is_pending());
        let others = [first.as_mut(), second.as_mut()];
        for (other, done) in others.into_iter().zip(&mut done) {
            if !*done {
                let before = steps();
                *done = futures::poll!(other).is_ready();
                let after = steps();
                assert!(after[1] + after[2] <= before[1] + before[2] + 1, "a step in one go");
            }
        }
        let [_, first, second] = steps();
        assert!(first.abs_diff(second) <= 1, "{first} and {second} steps after round {round}");
    }
    assert_eq!((done, steps()), ([true; 2], [1, STEPS, STEPS]));
}

/// What a write takes at a time, without a small answer before it, and so long after one.
#[tokio::test(start_paused = true)]
async fn what_is_copied_leaves_in_short_steps_where_there_are_small_answers() {
    let patience = Duration::from_secs(60);
    let large = [Piece::Here(Bytes::from(vec![7; 2 * STEP_BYTES_MAX]))];
    let after = |millis| Some(Duration::from_millis(millis));
    for (small, step) in [
        (None, STEP_BYTES_MAX),
        (after(0), SHORT_STEP_BYTES_MAX),
        (after(100), SHORT_STEP_BYTES_MAX),
        (after(300), STEP_BYTES_MAX),
    ] {
        let turns = WriteTurns::new(1, Clock::system());
        let taken = AtomicUsize::new(0);
        let sink = || Sink { room: usize::MAX, taken: &taken };
        if let Some(after) = small {
            let small = [Piece::Here(Bytes::from(vec![7; AT_ONCE_BYTES_MAX]))];
            let mut sink = sink();
            let mut writing = pin!(write_pieces(&mut sink, &small, patience, &turns));
            assert!(futures::poll!(writing.as_mut()).is_ready(), "in one go");
            taken.store(0, Ordering::Relaxed);
            tokio::time::advance(after).await;
        }
        let mut sink = sink();
        let mut writing = pin!(write_pieces(&mut sink, &large, patience, &turns));
        assert!(futures::poll!(writing.as_mut()).is_pending());
        assert_eq!(taken.load(Ordering::Relaxed), step);
    }
}

/// As an answer for several partitions is.
#[tokio::test]
async fn what_is_copied_between_what_is_lent_ends_no_step() {
    let library = Library::new(&[7; 200 << 10]);
    let lent = || library.lend(0, 200 << 10);
    let turns = WriteTurns::new(1, Clock::system());
    turns.note_small();
    let taken = AtomicUsize::new(0);
    let mut sink = Sink { room: usize::MAX, taken: &taken };
    let pieces = [lent(), Piece::Here(Bytes::from_static(&[7; 100])), lent()];
    let mut writing = pin!(write_pieces(&mut sink, &pieces, Duration::from_secs(60), &turns));
    assert!(futures::poll!(writing.as_mut()).is_ready());
    assert_eq!(taken.load(Ordering::Relaxed), (400 << 10) + 100);
}

/// A file that holds `bytes`, all of it in the page cache, and the parts of it that are lent.
struct Library {
    _folder: tempfile::TempDir,
    file: File,
    /// How often something had to be read after all.
    reads: Arc<AtomicUsize>,
}

impl Library {
    fn new(bytes: &[u8]) -> Library {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let file = Disk::host().create_new(&path).unwrap().with_sound(&Arc::default());
        file.write_all_at(0, &mut [IoSlice::new(bytes)]).unwrap();
        file.sound().unwrap().add_written(0..1 << 30);
        Library { _folder: folder, file, reads: Arc::default() }
    }

    fn lend(&self, position: usize, count: usize) -> Piece {
        let (file, reads) = (self.file.clone(), self.reads.clone());
        let read = move || {
            reads.fetch_add(1, Ordering::Relaxed);
            file.read_at(position as u64, count)
        };
        Piece::Elsewhere(Elsewhere::new(
            Arc::new(Lent::new(self.file.clone(), position as u64, count, read)),
            count,
        ))
    }
}

#[tokio::test]
async fn what_is_lent_leaves_in_its_place_among_the_rest() {
    let bytes: Vec<u8> = (0..5 * STEP_BYTES_MAX as u32 / 4).flat_map(u32::to_le_bytes).collect();
    let library = Library::new(&bytes);
    let here = |count: usize| Piece::Here(Bytes::from(vec![b'h'; count]));
    for (pieces, capacity) in [
        (vec![here(3), library.lend(5, 7), here(4), library.lend(100, 200), library.lend(0, 1)], 1 << 20),
        (vec![library.lend(0, bytes.len())], 10_000),
        (
            vec![here(100), library.lend(7, 2 * STEP_BYTES_MAX), here(STEP_BYTES_MAX), library.lend(9, 9)],
            1 << 22,
        ),
        (
            vec![
                here(10),
                library.lend(1, STEP_BYTES_MAX + 1),
                library.lend(2, STEP_BYTES_MAX - 1),
                here(10),
            ],
            70_000,
        ),
    ] {
        let expected: Vec<u8> = pieces
            .iter()
            .flat_map(|piece| match piece {
                Piece::Here(bytes) => bytes.to_vec(),
                Piece::Elsewhere(elsewhere) => {
                    let lent = elsewhere.downcast::<Lent>().unwrap();
                    let from = lent.position(0) as usize;
                    bytes[from..from + lent.count()].to_vec()
                }
            })
            .collect();
        let turns = WriteTurns::new(1, Clock::system());
        let (mut near, mut far) = tokio::io::duplex(capacity);
        let writing = async {
            write_pieces(&mut near, &pieces, Duration::from_secs(60), &turns).await.unwrap();
            drop(near);
        };
        let mut read = Vec::new();
        let (_, outcome) = tokio::join!(writing, far.read_to_end(&mut read));
        outcome.unwrap();
        assert!(read == expected, "{pieces:?}");
    }
    assert_eq!(library.reads.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn what_has_left_the_page_cache_is_read_by_whoever_lent_it() {
    let bytes: Vec<u8> = (0..STEP_BYTES_MAX as u32).flat_map(u32::to_le_bytes).collect();
    for (sent_before, expected) in
        [(0, 1), (100_000, 1), (3 * STEP_BYTES_MAX / 2, 1), (3 * STEP_BYTES_MAX, 0)]
    {
        let library = Library::new(&bytes);
        library.file.sync_data().unwrap();
        let count = 3 * STEP_BYTES_MAX;
        let pieces = [library.lend(10, count), Piece::Here(Bytes::from_static(b"end"))];
        let turns = WriteTurns::new(1, Clock::system());
        let (mut near, mut far) = tokio::io::duplex(10_000);
        let writing = async {
            write_pieces(&mut near, &pieces, Duration::from_secs(60), &turns).await.unwrap();
            drop(near);
        };
        let reading = async {
            let mut read = vec![0; sent_before];
            far.read_exact(&mut read).await.unwrap();
            library.file.forget_clean_pages();
            let left = library.file.is_cached(0, count as u64).unwrap();
            assert!(!left, "the file system of the tests keeps what it was told to forget");
            far.read_to_end(&mut read).await.unwrap();
            read
        };
        let (_, read) = tokio::join!(writing, reading);
        assert!(read == [&bytes[10..10 + count], b"end"].concat(), "{sent_before}");
        let reads = library.reads.load(Ordering::Relaxed);
        assert_eq!(reads, expected, "{sent_before}: once, and not again for each step");
    }
}

/// That its bytes are in the page cache is not enough.
#[tokio::test]
async fn what_is_not_known_to_be_sound_is_read_by_whoever_lent_it() {
    let library = Library::new(&[1; 1000]);
    let pieces = [library.lend(0, 1000)];
    library.file.sound().unwrap().forget_from(999);
    let (mut near, mut far) = tokio::io::duplex(1 << 20);
    write_pieces(&mut near, &pieces, Duration::from_secs(60), &WriteTurns::new(1, Clock::system()))
        .await
        .unwrap();
    drop(near);
    let mut read = Vec::new();
    far.read_to_end(&mut read).await.unwrap();
    assert_eq!((read.len(), library.reads.load(Ordering::Relaxed)), (1000, 1));
}

#[tokio::test]
async fn a_file_that_ends_before_what_was_lent_is_an_error() {
    let library = Library::new(&[1; 100]);
    let (mut near, _far) = tokio::io::duplex(1 << 20);
    // In the cache it is, by its last page.
    let pieces = [library.lend(50, 100)];
    let written =
        write_pieces(&mut near, &pieces, Duration::from_secs(60), &WriteTurns::new(1, Clock::system())).await;
    assert_eq!(written.unwrap_err().kind(), io::ErrorKind::WriteZero);
}

/// By a real socket, with more than it takes at once. The kernel may drop a page of what was just written, but not each time.
#[tokio::test]
async fn a_socket_sends_what_is_lent() {
    let bytes: Vec<u8> = (0..2_000_003u32).map(|n| (n / 7) as u8).collect();
    let listener = sockets::listen("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = listener.local_addr().unwrap();
    let mut reads = Vec::new();
    while reads.len() < 10 && !reads.contains(&0) {
        let library = Library::new(&bytes);
        let (near, far) = tokio::join!(sockets::Stream::connect(address), listener.accept());
        let ((_, mut near), (mut far, _)) = (near.unwrap().into_split(), far.unwrap());
        let pieces = [Piece::Here(Bytes::from_static(b"head")), library.lend(3, 2_000_000)];
        let writing = async move {
            write_pieces(&mut near, &pieces, Duration::from_secs(60), &WriteTurns::new(1, Clock::system()))
                .await
                .unwrap();
        };
        let mut read = Vec::new();
        let (_, outcome) = tokio::join!(writing, far.read_to_end(&mut read));
        outcome.unwrap();
        assert!(read == [b"head", &bytes[3..2_000_003]].concat());
        reads.push(library.reads.load(Ordering::Relaxed));
    }
    assert!(reads.contains(&0), "it is sent, and not read: {reads:?}");
}
