//! The way to other nodes of the metadata quorum: there is none yet.
//!
//! A cluster of one voter sends nothing. A node that has others among its members says of each that it cannot be reached, and
//! why, so it neither elects itself nor commits anything: the safe side of Raft.

use std::future::Future;

use bytes::Bytes;
use openraft::alias::{SnapshotOf, VoteOf};
use openraft::errors::{RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::RPCOption;
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, VoteRequest, VoteResponse,
};
use openraft::{EmptyNode, OptionalSend, RaftNetworkFactory, RaftNetworkV2};

use super::types::Types;

/// Makes [`Unconnected`] peers.
#[derive(Debug, Default)]
pub(crate) struct NoTransport;

impl RaftNetworkFactory<Types> for NoTransport {
    type Network = Unconnected;

    async fn new_client(&mut self, target: u64, _node: &EmptyNode) -> Unconnected {
        Unconnected { target }
    }
}

/// A node that cannot be reached.
#[derive(Debug)]
pub(crate) struct Unconnected {
    target: u64,
}

impl Unconnected {
    fn unreachable(&self) -> Unreachable<Types> {
        Unreachable::from_string(format!("no transport to raft node {} is configured", self.target))
    }
}

impl RaftNetworkV2<Types> for Unconnected {
    type SnapshotData = Bytes;

    async fn append_entries(
        &mut self,
        _rpc: AppendEntriesRequest<Types>,
        _option: RPCOption,
    ) -> Result<AppendEntriesResponse<Types>, RPCError<Types>> {
        Err(self.unreachable().into())
    }

    async fn vote(
        &mut self,
        _rpc: VoteRequest<Types>,
        _option: RPCOption,
    ) -> Result<VoteResponse<Types>, RPCError<Types>> {
        Err(self.unreachable().into())
    }

    /// The default would grant it.
    async fn pre_vote(
        &mut self,
        _rpc: VoteRequest<Types>,
        _option: RPCOption,
    ) -> Result<VoteResponse<Types>, RPCError<Types>> {
        Err(self.unreachable().into())
    }

    async fn full_snapshot(
        &mut self,
        _vote: VoteOf<Types>,
        _snapshot: SnapshotOf<Types, Bytes>,
        _cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<Types>, StreamingError<Types>> {
        Err(self.unreachable().into())
    }
}
