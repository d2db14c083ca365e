//! The keys of groups whose coordinator assigns (KIP-848): what a broker has for all of them, and what each may have for itself.

use std::time::Duration;

use super::key::{Key, choice, count, list, millis};
use super::reader::Reader;
use super::source::{Overrides, Source};
use super::units::{INT_MAX, SECOND};

/// What brokers call these two; a group has names of its own for them.
const SESSION: &str = "group.consumer.session.timeout.ms";
const HEARTBEAT: &str = "group.consumer.heartbeat.interval.ms";

/// Groups whose coordinator assigns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsumerGroups {
    /// `group.consumer.session.timeout.ms`, and of a group `consumer.session.timeout.ms`.
    pub session_timeout: GroupTime,
    /// `group.consumer.heartbeat.interval.ms`, and of a group `consumer.heartbeat.interval.ms`.
    pub heartbeat_interval: GroupTime,
    /// `group.consumer.max.size`.
    pub members_max: u32,
    /// `group.consumer.assignors`.
    pub assignors: Assignors,
    /// `group.consumer.migration.policy`.
    pub migration: Migration,
}

/// Which way a group may change its protocol while members are in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Migration {
    /// Both ways.
    Bidirectional,
    /// From a group whose members assign to one whose coordinator does.
    Upgrade,
    /// The other way.
    Downgrade,
    /// Only once nobody is in.
    Disabled,
}

impl Migration {
    /// Whether the coordinator may begin to assign.
    pub fn may_upgrade(self) -> bool {
        matches!(self, Migration::Bidirectional | Migration::Upgrade)
    }

    /// Whether the members may begin to assign.
    pub fn may_downgrade(self) -> bool {
        matches!(self, Migration::Bidirectional | Migration::Downgrade)
    }
}

/// A heartbeat that is as long as its session, or longer, is taken as this part of it: what clients of classic groups do by default.
const HEARTBEATS_PER_SESSION: u32 = 3;

impl ConsumerGroups {
    /// How often members of a group for which `own` is set are to be heard of. Of a group that has its own session the broker's
    /// time between two heartbeats may have been set to more than that since.
    pub fn heartbeat_of(&self, own: &Overrides) -> Duration {
        let (heartbeat, session) = (self.heartbeat_interval.of(own), self.session_timeout.of(own));
        if heartbeat < session { heartbeat } else { session / HEARTBEATS_PER_SESSION }
    }
}

/// A time that groups may have set for themselves, within what the broker allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GroupTime {
    key: &'static str,
    /// For groups that have none of their own.
    pub default: Duration,
    min: Duration,
    max: Duration,
}

impl GroupTime {
    /// One and the same for all groups.
    #[cfg(test)]
    pub(crate) fn always(time: Duration) -> GroupTime {
        GroupTime { key: "", default: time, min: time, max: time }
    }

    /// The time of a group for which `own` is set. What was set under other bounds than are in force now is taken to the nearest
    /// of these, as in Kafka.
    pub fn of(&self, own: &Overrides) -> Duration {
        let millis = own.get(self.key).and_then(|text| text.parse().ok());
        millis.map_or(self.default, |millis| Duration::from_millis(millis).clamp(self.min, self.max))
    }
}

/// How a coordinator assigns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Assignor {
    /// As many partitions to each, and as few moved as can be.
    Uniform,
    /// Neighbouring partitions to each.
    Range,
}

impl Assignor {
    /// Kafka's name for it.
    pub const fn name(self) -> &'static str {
        match self {
            Assignor::Uniform => "uniform",
            Assignor::Range => "range",
        }
    }
}

/// The assignors that members may vote for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Assignors {
    /// Where nobody votes.
    pub default: Assignor,
    /// The other one, if members may have it.
    pub other: Option<Assignor>,
}

impl Assignors {
    /// The one of that name.
    pub fn named(self, name: &str) -> Option<Assignor> {
        [Some(self.default), self.other].into_iter().flatten().find(|assignor| assignor.name() == name)
    }
}

fn assignors(names: &[&str]) -> Result<Assignors, String> {
    let of = |name: &&str| {
        let all = [Assignor::Uniform, Assignor::Range];
        all.into_iter().find(|assignor| assignor.name() == *name)
    };
    let known: Vec<Assignor> = names.iter().filter_map(of).collect();
    match known[..] {
        [default] if names.len() == 1 => Ok(Assignors { default, other: None }),
        [default, other] if names.len() == 2 && default != other => {
            Ok(Assignors { default, other: Some(other) })
        }
        _ => Err("must be uniform, range, or both".to_owned()),
    }
}

fn migrations() -> Vec<(&'static str, Migration)> {
    vec![
        ("bidirectional", Migration::Bidirectional),
        ("upgrade", Migration::Upgrade),
        ("downgrade", Migration::Downgrade),
        ("disabled", Migration::Disabled),
    ]
}

pub(super) fn read(r: &mut Reader<'_>) -> ConsumerGroups {
    let session_min = r.read(
        millis("group.consumer.min.session.timeout.ms", 45 * SECOND)
            .range(1, INT_MAX)
            .doc("Shortest session that groups whose coordinator assigns may have, in milliseconds."),
    );
    let session_max = r.read(
        millis("group.consumer.max.session.timeout.ms", 60 * SECOND)
            .range(1, INT_MAX)
            .doc("Longest session that groups whose coordinator assigns may have, in milliseconds."),
    );
    let heartbeat_min = r.read(
        millis("group.consumer.min.heartbeat.interval.ms", 5 * SECOND)
            .range(1, INT_MAX)
            .doc("Shortest time between heartbeats that groups whose coordinator assigns may have, in milliseconds."),
    );
    let heartbeat_max = r.read(
        millis("group.consumer.max.heartbeat.interval.ms", 15 * SECOND)
            .range(1, INT_MAX)
            .doc("Longest time between heartbeats that groups whose coordinator assigns may have, in milliseconds."),
    );
    let session = millis(SESSION, 45 * SECOND)
        .doc("Milliseconds after which a silent member is put out of a group whose coordinator assigns.");
    let heartbeat = millis(HEARTBEAT, 5 * SECOND)
        .doc("Milliseconds between two heartbeats of a member of a group whose coordinator assigns. It learns by them what to read, so a rebalance takes a few of them.");
    let session_timeout = time(r, session, "consumer.session.timeout.ms", (session_min, session_max));
    let heartbeat_interval =
        time(r, heartbeat, "consumer.heartbeat.interval.ms", (heartbeat_min, heartbeat_max));
    // The one that was set for the group, of those that do not go together.
    let is_own_heartbeat = *r.last_source() == Source::Group;
    let groups = ConsumerGroups {
        session_timeout,
        heartbeat_interval,
        members_max: r.read(
            count("group.consumer.max.size", 10_000)
                .at_least(1)
                .doc("Members that a group whose coordinator assigns may have."),
        ),
        assignors: r.read(
            list("group.consumer.assignors", "uniform,range", "uniform, range", assignors)
                .doc("How the coordinator may assign: `uniform` gives as many partitions to each and moves as few as it can, `range` gives neighbouring ones, the same of topics with as many partitions. Members vote; the first is for those who do not."),
        ),
        migration: r.read(
            choice("group.consumer.migration.policy", migrations())
                .doc("Whether a group with members may change its protocol: `upgrade` when a first member of `group.protocol=consumer` joins a group of classic consumers, `downgrade` when the last such member is gone and classic ones are left, `bidirectional` both. With `disabled` a group must be empty before, and no classic member joins one whose coordinator assigns."),
        ),
    };
    check_bounds(
        r,
        SESSION,
        session_timeout,
        "group.consumer.min.session.timeout.ms and group.consumer.max.session.timeout.ms",
    );
    check_bounds(
        r,
        HEARTBEAT,
        heartbeat_interval,
        "group.consumer.min.heartbeat.interval.ms and group.consumer.max.heartbeat.interval.ms",
    );
    if heartbeat_interval.default >= session_timeout.default {
        let session = session_timeout.default.as_millis();
        let heartbeat = heartbeat_interval.default.as_millis();
        if r.is_group() && !is_own_heartbeat {
            r.blame(SESSION, format!("must be longer than the time between two heartbeats ({heartbeat})"));
        } else {
            r.blame(HEARTBEAT, format!("must be shorter than the session ({session})"));
        }
    }
    groups
}

fn time(
    r: &mut Reader<'_>,
    broker: Key<Duration>,
    group: &'static str,
    (min, max): (Duration, Duration),
) -> GroupTime {
    let default = r.read(broker.range(1, INT_MAX).of_groups(group));
    GroupTime { key: group, default, min, max }
}

fn check_bounds(r: &mut Reader<'_>, key: &str, time: GroupTime, bounds: &str) {
    let GroupTime { key: _, default, min, max } = time;
    if !(min..=max).contains(&default) {
        let (min, max) = (min.as_millis(), max.as_millis());
        r.blame(key, format!("must lie between {bounds} ({min} to {max})"));
    }
}
