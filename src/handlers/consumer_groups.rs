//! ConsumerGroupHeartbeat and ConsumerGroupDescribe: groups whose coordinator assigns (KIP-848).

use std::collections::BTreeSet;
use std::sync::Arc;

use aquifer_model::TopicId;
use aquifer_protocol::messages::consumer_group_describe::{
    Assignment as DescribedAssignment, ConsumerGroupDescribeRequest, ConsumerGroupDescribeResponse,
    DescribedGroup, Member, TopicPartitions as DescribedPartitions,
};
use aquifer_protocol::messages::consumer_group_heartbeat::{
    AssignedTopicPartitions, Assignment, ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse,
    TopicPartitions,
};
use aquifer_protocol::{ErrorCode, Str};
use aquifer_runtime::tasks::blocking;

use super::context::Context;
use super::errors;
use super::group_members::Caller;
use crate::groups::consumer::{
    AWAY, ConsumerView, Departure, Heartbeat, JOINING, LEAVING, MemberView, Resolved, Stale,
};
use crate::groups::error::{GroupError, Unavailable};
use crate::groups::partitions::Partitions;
use crate::groups::topics::{self, PatternError};
use crate::metadata::Image;
use crate::metadata::features::{GROUP_FEATURE, GROUP_LEVEL, has_consumer_groups};

/// From here on a member chooses its id.
const VERSION_OWN_ID: i16 = 1;
/// Bytes that an id may have: it is in the keys of records, whose strings are short ones.
const ID_BYTES_MAX: usize = 1024;
/// What a member speaks: the classic protocol, or this one.
const MEMBER_TYPE_CLASSIC: i8 = 0;
const MEMBER_TYPE_CONSUMER: i8 = 1;

/// Why a heartbeat has no answer but an error.
#[derive(Debug, thiserror::Error)]
enum Refused {
    #[error(transparent)]
    Group(#[from] GroupError),
    #[error(transparent)]
    Pattern(#[from] PatternError),
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
    #[error(
        "groups whose coordinator assigns are off in this cluster, which was made by a version without them: kafka-features.sh upgrade --feature {GROUP_FEATURE}={GROUP_LEVEL} turns them on"
    )]
    Off,
}

impl Refused {
    fn code(&self) -> ErrorCode {
        match self {
            Refused::Group(error) => errors::of_group(*error),
            Refused::Pattern(error) => errors::of_pattern(error),
            Refused::Unavailable(error) => errors::of_unavailable(error),
            Refused::Off => ErrorCode::UNSUPPORTED_VERSION,
        }
    }
}

/// A member enters, stays, or goes.
pub(crate) async fn heartbeat(
    context: Arc<Context>,
    request: ConsumerGroupHeartbeatRequest,
    caller: Caller,
    version: i16,
) -> ConsumerGroupHeartbeatResponse {
    let answer = match judge(&context, &request, &caller, version) {
        _ if !has_consumer_groups(context.metadata.image().features()) => Err(Refused::Off),
        Ok(()) if request.member_epoch < JOINING => leave(&context, request).await,
        Ok(()) => hear(&context, request, caller).await,
        Err(error) => Err(error.into()),
    };
    answer.unwrap_or_else(|refused| {
        let metrics = context.groups.metrics();
        match refused {
            Refused::Group(GroupError::MemberTooLarge | GroupError::NoMemory) => {
                metrics.members_refused.inc()
            }
            Refused::Group(GroupError::TooManyGroups) => metrics.groups_refused.inc(),
            Refused::Group(GroupError::GroupTooLarge) => metrics.records_refused.inc(),
            Refused::Group(_) | Refused::Pattern(_) | Refused::Unavailable(_) | Refused::Off => 0,
        };
        ConsumerGroupHeartbeatResponse {
            error_code: refused.code(),
            error_message: errors::message(&refused),
            ..ConsumerGroupHeartbeatResponse::default()
        }
    })
}

/// Judges a heartbeat by itself, before any of it is copied.
fn judge(
    context: &Context,
    request: &ConsumerGroupHeartbeatRequest,
    caller: &Caller,
    version: i16,
) -> Result<(), GroupError> {
    let ConsumerGroupHeartbeatRequest {
        group_id,
        member_id,
        member_epoch,
        instance_id,
        rack_id,
        rebalance_timeout_ms,
        ..
    } = request;
    let epoch = *member_epoch;
    let refuse_if = |is_wrong: bool, why: &'static str| {
        if is_wrong { Err(GroupError::InvalidHeartbeat(why)) } else { Ok(()) }
    };
    let is_blank = |text: &Option<Str>| text.as_ref().is_some_and(|text| text.is_empty());
    let needs_id = version >= VERSION_OWN_ID || epoch > JOINING || epoch == LEAVING;
    refuse_if(needs_id && member_id.is_empty(), "the member's id must not be empty")?;
    refuse_if(group_id.is_empty(), "the group's id must not be empty")?;
    refuse_if(is_blank(instance_id), "an instance's id must not be empty")?;
    refuse_if(is_blank(rack_id), "a rack's id must not be empty")?;
    refuse_if(member_id.len() > ID_BYTES_MAX, "the member's id is too long")?;
    if epoch == JOINING {
        let owned = request.topic_partitions.as_ref();
        let subscribes = request.subscribed_topic_names.is_some() || request.subscribed_topic_regex.is_some();
        refuse_if(*rebalance_timeout_ms == -1, "a member that joins says its rebalance timeout")?;
        refuse_if(owned.is_none_or(|owned| !owned.is_empty()), "a member that joins owns no partitions")?;
        refuse_if(!subscribes, "a member that joins says what it subscribes to")?;
    }
    refuse_if(epoch == AWAY && instance_id.is_none(), "only a static member can be away")?;
    refuse_if(epoch < AWAY, "there is no such epoch")?;
    let names = request.subscribed_topic_names.iter().flatten().map(|name| name.len());
    let others = [instance_id, rack_id, &request.subscribed_topic_regex, &request.server_assignor];
    let others = others.into_iter().flatten().map(|text| text.len());
    let said = member_id.len() + caller.client_id.len() + names.sum::<usize>() + others.sum::<usize>();
    context.groups.member_limits().admit(0, said)
}

async fn leave(
    context: &Context,
    request: ConsumerGroupHeartbeatRequest,
) -> Result<ConsumerGroupHeartbeatResponse, Refused> {
    let departure = if request.member_epoch == AWAY { Departure::ForAWhile } else { Departure::ForGood };
    let group = request.group_id.detached();
    let member = request.member_id.detached();
    let instance = request.instance_id.as_ref().map(Str::detached);
    let asked = member.clone();
    let shard = context.groups.shard_of(&group)?;
    shard
        .ask(move |book, now, effects| {
            book.consumer_leave(&group, &asked, instance.as_ref(), departure, now, effects)
        })
        .await??;
    Ok(ConsumerGroupHeartbeatResponse {
        member_id: Some(member),
        member_epoch: request.member_epoch,
        ..ConsumerGroupHeartbeatResponse::default()
    })
}

async fn hear(
    context: &Context,
    request: ConsumerGroupHeartbeatRequest,
    caller: Caller,
) -> Result<ConsumerGroupHeartbeatResponse, Refused> {
    let group = request.group_id.detached();
    let shard = context.groups.shard_of(&group)?;
    let beat = match beat_of(context, &request, caller) {
        Ok(beat) => beat,
        Err(error) if request.member_epoch > JOINING => {
            // There is no room for what it says, but it is alive.
            let (member, epoch) = (request.member_id.detached(), request.member_epoch);
            drop(request);
            shard.ask(move |book, now, _| book.consumer_is_alive(&group, &member, epoch, now)).await?;
            return Err(error.into());
        }
        Err(error) => return Err(error.into()),
    };
    drop(request);
    let member_id = Some(beat.member.clone());
    let asked = group.clone();
    // Some clients name their expression in each heartbeat. What the group knows already needs no look at all topics' names.
    let at_once = shard.ask(move |book, now, effects| match unmatched(&beat) {
        Some(pattern) if !book.knows_pattern(&asked, pattern) => Err(Box::new(beat)),
        _ => Ok(book.consumer_heartbeat(&asked, &beat, now, effects)),
    });
    let heard = match at_once.await? {
        Ok(heard) => heard?,
        Err(mut beat) => {
            if let Some(pattern) = unmatched(&beat).cloned() {
                beat.pattern = Some(resolved(context, pattern, context.metadata.image()).await?);
            }
            let asked = group.clone();
            shard
                .ask(move |book, now, effects| book.consumer_heartbeat(&asked, &beat, now, effects))
                .await??
        }
    };
    let interval = context.groups.heartbeat_interval(&group);
    if let Some(stale) = heard.stale {
        match_again(context, group, stale).await;
    }
    Ok(ConsumerGroupHeartbeatResponse {
        member_id,
        member_epoch: heard.epoch,
        heartbeat_interval_ms: i32::try_from(interval.as_millis()).unwrap_or(i32::MAX),
        assignment: heard.assigned.as_ref().map(assignment),
        ..ConsumerGroupHeartbeatResponse::default()
    })
}

/// What a member says. Its regular expression is matched with nothing yet.
fn beat_of(
    context: &Context,
    request: &ConsumerGroupHeartbeatRequest,
    caller: Caller,
) -> Result<Heartbeat, GroupError> {
    let member = match &request.member_id {
        id if id.is_empty() => Str::from(context.world.rng.uuid().to_string()),
        id => id.detached(),
    };
    let names = request.subscribed_topic_names.as_ref();
    let pattern = request.subscribed_topic_regex.as_ref();
    let said = names.into_iter().flatten().chain(pattern).map(|text| &text.as_bytes()[..]);
    let mut kept = context.groups.memory().keep(said)?;
    // In order, each once.
    let topics = names.map(|names| names.iter().map(|name| kept.take_text(name)).collect::<BTreeSet<Str>>());
    let pattern = pattern.map(|pattern| kept.take_text(pattern));
    Ok(Heartbeat {
        member,
        epoch: request.member_epoch,
        instance: request.instance_id.as_ref().map(Str::detached),
        rack: request.rack_id.as_ref().map(Str::detached),
        rebalance_timeout_ms: Some(request.rebalance_timeout_ms).filter(|timeout| *timeout != -1),
        topics: topics.map(|topics| topics.into_iter().collect()),
        pattern: pattern.map(|pattern| Resolved { pattern, topics: Vec::new() }),
        assignor: request.server_assignor.as_ref().map(Str::detached),
        owned: request.topic_partitions.as_deref().map(partitions_of),
        client_id: caller.client_id,
        client_host: caller.client_host,
    })
}

/// The regular expression of a heartbeat of [`beat_of`], if there is one.
fn unmatched(beat: &Heartbeat) -> Option<&Str> {
    beat.pattern.as_ref().map(|resolved| &resolved.pattern).filter(|pattern| !pattern.is_empty())
}

/// Away from the threads that serve: all topics' names are looked at, by an expression that a stranger may have made to take long.
async fn resolved(context: &Context, pattern: Str, image: Arc<Image>) -> Result<Resolved, PatternError> {
    context.groups.metrics().patterns_matched.inc();
    blocking(move || {
        let topics = topics::matching(&pattern, &image)?;
        Ok(Resolved { pattern, topics })
    })
    .await
}

/// Matches a group's regular expressions with the newest topics.
async fn match_again(context: &Context, group: Str, stale: Stale) {
    let Stale { patterns, version } = stale;
    let image = context.metadata.image();
    let mut all = Vec::with_capacity(patterns.len());
    for pattern in patterns {
        match resolved(context, pattern.clone(), image.clone()).await {
            Ok(resolved) => all.push(resolved),
            // One that a copied topic brought along: it keeps what it matched there.
            Err(error) => {
                tracing::warn!(%group, %pattern, %error, "a stored regular expression cannot be matched");
            }
        }
    }
    let id = group.clone();
    let told = match context.groups.shard_of(&group) {
        Ok(shard) => {
            let told =
                shard.ask(move |book, now, effects| book.consumer_matched(&id, version, all, now, effects));
            told.await
        }
        Err(error) => Err(error),
    };
    if let Err(error) = told {
        // The next heartbeat but a few is told again.
        tracing::debug!(%group, %error, "what a group's regular expressions match cannot be told now");
    }
}

fn partitions_of(topics: &[TopicPartitions]) -> Partitions {
    let all = topics
        .iter()
        .flat_map(|topic| topic.partitions.iter().map(|index| (TopicId::new(topic.topic_id), *index)));
    all.collect()
}

fn assignment(partitions: &Partitions) -> Assignment {
    let topics = partitions.topics().map(|(topic, indexes)| AssignedTopicPartitions {
        topic_id: topic.uuid(),
        partitions: indexes.iter().copied().collect(),
    });
    Assignment { topic_partitions: topics.collect() }
}

/// Tells of groups in full.
pub(crate) async fn describe(
    context: Arc<Context>,
    request: ConsumerGroupDescribeRequest,
) -> ConsumerGroupDescribeResponse {
    let image = context.metadata.image();
    let mut groups = Vec::new();
    let mut named = BTreeSet::new();
    for group_id in request.group_ids.into_iter().filter(|group| named.insert(group.clone())) {
        let group = group_id.detached();
        let found = match context.groups.shard_of(&group) {
            _ if group.is_empty() => Ok(Err(GroupError::InvalidGroupId)),
            Ok(shard) => {
                let view = shard.ask(move |book, _, _| book.describe_consumers(&group)).await;
                view.map(|view| view.ok_or(GroupError::NotFound))
            }
            Err(error) => Err(error),
        };
        let refused = |error_code, why: &dyn std::fmt::Display| DescribedGroup {
            error_code,
            error_message: errors::message(why),
            ..DescribedGroup::default()
        };
        let group = match found {
            Ok(Ok(view)) => described(&image, view),
            Ok(Err(error)) => refused(errors::of_group(error), &error),
            Err(error) => refused(errors::of_unavailable(&error), &error),
        };
        groups.push(DescribedGroup { group_id, ..group });
    }
    ConsumerGroupDescribeResponse { groups, ..ConsumerGroupDescribeResponse::default() }
}

fn described(image: &Image, view: ConsumerView) -> DescribedGroup {
    DescribedGroup {
        group_state: Str::from_static(view.state),
        group_epoch: view.epoch,
        assignment_epoch: view.target_epoch,
        assignor_name: Str::from_static(view.assignor),
        members: view.members.into_iter().map(|member| described_member(image, member)).collect(),
        ..DescribedGroup::default()
    }
}

fn described_member(image: &Image, view: MemberView) -> Member {
    let MemberView { member, epoch, profile, assigned, target } = view;
    Member {
        member_id: member,
        instance_id: profile.instance,
        rack_id: profile.rack,
        member_epoch: epoch,
        client_id: profile.client_id,
        client_host: profile.client_host,
        subscribed_topic_names: profile.topics,
        subscribed_topic_regex: profile.pattern,
        assignment: described_partitions(image, &assigned),
        target_assignment: described_partitions(image, &target),
        member_type: if profile.classic.is_some() { MEMBER_TYPE_CLASSIC } else { MEMBER_TYPE_CONSUMER },
    }
}

/// Topics that are no more are left out: they have no name.
fn described_partitions(image: &Image, partitions: &Partitions) -> DescribedAssignment {
    let topics = partitions.topics().filter_map(|(topic, indexes)| {
        let name = image.topic(topic)?.name.as_str();
        Some(DescribedPartitions {
            topic_id: topic.uuid(),
            topic_name: Str::from(name),
            partitions: indexes.iter().copied().collect(),
        })
    });
    DescribedAssignment { topic_partitions: topics.collect() }
}
