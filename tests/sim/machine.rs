//! The machine below the seams: what a dependency asks the system for on its own, its randomness and its clocks, is simulated too.
//!
//! These take the place of the C library's functions in this program alone. Before [`simulate`] they pass on what the system
//! says; from then on the randomness comes from the seed, and the clocks show the simulation's time.
#![allow(unsafe_code)] // The C library's functions can be replaced in no other way.

use std::ffi::{c_int, c_long, c_void};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

static SIMULATED: AtomicBool = AtomicBool::new(false);
static RANDOM: AtomicU64 = AtomicU64::new(0);
static NANOS: AtomicU64 = AtomicU64::new(0);

/// When simulated worlds begin, in seconds since 1970: long ago, so that a clock that escaped would show.
pub(crate) const EPOCH_SECONDS: u64 = 1_000_000_000;
/// CLOCK_REALTIME and CLOCK_REALTIME_COARSE.
const WALL_CLOCKS: [c_int; 2] = [0, 5];

/// From now on this process is a simulated machine. There is no way back.
pub(crate) fn simulate(seed: u64) {
    RANDOM.store(seed, Ordering::SeqCst);
    SIMULATED.store(true, Ordering::SeqCst);
}

/// Moves the clocks on.
pub(crate) fn set_elapsed(elapsed: Duration) {
    NANOS.store(u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX), Ordering::SeqCst);
}

/// As the clocks show it.
pub(crate) fn elapsed() -> Duration {
    Duration::from_nanos(NANOS.load(Ordering::SeqCst))
}

/// Steele, Lea and Flood's SplitMix64.
fn next_random() -> u64 {
    let mut z = RANDOM.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::SeqCst).wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// As the C library's.
///
/// # Safety
/// `buffer` must have room for `length` bytes.
#[unsafe(no_mangle)]
unsafe extern "C" fn getrandom(buffer: *mut c_void, length: usize, flags: u32) -> isize {
    // SAFETY: the caller vouches for the buffer.
    let out = unsafe { std::slice::from_raw_parts_mut(buffer.cast::<u8>(), length) };
    if SIMULATED.load(Ordering::SeqCst) {
        for chunk in out.chunks_mut(8) {
            chunk.copy_from_slice(&next_random().to_le_bytes()[..chunk.len()]);
        }
        return length as isize;
    }
    let flags = rustix::rand::GetRandomFlags::from_bits_truncate(flags);
    rustix::rand::getrandom(out, flags).map_or(-1, |filled| filled as isize)
}

/// As the C library's.
///
/// # Safety
/// `buffer` must have room for `length` bytes.
#[unsafe(no_mangle)]
unsafe extern "C" fn getentropy(buffer: *mut c_void, length: usize) -> c_int {
    // SAFETY: the caller vouches for the buffer.
    if unsafe { getrandom(buffer, length, 0) } == length as isize { 0 } else { -1 }
}

/// As the C library's `struct timespec`.
#[repr(C)]
struct Timespec {
    seconds: i64,
    nanos: c_long,
}

/// As the C library's.
///
/// # Safety
/// `out` must point to a timespec.
#[unsafe(no_mangle)]
unsafe extern "C" fn clock_gettime(clock: c_int, out: *mut Timespec) -> c_int {
    let time = if SIMULATED.load(Ordering::SeqCst) {
        let nanos = NANOS.load(Ordering::SeqCst);
        let began = if WALL_CLOCKS.contains(&clock) { EPOCH_SECONDS } else { 1_000 };
        Timespec { seconds: (began + nanos / 1_000_000_000) as i64, nanos: (nanos % 1_000_000_000) as c_long }
    } else {
        let id = if WALL_CLOCKS.contains(&clock) {
            rustix::time::ClockId::Realtime
        } else {
            rustix::time::ClockId::Monotonic
        };
        let now = rustix::time::clock_gettime(id);
        Timespec { seconds: now.tv_sec, nanos: now.tv_nsec as c_long }
    };
    // SAFETY: the caller vouches for the place.
    unsafe { out.write(time) };
    0
}
