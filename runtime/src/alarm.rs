//! Waking up at a moment, to the microsecond.
//!
//! tokio's timers count milliseconds, which is right for deadlines and of no use to a load that is due every 100 us. On Linux the
//! kernel wakes by a timer that is a file, in the runtime's own poll; one for all who wait, since a process may open only so many files.
//! Elsewhere, and in the simulation, it is tokio's timer.

use std::collections::BTreeMap;
use std::future::{Future, pending};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::clock::Clock;
use crate::tasks::TaskGroup;

/// Wakes whoever waits, each at its moment. Keeps to the machine's clock: a paused runtime does not pause it. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Alarms(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    clock: Clock,
    ids: AtomicU64,
    waiting: Mutex<Waiting>,
    /// Somebody waits for an earlier moment than the timer.
    earlier: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    /// By moment; the number tells those of one moment apart.
    wakers: BTreeMap<(Instant, u64), Waker>,
    /// What the timer is set to.
    set: Option<Instant>,
}

impl Alarms {
    /// Starts a task of this group that wakes the others. Fails where the process may open no more files.
    pub fn start(clock: Clock, tasks: &TaskGroup) -> io::Result<Alarms> {
        let timer = Timer::new(clock)?;
        let inner =
            Inner { clock, ids: AtomicU64::new(0), waiting: Mutex::default(), earlier: Notify::new() };
        let alarms = Alarms(Arc::new(inner));
        let (ringing, cancelled) = (alarms.clone(), tasks.cancelled().clone());
        tasks.spawn_lasting("alarms", async move {
            tokio::select! {
                () = cancelled.cancelled() => {}
                outcome = ringing.ring(timer) => match outcome {
                    Ok(never) => match never {},
                    Err(error) => tracing::error!(%error, "the kernel's timer fails"),
                },
            }
        });
        Ok(alarms)
    }

    /// Waits until `moment`, not at all if it is over. Cancel-safe.
    pub fn until(&self, moment: Instant) -> impl Future<Output = ()> + Send + '_ {
        let id = self.0.ids.fetch_add(1, Ordering::Relaxed);
        Until { alarms: &self.0, place: (moment, id), is_waiting: false }
    }

    async fn ring(&self, mut timer: Timer) -> io::Result<std::convert::Infallible> {
        loop {
            let (due, next) = self.0.waiting.lock().take_due(self.0.clock.now());
            due.into_iter().for_each(Waker::wake);
            let until_next = async {
                match next {
                    Some(moment) => timer.until(moment).await,
                    None => pending().await,
                }
            };
            tokio::select! {
                () = self.0.earlier.notified() => {}
                rung = until_next => rung?,
            }
        }
    }
}

impl Waiting {
    /// Takes all whose moment has come, and tells the next one's.
    fn take_due(&mut self, now: Instant) -> (Vec<Waker>, Option<Instant>) {
        let mut due = Vec::new();
        while let Some(first) = self.wakers.first_entry()
            && first.key().0 <= now
        {
            due.push(first.remove());
        }
        self.set = self.wakers.first_key_value().map(|(place, _)| place.0);
        (due, self.set)
    }
}

/// Waits for a moment.
struct Until<'a> {
    alarms: &'a Inner,
    place: (Instant, u64),
    is_waiting: bool,
}

impl Future for Until<'_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let moment = self.place.0;
        if self.alarms.clock.now() >= moment {
            return Poll::Ready(());
        }
        let mut waiting = self.alarms.waiting.lock();
        waiting.wakers.insert(self.place, context.waker().clone());
        if waiting.set.is_none_or(|set| moment < set) {
            waiting.set = Some(moment);
            self.alarms.earlier.notify_one();
        }
        drop(waiting);
        self.is_waiting = true;
        Poll::Pending
    }
}

impl Drop for Until<'_> {
    fn drop(&mut self) {
        if self.is_waiting {
            self.alarms.waiting.lock().wakers.remove(&self.place);
        }
    }
}

/// One timer, set again and again.
#[derive(Debug)]
struct Timer {
    clock: Clock,
    #[cfg(all(target_os = "linux", not(feature = "sim")))]
    kernel: kernel::Timer,
}

impl Timer {
    /// One that is not set. Needs a tokio runtime.
    fn new(clock: Clock) -> io::Result<Timer> {
        Ok(Timer {
            clock,
            #[cfg(all(target_os = "linux", not(feature = "sim")))]
            kernel: kernel::Timer::new()?,
        })
    }

    /// Waits until `moment`, not at all if it is over. Cancel-safe.
    async fn until(&mut self, moment: Instant) -> io::Result<()> {
        loop {
            let left = moment.saturating_duration_since(self.clock.now());
            if left.is_zero() {
                return Ok(());
            }
            #[cfg(all(target_os = "linux", not(feature = "sim")))]
            self.kernel.wait(moment, left).await?;
            #[cfg(not(all(target_os = "linux", not(feature = "sim"))))]
            tokio::time::sleep_until(moment).await;
        }
    }
}

/// The kernel's timer.
#[cfg(all(target_os = "linux", not(feature = "sim")))]
mod kernel {
    use std::io;
    use std::os::fd::OwnedFd;
    use std::time::Duration;

    use rustix::time::{
        Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
        timerfd_settime,
    };
    use tokio::io::unix::AsyncFd;
    use tokio::time::Instant;

    #[derive(Debug)]
    pub(super) struct Timer {
        file: AsyncFd<OwnedFd>,
        /// When it goes off; a wait that was cancelled and begins anew need not set it again.
        set: Option<Instant>,
    }

    impl Timer {
        pub(super) fn new() -> io::Result<Timer> {
            let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
            let timer = timerfd_create(TimerfdClockId::Monotonic, flags)?;
            // SAFETY: the descriptor is owned, so that it stays open and the same for as long as the AsyncFd has it.
            #[allow(unsafe_code)]
            let file = unsafe { AsyncFd::register(timer) }?;
            Ok(Timer { file, set: None })
        }

        /// Waits `left`, which ends at `moment`; may be early.
        pub(super) async fn wait(&mut self, moment: Instant, left: Duration) -> io::Result<()> {
            if self.set != Some(moment) {
                let never = Timespec { tv_sec: 0, tv_nsec: 0 };
                let left = Timespec::try_from(left).map_err(|_| io::ErrorKind::InvalidInput)?;
                let time = Itimerspec { it_interval: never, it_value: left };
                timerfd_settime(self.file.get_ref(), TimerfdTimerFlags::empty(), &time)?;
                self.set = Some(moment);
            }
            let mut ready = self.file.readable().await?;
            let mut count = [0; 8];
            let read = ready.try_io(|file| Ok(rustix::io::read(file.get_ref(), &mut count)?));
            match read {
                Ok(Ok(_)) => self.set = None,
                Ok(Err(error)) => return Err(error),
                // It was set anew since it went off.
                Err(_) => {}
            }
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(60);

    #[tokio::test]
    async fn it_wakes_when_told_and_may_be_set_anew_before() {
        let (clock, tasks) = (Clock::system(), TaskGroup::new());
        let alarms = Alarms::start(clock, &tasks).unwrap();
        let began = clock.now();
        alarms.until(began).await;
        for step in 1..=20 {
            let moment = began + Duration::from_micros(step * 300);
            // Cancelled while it waits.
            let later = alarms.until(moment + Duration::from_secs(3600));
            assert!(is_pending(later).await);
            alarms.until(moment).await;
            assert!(clock.now() >= moment);
        }
        assert!(clock.now() - began < PATIENCE);
        assert!(alarms.0.waiting.lock().wakers.is_empty());
        tasks.stop(PATIENCE).await.unwrap();
    }

    #[tokio::test]
    async fn each_of_many_is_woken_at_its_moment() {
        let (clock, tasks) = (Clock::system(), TaskGroup::new());
        let alarms = Alarms::start(clock, &tasks).unwrap();
        let began = clock.now();
        let (tell, mut told) = tokio::sync::mpsc::channel(1000);
        // The latest first, and each moment twice.
        for number in (0..1000_u64).rev() {
            let (alarms, tell) = (alarms.clone(), tell.clone());
            let moment = began + Duration::from_micros(number / 2 * 100);
            tasks.spawn("waits", async move {
                alarms.until(moment).await;
                tell.send(clock.now() >= moment).await.unwrap();
            });
        }
        drop(tell);
        let mut woken = 0;
        while let Some(is_over) = tokio::time::timeout(PATIENCE, told.recv()).await.unwrap() {
            assert!(is_over);
            woken += 1;
        }
        assert_eq!(woken, 1000);
        tasks.stop(PATIENCE).await.unwrap();
    }

    /// Whether it is still pending after one look.
    async fn is_pending<T>(future: impl Future<Output = T>) -> bool {
        let mut future = std::pin::pin!(future);
        std::future::poll_fn(|context| Poll::Ready(future.as_mut().poll(context).is_pending())).await
    }
}
