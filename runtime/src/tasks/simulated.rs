//! When, in a simulated machine, a thread gets its turn: at once or some milliseconds later, by the machine's randomness, which
//! the simulation has seeded. What happens in between is what real threads race with.

use std::future::Future;
use std::pin::pin;
use std::task::{Poll, ready};
use std::time::Duration;

use rand::RngExt as _;

/// The longest wait for a turn.
const TURN_MICROS_MAX: u64 = 4_000;

/// Waits for a turn. Often it comes at once, as on an idle machine.
#[allow(clippy::disallowed_methods)] // A home of randomness: this is the machine's, not the broker's.
pub(super) async fn turn() {
    let micros = {
        let mut machine = rand::rng();
        if machine.random_bool(0.5) { 0 } else { machine.random_range(0..TURN_MICROS_MAX) }
    };
    if micros == 0 {
        tokio::task::yield_now().await;
    } else {
        tokio::time::sleep(Duration::from_micros(micros)).await;
    }
}

/// A thread's body as a task: each time that it is woken it waits for its turn.
pub(super) async fn scheduled(body: impl Future<Output = ()>) {
    let mut body = pin!(body);
    let mut waiting = Some(Box::pin(turn()));
    std::future::poll_fn(move |context| {
        ready!(waiting.get_or_insert_with(|| Box::pin(turn())).as_mut().poll(context));
        waiting = None;
        match body.as_mut().poll(context) {
            Poll::Ready(()) => Poll::Ready(()),
            Poll::Pending => Poll::Pending,
        }
    })
    .await;
}
