//! ListGroups, DescribeGroups, DeleteGroups: what operators see of groups, and how they end them.

use std::collections::HashSet;
use std::sync::Arc;

use aquifer_protocol::messages::delete_groups::{
    DeletableGroupResult, DeleteGroupsRequest, DeleteGroupsResponse,
};
use aquifer_protocol::messages::describe_groups::{
    DescribeGroupsRequest, DescribeGroupsResponse, DescribedGroup, DescribedGroupMember,
};
use aquifer_protocol::messages::list_groups::{ListGroupsRequest, ListGroupsResponse, ListedGroup};
use aquifer_protocol::{ErrorCode, Str};

use super::context::Context;
use super::errors;
use crate::groups::classic::View;
use crate::groups::error::Unavailable;
use crate::groups::members::Kind;

/// From here on a group that is not there has an error.
const VERSION_NOT_FOUND: i16 = 6;
/// Kafka's word for a group that is not there.
const STATE_DEAD: &str = "Dead";

/// Lists the groups that this broker coordinates.
pub(crate) async fn list(context: Arc<Context>, request: ListGroupsRequest) -> ListGroupsResponse {
    let passes = |filter: &[Str], word: &str| {
        filter.is_empty() || filter.iter().any(|wanted| wanted.eq_ignore_ascii_case(word))
    };
    let mut response = ListGroupsResponse::default();
    for shard in context.groups.shards() {
        match shard.ask(|book, _, _| book.list()).await {
            Ok(listed) => {
                let wanted = listed.into_iter().filter(|group| {
                    passes(&request.states_filter, group.state)
                        && passes(&request.types_filter, type_name(group.kind))
                });
                response.groups.extend(wanted.map(|group| ListedGroup {
                    group_id: group.group,
                    protocol_type: group.protocol_type,
                    group_state: Str::from_static(group.state),
                    group_type: Str::from_static(type_name(group.kind)),
                }));
            }
            // Another broker's by now; its answer has them.
            Err(Unavailable::NotCoordinator) => {}
            Err(error) => response.error_code = errors::of_unavailable(&error),
        }
    }
    response
}

/// Kafka's word for a kind of groups.
fn type_name(kind: Kind) -> &'static str {
    match kind {
        Kind::Classic => "Classic",
        Kind::Consumer => "Consumer",
    }
}

/// Tells of groups in full.
pub(crate) async fn describe(
    context: Arc<Context>,
    request: DescribeGroupsRequest,
    version: i16,
) -> DescribeGroupsResponse {
    let mut groups = Vec::new();
    let mut named = HashSet::new();
    for group_id in request.groups.into_iter().filter(|group| named.insert(group.clone())) {
        let group = group_id.detached();
        let found = match context.groups.shard_of(&group) {
            Ok(shard) => shard.ask(move |book, _, _| book.describe(&group)).await,
            Err(error) => Err(error),
        };
        groups.push(match found {
            Ok(Some(view)) => described(group_id, view),
            Ok(None) => missing(group_id, version),
            Err(error) => DescribedGroup {
                error_code: errors::of_unavailable(&error),
                group_id,
                ..DescribedGroup::default()
            },
        });
    }
    DescribeGroupsResponse { groups, ..DescribeGroupsResponse::default() }
}

fn described(group_id: Str, view: View) -> DescribedGroup {
    let members = view.members.into_iter().map(|member| DescribedGroupMember {
        member_id: member.member_id,
        group_instance_id: member.instance,
        client_id: member.client_id,
        client_host: member.client_host,
        member_metadata: member.metadata,
        member_assignment: member.assignment,
    });
    DescribedGroup {
        group_id,
        group_state: Str::from_static(view.state),
        protocol_type: view.protocol_type,
        protocol_data: view.protocol,
        members: members.collect(),
        ..DescribedGroup::default()
    }
}

fn missing(group_id: Str, version: i16) -> DescribedGroup {
    let mut group = DescribedGroup { group_state: Str::from_static(STATE_DEAD), ..DescribedGroup::default() };
    if version >= VERSION_NOT_FOUND {
        group.error_code = ErrorCode::GROUP_ID_NOT_FOUND;
        group.error_message = errors::message(&format_args!("Group {group_id} not found."));
    }
    group.group_id = group_id;
    group
}

/// Deletes groups that nobody is in.
pub(crate) async fn delete(context: Arc<Context>, request: DeleteGroupsRequest) -> DeleteGroupsResponse {
    let mut results = Vec::with_capacity(request.groups_names.len());
    for group_id in request.groups_names {
        let group = group_id.detached();
        let deleted = match context.groups.shard_of(&group) {
            Ok(shard) => shard.ask(move |book, now, effects| book.delete(&group, now, effects)).await,
            Err(error) => Err(error),
        };
        results.push(DeletableGroupResult { group_id, error_code: errors::of_answer(deleted) });
    }
    DeleteGroupsResponse { results, ..DeleteGroupsResponse::default() }
}
