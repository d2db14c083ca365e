//! Waking up at a moment, to the microsecond.
//!
//! tokio's timers count milliseconds, which is right for deadlines and of no use to a load that is due every 100 us. On Linux the
//! kernel wakes by a timer that is a file, in the runtime's own poll. Elsewhere, and in the simulation, it is tokio's timer.

use std::io;

use tokio::time::Instant;

use crate::clock::Clock;

/// One alarm, set again and again. Keeps to the machine's clock: a paused runtime does not pause it.
#[derive(Debug)]
pub struct Alarm {
    clock: Clock,
    #[cfg(all(target_os = "linux", not(feature = "sim")))]
    timer: timer::Timer,
}

impl Alarm {
    /// An alarm that is not set. Needs a tokio runtime; fails where the process may open no more files.
    pub fn new(clock: Clock) -> io::Result<Alarm> {
        Ok(Alarm {
            clock,
            #[cfg(all(target_os = "linux", not(feature = "sim")))]
            timer: timer::Timer::new()?,
        })
    }

    /// Waits until `moment`, not at all if it is over. Cancel-safe.
    pub async fn until(&mut self, moment: Instant) -> io::Result<()> {
        loop {
            let left = moment.saturating_duration_since(self.clock.now());
            if left.is_zero() {
                return Ok(());
            }
            #[cfg(all(target_os = "linux", not(feature = "sim")))]
            self.timer.wait(moment, left).await?;
            #[cfg(not(all(target_os = "linux", not(feature = "sim"))))]
            tokio::time::sleep_until(moment).await;
        }
    }
}

/// The kernel's timer.
#[cfg(all(target_os = "linux", not(feature = "sim")))]
mod timer {
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

    #[tokio::test]
    async fn it_wakes_when_told_and_may_be_set_anew_before() {
        let clock = Clock::system();
        let mut alarm = Alarm::new(clock).unwrap();
        let began = clock.now();
        alarm.until(began).await.unwrap();
        for step in 1..=20 {
            let moment = began + Duration::from_micros(step * 300);
            // Cancelled while it waits.
            let later = alarm.until(moment + Duration::from_secs(3600));
            assert!(is_pending(later).await);
            alarm.until(moment).await.unwrap();
            assert!(clock.now() >= moment);
        }
        assert!(clock.now() - began < Duration::from_secs(60));
    }

    /// Whether it is still pending after one look.
    async fn is_pending<T>(future: impl Future<Output = T>) -> bool {
        let mut future = std::pin::pin!(future);
        std::future::poll_fn(|context| std::task::Poll::Ready(future.as_mut().poll(context).is_pending()))
            .await
    }
}
