//! Whether the broker is alive, and ready, and if not why.

use std::sync::Arc;

use parking_lot::RwLock;

/// The broker's readiness. Cheap to clone; set by the composition root as parts come up and go down.
#[derive(Debug, Clone)]
pub(crate) struct Health(Arc<RwLock<Readiness>>);

/// Whether clients are served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Readiness {
    /// They are.
    Ready,
    /// They are not, for this reason, in words for an operator.
    NotReady(&'static str),
}

impl Health {
    /// Not ready, for this reason.
    pub(crate) fn starting(reason: &'static str) -> Health {
        Health(Arc::new(RwLock::new(Readiness::NotReady(reason))))
    }

    /// Says how it is from now on.
    pub(crate) fn set(&self, readiness: Readiness) {
        *self.0.write() = readiness;
    }

    /// How it is.
    pub(crate) fn readiness(&self) -> Readiness {
        self.0.read().clone()
    }
}
