//! Client quotas: how much a client may use, and how long it rests once it has used more.
//!
//! Kafka's (KIP-13, 124, 219, 546, 599, 612). What is set stands in the metadata, for users, client ids and addresses; [`limits`]
//! says which of it holds for a client, [`rate`] and [`bucket`] count what is used: all three are pure. [`accounts`] remembers
//! who used what, within bounds, and [`handle`] puts them together for the server, which asks with each request.
//!
//! Nobody is made to wait for an answer. It comes at once, tells the client how long to rest, and the server reads nothing more
//! from that connection until then: that is the server's to do, as it is to say what a request costs. Here nothing is known
//! of requests.
//!
//! A broker without any quota pays for all this with one look at an atomic number per request.

/// Kafka's keys: what each limits, for whom, and which values it takes.
pub(crate) mod kind;
/// Which quota holds for a client.
mod limits;
/// How much was used, over a few windows of time.
mod rate;
/// Tokens that come back with time.
pub(crate) mod bucket;
/// Who used how much.
mod accounts;
/// What is counted of quotas.
mod metrics;
/// What one client pays.
pub(crate) mod charges;
/// What making and deleting partitions costs.
pub(crate) mod mutations;
/// The handle.
mod handle;

pub(crate) use handle::{ANONYMOUS, Payer, QuotaOptions, Quotas};
pub(crate) use rate::Windows;
