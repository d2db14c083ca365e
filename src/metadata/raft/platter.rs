//! A disk for tests of what a power cut leaves.

use std::io;
use std::sync::Arc;

use parking_lot::Mutex;
use redb::StorageBackend;

/// A disk that remembers what was synced, and fails when told to.
#[derive(Debug, Clone, Default)]
pub(in crate::metadata) struct Platter(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    durable: Vec<u8>,
    current: Vec<u8>,
    /// Writes since the last sync: position and bytes.
    pending: Vec<(usize, Vec<u8>)>,
    syncs: usize,
    /// No sync succeeds from this one on.
    syncs_max: Option<usize>,
}

impl Platter {
    /// No further sync succeeds.
    pub(in crate::metadata) fn fail(&self) {
        self.fail_after(0);
    }

    /// No sync succeeds after so many, counted from the first.
    pub(in crate::metadata) fn fail_after(&self, syncs: usize) {
        self.0.lock().syncs_max = Some(syncs);
    }

    /// What a power cut leaves: all that was synced, and of the writes since then those that `kept` says.
    pub(in crate::metadata) fn after_power_cut(&self, kept: impl Fn(usize) -> bool) -> Platter {
        let state = self.0.lock();
        let mut bytes = state.durable.clone();
        for (_, (at, data)) in state.pending.iter().enumerate().filter(|(number, _)| kept(*number)) {
            bytes.resize(bytes.len().max(at + data.len()), 0);
            bytes[*at..at + data.len()].copy_from_slice(data);
        }
        Platter(Arc::new(Mutex::new(State { durable: bytes.clone(), current: bytes, ..State::default() })))
    }
}

impl StorageBackend for Platter {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.lock().current.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let state = self.0.lock();
        let from = usize::try_from(offset).unwrap();
        let found = state.current.get(from..from + out.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        out.copy_from_slice(found);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.lock().current.resize(usize::try_from(len).unwrap(), 0);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.0.lock();
        if state.syncs_max.is_some_and(|max| state.syncs >= max) {
            return Err(io::Error::other("the disk is gone"));
        }
        state.syncs += 1;
        state.durable = state.current.clone();
        state.pending.clear();
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut state = self.0.lock();
        let at = usize::try_from(offset).unwrap();
        let end = at + data.len();
        let size = state.current.len().max(end);
        state.current.resize(size, 0);
        state.current[at..end].copy_from_slice(data);
        state.pending.push((at, data.to_vec()));
        Ok(())
    }
}
