//! What the node says that no client sees: panics, and that a writer was fenced.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use tracing::field::{Field, Visit};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;

/// The line by which an uploader that lost its claim ends.
const FENCED: &str = "uploads stop: another process writes this manifest";
/// How a node stops whose metadata cannot be written; its supervisor starts it again.
const METADATA_STOPS: &str = "metadata cannot go on";

/// What was seen so far. Clones share it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Seen {
    panics: Arc<Mutex<Vec<String>>>,
    fenced: Arc<AtomicU64>,
}

impl Seen {
    /// Watches this process from now on. With `SIM_LOG`, a filter as of `RUST_LOG`, the log is also shown.
    pub(crate) fn watch() -> Seen {
        let seen = Seen::default();
        let panics = seen.panics.clone();
        std::panic::set_hook(Box::new(move |panic| {
            let text = panic.to_string();
            if !text.contains(METADATA_STOPS) {
                panics.lock().push(format!("panic: {text}"));
            }
        }));
        let shown = std::env::var("SIM_LOG").ok().map(|filter| {
            let filter = tracing_subscriber::EnvFilter::new(filter);
            tracing_subscriber::fmt::layer().with_ansi(false).without_time().with_filter(filter)
        });
        let errors = tracing_subscriber::filter::LevelFilter::ERROR;
        tracing_subscriber::registry()
            .with(Fences(seen.fenced.clone()).with_filter(errors))
            .with(shown)
            .init();
        seen
    }

    pub(crate) fn panics(&self) -> Vec<String> {
        self.panics.lock().clone()
    }

    pub(crate) fn fenced(&self) -> u64 {
        self.fenced.load(Ordering::SeqCst)
    }
}

struct Fences(Arc<AtomicU64>);

impl<S: tracing::Subscriber> Layer<S> for Fences {
    fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
        let mut message = Message(String::new());
        event.record(&mut message);
        if message.0 == FENCED {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }
}

struct Message(String);

impl Visit for Message {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        if field.name() == "message" {
            self.0 = format!("{value:?}");
        }
    }
}
