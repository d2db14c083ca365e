//! Who belongs to a group, by whichever of the two protocols they speak.

use aquifer_model::Timestamp;
use aquifer_protocol::Str;
use tokio::time::Instant;

use super::classic::{ClassicGroup, State};
use super::consumer::{Around, ConsumerGroup};
use super::effects::{Effects, Now};
use super::positions::Aging;
use super::record::Record;
use super::subscription::{self, Subscribed};

/// The members. A group that merely stores positions is a classic one that never had any.
#[derive(Debug)]
pub(super) enum Members {
    Classic(ClassicGroup),
    Consumer(ConsumerGroup),
}

/// What a group is, in a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Its members assign.
    Classic,
    /// Its coordinator does.
    Consumer,
}

impl Members {
    /// Nobody, and nothing stored.
    pub(super) fn nobody(id: &Str, now: Now) -> Members {
        Members::Classic(ClassicGroup::new(id.clone(), now))
    }

    pub(super) fn kind(&self) -> Kind {
        match self {
            Members::Classic(_) => Kind::Classic,
            Members::Consumer(_) => Kind::Consumer,
        }
    }

    /// Whether there is nothing to remember.
    pub(super) fn is_blank(&self) -> bool {
        match self {
            Members::Classic(group) => group.is_empty() && group.is_simple(),
            Members::Consumer(group) => group.is_blank(),
        }
    }

    /// Whether there are neither members nor ids that members were given.
    pub(super) fn is_empty(&self) -> bool {
        match self {
            Members::Classic(group) => group.is_empty(),
            Members::Consumer(group) => group.is_empty(),
        }
    }

    /// Whether anybody is in.
    pub(super) fn is_occupied(&self) -> bool {
        match self {
            Members::Classic(group) => group.state() != State::Empty,
            Members::Consumer(group) => !group.is_empty(),
        }
    }

    /// What kind of members these are, in the clients' words.
    pub(super) fn protocol_type(&self) -> Option<Str> {
        match self {
            Members::Classic(group) => group.protocol_type().cloned(),
            Members::Consumer(_) => Some(Str::from_static(subscription::CONSUMER)),
        }
    }

    /// How many are in it.
    pub(super) fn count(&self) -> usize {
        match self {
            Members::Classic(group) => group.member_count(),
            Members::Consumer(group) => group.member_count(),
        }
    }

    pub(super) fn state_name(&self) -> &'static str {
        match self {
            Members::Classic(group) => group.state().name(),
            Members::Consumer(group) => group.state_name(),
        }
    }

    /// What they read.
    pub(super) fn subscribed(&self) -> Subscribed {
        match self {
            Members::Classic(group) => group.subscribed().clone(),
            Members::Consumer(group) => Subscribed::To(group.subscribed()),
        }
    }

    /// From when on the group's positions count as forgotten.
    pub(super) fn aging(&self) -> Aging {
        let group = match self {
            Members::Consumer(group) => return Aging::Except(group.subscribed()),
            Members::Classic(group) => group,
        };
        let since: Option<Timestamp> = group.empty_since();
        match (since, group.subscribed()) {
            _ if group.is_simple() => Aging::EachSinceCommitted,
            (Some(since), _) => Aging::Since(since),
            (None, Subscribed::To(read)) if group.state() == State::Stable => Aging::Except(read.clone()),
            (None, _) => Aging::Never,
        }
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        match self {
            Members::Classic(group) => group.next_deadline(),
            Members::Consumer(group) => group.next_deadline(),
        }
    }

    /// Takes back what is stored of members that are all gone; of one that only stored positions nothing is.
    pub(super) fn end(&mut self, id: &Str, around: Around<'_>, effects: &mut Effects) {
        match self {
            Members::Consumer(group) => group.end(around, effects),
            Members::Classic(group) if group.is_simple() => {}
            Members::Classic(group) => {
                effects.before.push(group.record());
                effects.records.push(Record::Group { group: id.clone(), value: None });
            }
        }
        *self = Members::nobody(id, around.now);
    }
}
