//! The keys of client quotas. The quotas themselves are set at run time, for users, client ids and addresses.

use std::time::Duration;

use super::key::{count, seconds};
use super::reader::Reader;

/// How the use of what has a quota is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quotas {
    /// `quota.window.num`.
    pub windows: u32,
    /// `quota.window.size.seconds`.
    pub window_size: Duration,
    /// `controller.quota.window.num`.
    pub mutation_windows: u32,
    /// `controller.quota.window.size.seconds`.
    pub mutation_window_size: Duration,
    /// `quota.clients.max`.
    pub clients_max: u32,
}

/// A window is a sample in memory, for each client.
const WINDOWS_MAX: i64 = 1000;
const WINDOW_SECONDS_MAX: i64 = 3600;

pub(super) fn read(r: &mut Reader<'_>) -> Quotas {
    r.section("Client quotas");
    Quotas {
        windows: r.read(count("quota.window.num", 11).range(2, WINDOWS_MAX).doc(
            "Windows over which the use of a client is counted, for quotas of bytes, time and connections. A client that has rested \
             may use at once what all but one of them allow.",
        )),
        window_size: r.read(
            seconds("quota.window.size.seconds", 1)
                .range(1, WINDOW_SECONDS_MAX)
                .doc("Seconds of each; also the longest that a client rests for its `request_percentage`."),
        ),
        mutation_windows: r.read(
            count("controller.quota.window.num", 11)
                .range(1, WINDOWS_MAX)
                .doc("Windows of quotas of partitions made and deleted: after a rest, what all of them allow may be made at once."),
        ),
        mutation_window_size: r.read(
            seconds("controller.quota.window.size.seconds", 1)
                .range(1, WINDOW_SECONDS_MAX)
                .doc("Seconds of each."),
        ),
        clients_max: r.read(count("quota.clients.max", 20_000).at_least(1).doc(
            "Clients whose use is counted at a time, for each kind of quota, at some 500 bytes each; beyond, those are forgotten that \
             have no connection and are idle for longest, and begin anew. After an hour without use they are forgotten anyway.",
        )),
    }
}
