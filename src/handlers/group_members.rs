//! JoinGroup, SyncGroup, Heartbeat, LeaveGroup: the life of a member that speaks the classic protocol.

use std::sync::Arc;
use std::time::Duration;

use aquifer_protocol::messages::heartbeat::{HeartbeatRequest, HeartbeatResponse};
use aquifer_protocol::messages::join_group::{JoinGroupRequest, JoinGroupResponse, JoinGroupResponseMember};
use aquifer_protocol::messages::leave_group::{LeaveGroupRequest, LeaveGroupResponse, MemberResponse};
use aquifer_protocol::messages::sync_group::{SyncGroupRequest, SyncGroupResponse};
use aquifer_protocol::{ErrorCode, Str};
use bytes::Bytes;
use uuid::Uuid;

use super::context::Context;
use super::errors;
use crate::groups::classic::{Assignments, Join, Leaving, Profile, Sync};
use crate::groups::effects::Joined;
use crate::groups::error::{GroupError, Unavailable};

/// From here on a first join is answered with an id alone.
const VERSION_KNOWN_ID: i16 = 4;
/// From here on the chosen protocol may be null.
const VERSION_NULL_PROTOCOL: i16 = 7;
/// From here on a leader may be told to leave the assignment as it is.
const VERSION_SKIP_ASSIGNMENT: i16 = 9;
/// From here on a client says what it believes to have agreed on.
const VERSION_SYNC_PROTOCOL: i16 = 5;
/// Bytes of a client's name in its member's id: as many as Kafka's clients allow in the name of an instance.
const ID_PREFIX_BYTES_MAX: usize = 249;
/// From here on many members may leave at once.
const VERSION_MANY_LEAVE: i16 = 3;

/// Who asks, as groups remember it.
#[derive(Debug, Clone)]
pub(crate) struct Caller {
    pub(crate) client_id: Str,
    pub(crate) client_host: Str,
}

/// Lets a member in. The answer waits for the others, and holds nothing of the request meanwhile: what is kept of it was copied,
/// within the limits of members.
pub(crate) fn join(
    context: Arc<Context>,
    request: JoinGroupRequest,
    caller: Caller,
    version: i16,
) -> impl Future<Output = JoinGroupResponse> + Send + 'static {
    let asked_id = request.member_id.detached();
    let group = request.group_id.detached();
    let admitted = admit(&context, &request, &caller).map_err(errors::of_group);
    let prepared = admitted.and_then(|()| {
        let shard = context.groups.shard_of(&group).map_err(|error| errors::of_unavailable(&error))?;
        let join = join_of(&context, request, caller, version).map_err(errors::of_group)?;
        Ok((shard, join))
    });
    async move {
        let refused = |error_code, member_id| JoinGroupResponse {
            error_code,
            member_id,
            protocol_name: (version < VERSION_NULL_PROTOCOL).then_some(Str::EMPTY),
            ..JoinGroupResponse::default()
        };
        let (shard, join) = match prepared {
            Ok(prepared) => prepared,
            Err(error) => return refused(error, asked_id),
        };
        match shard.join(group, join).await {
            Ok(Ok(joined)) => joined_response(joined, version),
            Ok(Err(refusal)) => {
                if refusal.error == GroupError::TooManyGroups {
                    context.groups.metrics().groups_refused.inc();
                }
                refused(errors::of_group(refusal.error), refusal.member_id)
            }
            Err(error) => refused(errors::of_unavailable(&error), asked_id),
        }
    }
}

/// Judges what a member says of itself by its size, before any of it is copied.
fn admit(context: &Context, request: &JoinGroupRequest, caller: &Caller) -> Result<(), GroupError> {
    let JoinGroupRequest { protocol_type, protocols, group_instance_id, member_id, .. } = request;
    let instance = group_instance_id.as_ref().map_or(0, |instance| instance.len());
    let names = protocol_type.len() + instance + member_id.len() + caller.client_id.len();
    let offered = protocols.iter().map(|protocol| protocol.name.len() + protocol.metadata.len());
    let admitted = context.groups.member_limits().admit(protocols.len(), names + offered.sum::<usize>());
    if admitted.is_err() {
        context.groups.metrics().members_refused.inc();
    }
    admitted
}

fn join_of(
    context: &Context,
    request: JoinGroupRequest,
    caller: Caller,
    version: i16,
) -> Result<Join, GroupError> {
    let said = request.protocols.iter();
    let said = said.flat_map(|protocol| [&protocol.name.as_bytes()[..], &protocol.metadata[..]]);
    let mut kept = context.groups.memory().keep(said).inspect_err(|_| {
        context.groups.metrics().members_refused.inc();
    })?;
    let instance = request.group_instance_id.map(|instance| instance.detached());
    let name = instance.as_ref().unwrap_or(&caller.client_id);
    let session_timeout = millis(request.session_timeout_ms);
    let rebalance_timeout = match request.rebalance_timeout_ms {
        // Version 0 has one time for both.
        -1 => session_timeout,
        timeout => millis(timeout),
    };
    let protocols = request.protocols.iter();
    Ok(Join {
        member_id: request.member_id.detached(),
        fresh_id: fresh_id(name, context.world.rng.uuid()),
        protocol_type: request.protocol_type.detached(),
        profile: Profile {
            client_id: caller.client_id,
            client_host: caller.client_host,
            rebalance_timeout,
            session_timeout,
            protocols: protocols
                .map(|protocol| (kept.take_text(&protocol.name), kept.take(protocol.metadata.len())))
                .collect(),
        },
        needs_known_id: version >= VERSION_KNOWN_ID,
        may_skip_assignment: version >= VERSION_SKIP_ASSIGNMENT,
        instance,
    })
}

/// Kafka's form of a member's id. Of a name that could make it too long for a string only the beginning is taken: what tells ids
/// apart is the other half.
fn fresh_id(name: &str, unique: Uuid) -> Str {
    let mut end = name.len().min(ID_PREFIX_BYTES_MAX);
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    Str::from(format!("{}-{unique}", &name[..end]))
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

/// Tells a member what it is to read. The answer waits for the leader, and holds nothing of the request meanwhile.
pub(crate) fn sync(
    context: Arc<Context>,
    request: SyncGroupRequest,
    version: i16,
) -> impl Future<Output = SyncGroupResponse> + Send + 'static {
    let group = request.group_id.detached();
    let says_protocol = request.protocol_type.is_some() && request.protocol_name.is_some();
    let is_complete = version < VERSION_SYNC_PROTOCOL || says_protocol;
    let sync = is_complete.then(|| sync_of(&context, request));
    async move {
        let refused = |error_code| SyncGroupResponse { error_code, ..SyncGroupResponse::default() };
        let Some(sync) = sync else { return refused(errors::of_group(GroupError::InconsistentProtocol)) };
        let shard = match context.groups.shard_of(&group) {
            Ok(shard) => shard,
            Err(error) => return refused(errors::of_unavailable(&error)),
        };
        match shard.sync(group, sync).await {
            Ok(Ok(synced)) => SyncGroupResponse {
                protocol_type: synced.protocol_type,
                protocol_name: synced.protocol,
                assignment: synced.assignment,
                ..SyncGroupResponse::default()
            },
            Ok(Err(error)) => {
                if error == GroupError::GroupTooLarge {
                    context.groups.metrics().records_refused.inc();
                }
                refused(errors::of_group(error))
            }
            Err(error) => refused(errors::of_unavailable(&error)),
        }
    }
}

fn sync_of(context: &Context, request: SyncGroupRequest) -> Sync {
    let handed_in = request.assignments.iter().map(|one| one.member_id.len() + one.assignment.len());
    let fits = handed_in.sum::<usize>() <= context.groups.batch_bytes_max(&request.group_id);
    let assignments = request.assignments.iter();
    let copied = assignments.map(|one| (one.member_id.detached(), Bytes::copy_from_slice(&one.assignment)));
    Sync {
        assignments: if fits { Assignments::Given(copied.collect()) } else { Assignments::TooLarge },
        member_id: request.member_id.detached(),
        instance: request.group_instance_id.map(|instance| instance.detached()),
        generation: request.generation_id,
        protocol_type: request.protocol_type.map(|kind| kind.detached()),
        protocol: request.protocol_name.map(|name| name.detached()),
    }
}

/// A member is alive.
pub(crate) async fn heartbeat(context: Arc<Context>, request: HeartbeatRequest) -> HeartbeatResponse {
    let answer = |error_code| HeartbeatResponse { error_code, ..HeartbeatResponse::default() };
    let shard = match context.groups.shard_of(&request.group_id) {
        Ok(shard) => shard,
        Err(error) => return answer(errors::of_unavailable(&error)),
    };
    let heard = shard.ask(move |book, now, effects| {
        let HeartbeatRequest { group_id, generation_id, member_id, group_instance_id } = &request;
        book.heartbeat(group_id, member_id, group_instance_id.as_ref(), *generation_id, now, effects)
    });
    match heard.await {
        // Its session does not run while its group is read: it is as good as heard of, and need not look for another coordinator.
        Err(Unavailable::Loading) => answer(ErrorCode::NONE),
        heard => answer(errors::of_answer(heard)),
    }
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

fn millis(millis: i32) -> Duration {
    Duration::from_millis(u64::try_from(millis).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_members_id_is_never_too_long_for_a_record() {
        let unique = Uuid::from_u128(7);
        assert_eq!(fresh_id("me", unique), format!("me-{unique}").as_str());
        for name in ["a".repeat(32_767), "\u{e4}".repeat(16_000)] {
            let id = fresh_id(&name, unique);
            assert!(id.len() <= ID_PREFIX_BYTES_MAX + 37, "{} bytes", id.len());
            assert!(id.ends_with(&unique.to_string()));
        }
    }
}
