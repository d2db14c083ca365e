//! JoinGroup, SyncGroup, Heartbeat, LeaveGroup: the life of a member of a classic group.

use std::sync::Arc;
use std::time::Duration;

use aquifer_protocol::messages::heartbeat::{HeartbeatRequest, HeartbeatResponse};
use aquifer_protocol::messages::join_group::{JoinGroupRequest, JoinGroupResponse, JoinGroupResponseMember};
use aquifer_protocol::messages::leave_group::{LeaveGroupRequest, LeaveGroupResponse, MemberResponse};
use aquifer_protocol::messages::sync_group::{SyncGroupRequest, SyncGroupResponse};
use aquifer_protocol::{ErrorCode, Str};
use bytes::Bytes;

use super::context::Context;
use super::errors;
use crate::groups::classic::{Join, Leaving, Profile, Sync};
use crate::groups::effects::Joined;
use crate::groups::error::GroupError;

/// From here on a first join is answered with an id alone.
const VERSION_KNOWN_ID: i16 = 4;
/// From here on the chosen protocol may be null.
const VERSION_NULL_PROTOCOL: i16 = 7;
/// From here on a leader may be told to leave the assignment as it is.
const VERSION_SKIP_ASSIGNMENT: i16 = 9;
/// From here on many members may leave at once.
const VERSION_MANY_LEAVE: i16 = 3;

/// What a member's id starts with is for people to read; all of a long name would make an id too long to be stored.
const MEMBER_NAME_BYTES_MAX: usize = 255;

/// Who asks, as groups remember it.
#[derive(Debug, Clone)]
pub(crate) struct Caller {
    pub(crate) client_id: Str,
    pub(crate) client_host: Str,
}

/// Lets a member in. The answer waits for the others.
pub(crate) async fn join(
    context: Arc<Context>,
    request: JoinGroupRequest,
    caller: Caller,
    version: i16,
) -> JoinGroupResponse {
    let asked_id = request.member_id.detached();
    let refused = |error_code, member_id| JoinGroupResponse {
        error_code,
        member_id,
        protocol_name: (version < VERSION_NULL_PROTOCOL).then_some(Str::EMPTY),
        ..JoinGroupResponse::default()
    };
    let shard = match context.groups.shard_of(&request.group_id) {
        Ok(shard) => shard,
        Err(error) => return refused(errors::of_unavailable(&error), asked_id),
    };
    let group = request.group_id.detached();
    let join = join_of(&context, request, caller, version);
    match shard.join(group, join).await {
        Ok(Ok(joined)) => joined_response(joined, version),
        Ok(Err(refusal)) => refused(errors::of_group(refusal.error), refusal.member_id),
        Err(error) => refused(errors::of_unavailable(&error), asked_id),
    }
}

fn join_of(context: &Context, request: JoinGroupRequest, caller: Caller, version: i16) -> Join {
    let instance = request.group_instance_id.map(|instance| instance.detached());
    let name = start_of(instance.as_ref().unwrap_or(&caller.client_id), MEMBER_NAME_BYTES_MAX);
    let session_timeout = millis(request.session_timeout_ms);
    let rebalance_timeout = match request.rebalance_timeout_ms {
        // Version 0 has one time for both.
        -1 => session_timeout,
        timeout => millis(timeout),
    };
    let protocols = request.protocols.iter();
    Join {
        member_id: request.member_id.detached(),
        fresh_id: Str::from(format!("{name}-{}", context.world.rng.uuid())),
        protocol_type: request.protocol_type.detached(),
        profile: Profile {
            client_id: caller.client_id,
            client_host: caller.client_host,
            rebalance_timeout,
            session_timeout,
            protocols: protocols
                .map(|protocol| (protocol.name.detached(), Bytes::copy_from_slice(&protocol.metadata)))
                .collect(),
        },
        needs_known_id: version >= VERSION_KNOWN_ID,
        may_skip_assignment: version >= VERSION_SKIP_ASSIGNMENT,
        instance,
    }
}

fn joined_response(joined: Joined, version: i16) -> JoinGroupResponse {
    let protocol_name = match joined.protocol {
        None if version < VERSION_NULL_PROTOCOL => Some(Str::EMPTY),
        protocol => protocol,
    };
    let members = joined.members.into_iter().map(|member| JoinGroupResponseMember {
        member_id: member.member_id,
        group_instance_id: member.instance,
        metadata: member.metadata,
    });
    JoinGroupResponse {
        generation_id: joined.generation,
        protocol_type: joined.protocol_type,
        protocol_name,
        leader: joined.leader,
        skip_assignment: joined.skip_assignment,
        member_id: joined.member_id,
        members: members.collect(),
        ..JoinGroupResponse::default()
    }
}

/// Tells a member what it is to read. The answer waits for the leader.
pub(crate) async fn sync(context: Arc<Context>, request: SyncGroupRequest) -> SyncGroupResponse {
    let refused = |error_code| SyncGroupResponse { error_code, ..SyncGroupResponse::default() };
    let shard = match context.groups.shard_of(&request.group_id) {
        Ok(shard) => shard,
        Err(error) => return refused(errors::of_unavailable(&error)),
    };
    let assignments = request.assignments.iter();
    let sync = Sync {
        member_id: request.member_id.detached(),
        instance: request.group_instance_id.map(|instance| instance.detached()),
        generation: request.generation_id,
        protocol_type: request.protocol_type.map(|kind| kind.detached()),
        protocol: request.protocol_name.map(|name| name.detached()),
        assignments: assignments
            .map(|one| (one.member_id.detached(), Bytes::copy_from_slice(&one.assignment)))
            .collect(),
    };
    match shard.sync(request.group_id.detached(), sync).await {
        Ok(Ok(synced)) => SyncGroupResponse {
            protocol_type: synced.protocol_type,
            protocol_name: synced.protocol,
            assignment: synced.assignment,
            ..SyncGroupResponse::default()
        },
        Ok(Err(error)) => refused(errors::of_group(error)),
        Err(error) => refused(errors::of_unavailable(&error)),
    }
}

/// A member is alive.
pub(crate) async fn heartbeat(context: Arc<Context>, request: HeartbeatRequest) -> HeartbeatResponse {
    let answer = |error_code| HeartbeatResponse { error_code, ..HeartbeatResponse::default() };
    let shard = match context.groups.shard_of(&request.group_id) {
        Ok(shard) => shard,
        Err(error) => return answer(errors::of_unavailable(&error)),
    };
    let heard = shard.ask(move |book, now, _| {
        let HeartbeatRequest { group_id, generation_id, member_id, group_instance_id } = &request;
        book.heartbeat(group_id, member_id, group_instance_id.as_ref(), *generation_id, now)
    });
    answer(errors::of_answer(heard.await.map(|heard| heard.map(drop))))
}

/// Members go.
pub(crate) async fn leave(
    context: Arc<Context>,
    request: LeaveGroupRequest,
    version: i16,
) -> LeaveGroupResponse {
    let leaving: Vec<Leaving> = if version >= VERSION_MANY_LEAVE {
        let members = request.members.iter();
        members
            .map(|member| Leaving {
                member_id: member.member_id.detached(),
                instance: member.group_instance_id.as_ref().map(Str::detached),
            })
            .collect()
    } else {
        vec![Leaving { member_id: request.member_id.detached(), instance: None }]
    };
    let group = request.group_id.detached();
    let asked = leaving.clone();
    let left = match context.groups.shard_of(&group) {
        Ok(shard) => shard.ask(move |book, now, effects| book.leave(&group, &asked, now, effects)).await,
        Err(error) => Err(error),
    };
    let codes: Vec<ErrorCode> = match left {
        Err(error) => {
            let error_code = errors::of_unavailable(&error);
            return LeaveGroupResponse { error_code, ..LeaveGroupResponse::default() };
        }
        Ok(Err(error @ GroupError::InvalidGroupId)) => {
            return LeaveGroupResponse {
                error_code: errors::of_group(error),
                ..LeaveGroupResponse::default()
            };
        }
        // Of a group that is not there, nobody is a member.
        Ok(Err(error)) => vec![errors::of_group(error); leaving.len()],
        Ok(Ok(left)) => {
            left.into_iter().map(|one| one.map_or_else(errors::of_group, |()| ErrorCode::NONE)).collect()
        }
    };
    if version < VERSION_MANY_LEAVE {
        let error_code = codes.first().copied().unwrap_or(ErrorCode::NONE);
        return LeaveGroupResponse { error_code, ..LeaveGroupResponse::default() };
    }
    let members = leaving.into_iter().zip(codes).map(|(member, error_code)| MemberResponse {
        member_id: member.member_id,
        group_instance_id: member.instance,
        error_code,
    });
    LeaveGroupResponse { members: members.collect(), ..LeaveGroupResponse::default() }
}

/// So many bytes of it, or a few less where a character would be cut.
fn start_of(text: &str, bytes_max: usize) -> &str {
    let end = (0..=bytes_max.min(text.len())).rev().find(|end| text.is_char_boundary(*end));
    &text[..end.unwrap_or(0)]
}

fn millis(millis: i32) -> Duration {
    Duration::from_millis(u64::try_from(millis).unwrap_or(0))
}
