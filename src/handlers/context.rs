//! What handlers work with: handles, and no behaviour.

use std::sync::Arc;

use aquifer_model::BrokerId;
use aquifer_runtime::World;
use aquifer_tiering::Tier;
use parking_lot::Mutex;
use tokio::sync::watch;

use super::answer_memory::AnswerMemory;
use super::fetch_session::FetchSessions;
use super::metrics::HandlerMetrics;
use crate::config::Config;
use crate::controller::topics::Topics;
use crate::groups::coordinator::Groups;
use crate::metadata::Metadata;
use crate::quotas::Quotas;
use crate::replica::Replicas;
use crate::transactions::ids::ProducerIds;

/// Handles to everything that a request may need.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) broker: BrokerId,
    pub(crate) world: World,
    pub(crate) config: watch::Receiver<Config>,
    pub(crate) metadata: Metadata,
    pub(crate) replicas: Arc<Replicas>,
    pub(crate) tier: Option<Tier>,
    pub(crate) topics: Topics,
    pub(crate) groups: Arc<Groups>,
    pub(crate) quotas: Arc<Quotas>,
    pub(crate) producer_ids: ProducerIds,
    pub(crate) sessions: Mutex<FetchSessions>,
    /// Memory for records in answers, of all connections together.
    pub(crate) answers: AnswerMemory,
    pub(crate) metrics: HandlerMetrics,
}

impl Context {
    /// The configuration in force.
    pub(crate) fn config(&self) -> Config {
        self.config.borrow().clone()
    }
}
