//! What of a file waits for a sync is written back in steps before it.
//!
//! With much of a file on its way at a time, ext4 needs blocks to keep account of which parts have arrived, and lets them go again (by
//! a discard that it waits for, if it is mounted so) while whoever appends to the file waits.
//!
//! Speed alone hangs on this: nothing is durable before the sync behind it, which does all that is left. But an error of a step is the
//! sync's, which would not tell it again.

use std::fs;
use std::io;
use std::os::fd::AsRawFd as _;
use std::sync::atomic::{AtomicU64, Ordering};

/// So many bytes are written back at a time, each step once the one before is done.
const STEP_BYTES: u64 = 8 << 20;
/// What was appended while steps were made is written back in steps as well, so often.
const ROUNDS_MAX: usize = 4;

/// Between which two bytes an open file was written to since the last sync began; what others write to it does not count.
#[derive(Debug)]
pub(super) struct Unsynced {
    from: AtomicU64,
    to: AtomicU64,
}

impl Default for Unsynced {
    fn default() -> Unsynced {
        Unsynced { from: AtomicU64::new(u64::MAX), to: AtomicU64::new(0) }
    }
}

impl Unsynced {
    /// Takes note that `[from, to)` was written.
    pub(super) fn note_written(&self, from: u64, to: u64) {
        self.from.fetch_min(from, Ordering::Relaxed);
        self.to.fetch_max(to, Ordering::Relaxed);
    }

    /// Writes it back, but for what one step is enough for: that is left to the sync, which is to follow.
    pub(super) fn write_back(&self, file: &fs::File) -> io::Result<()> {
        for _ in 0..ROUNDS_MAX {
            let (from, to) = self.take();
            if write_back(file, from, to)? == 0 {
                break;
            }
        }
        Ok(())
    }

    fn take(&self) -> (u64, u64) {
        (self.from.swap(u64::MAX, Ordering::Relaxed), self.to.swap(0, Ordering::Relaxed))
    }
}

/// Writes `[from, to)` back in steps, but for the last. Gives the number of steps.
fn write_back(file: &fs::File, from: u64, to: u64) -> io::Result<usize> {
    const WRITE_AND_WAIT: libc::c_uint =
        libc::SYNC_FILE_RANGE_WAIT_BEFORE | libc::SYNC_FILE_RANGE_WRITE | libc::SYNC_FILE_RANGE_WAIT_AFTER;
    let mut steps = 0;
    let mut at = from;
    while to.saturating_sub(at) > STEP_BYTES {
        match sync_range(file, at, STEP_BYTES, WRITE_AND_WAIT) {
            Ok(()) => {}
            Err(_) if is_forbidden(file) => break,
            Err(error) => return Err(error),
        }
        at += STEP_BYTES;
        steps += 1;
    }
    Ok(steps)
}

/// Whether a sandbox forbids the call: also one that does nothing, and meets no error of the file.
fn is_forbidden(file: &fs::File) -> bool {
    sync_range(file, 0, 0, 0)
        .is_err_and(|error| matches!(error.raw_os_error(), Some(libc::ENOSYS | libc::EPERM)))
}

fn sync_range(file: &fs::File, from: u64, count: u64, flags: libc::c_uint) -> io::Result<()> {
    let invalid = |_| io::Error::from(io::ErrorKind::InvalidInput);
    let (from, count) = (from.try_into().map_err(invalid)?, count.try_into().map_err(invalid)?);
    // SAFETY: the call takes numbers alone, and the file is open.
    #[allow(unsafe_code)]
    let outcome = unsafe { libc::sync_file_range(file.as_raw_fd(), from, count, flags) };
    if outcome == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: (u64, u64) = (u64::MAX, 0);

    #[test]
    fn what_was_written_is_known_until_it_is_written_back() {
        let unsynced = Unsynced::default();
        assert_eq!(unsynced.take(), NONE);
        unsynced.note_written(9, 20);
        unsynced.note_written(4, 9);
        assert_eq!(unsynced.take(), (4, 20));
        unsynced.note_written(7, 3 * STEP_BYTES);
        let file = tempfile::tempfile().unwrap();
        file.set_len(3 * STEP_BYTES).unwrap();
        unsynced.write_back(&file).unwrap();
        assert_eq!(unsynced.take(), NONE);
    }

    #[test]
    fn steps_are_made_while_more_than_one_is_left_and_their_errors_are_told() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(3 * STEP_BYTES).unwrap();
        if is_forbidden(&file) {
            println!("this machine forbids the call: each sync is made in one go");
            return;
        }
        for (from, to, steps) in [
            (4, 2 * STEP_BYTES + 5, 2),
            (0, STEP_BYTES, 0),
            (0, STEP_BYTES + 1, 1),
            (STEP_BYTES, 0, 0),
            (NONE.0, NONE.1, 0),
        ] {
            assert_eq!(write_back(&file, from, to).unwrap(), steps, "{from} {to}");
        }
        // A pipe has nothing to write back to.
        let (pipe, _other_end) = std::io::pipe().unwrap();
        let pipe = fs::File::from(std::os::fd::OwnedFd::from(pipe));
        assert_eq!(write_back(&pipe, 0, STEP_BYTES + 1).unwrap_err().raw_os_error(), Some(libc::ESPIPE));
    }
}
