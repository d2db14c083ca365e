//! From a request's bytes to a handler, and from its answer to bytes.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use aquifer_model::ByteCount;
use aquifer_protocol::frame::{self, HeaderError, RequestHeader, RequestPrefix};
use aquifer_protocol::messages::api_versions::ApiVersionsRequest;
use aquifer_protocol::messages::produce::ProduceRequest;
use aquifer_protocol::{ApiKey, ErrorCode, Message, Reader, Request, Segments, Str, Writer};
use aquifer_runtime::World;
use aquifer_runtime::clock::Clock;
use aquifer_runtime::metrics::{Counter, Family, Histogram, Registry, seconds_buckets};
use bytes::Bytes;
use tokio::time::Instant;

use super::ended::Ended;
use super::meter::timed;
use crate::handlers::answer_memory::Held;
use crate::handlers::context::Context;
use crate::handlers::{
    alter_configs, cluster, configs, consumer_groups, coordinators, elections, features, fetch,
    group_members, group_offsets, groups, log_dirs, offsets, produce, producer_ids, producers, quorum,
    quotas, scram_credentials, topic_partitions, topics, versions,
};
use crate::net::api;
use crate::quotas::charges::Charges;
use crate::quotas::mutations::{Mutations, Strictness};
use crate::quotas::{ANONYMOUS, Payer, Quotas};

/// Elements of all arrays of a request: five times as many as there may be partitions by default, and some 10 MB once decoded.
const REQUEST_ELEMENTS_MAX: usize = 100_000;

/// An answer of no more bytes may wait until more requests of its client were started; one to a Produce has a hundred.
const SHORT_BYTES_MAX: usize = 4 << 10;

/// An answer on its way; an error ends the connection.
pub(super) type Answer = Pin<Box<dyn Future<Output = Result<Outgoing, Ended>> + Send>>;

/// An answer's bytes, and the memory that is set aside for them until they have left.
#[derive(Debug)]
pub(super) struct Outgoing {
    pub(super) segments: Segments,
    pub(super) memory: Option<Held>,
    /// Until when its client is read no more from (KIP-219).
    pub(super) muted_until: Option<Instant>,
    /// Who pays for the time that it takes to write it, if anyone does.
    pub(super) charges: Option<Arc<Charges>>,
}

impl From<Segments> for Outgoing {
    fn from(segments: Segments) -> Outgoing {
        Outgoing { segments, memory: None, muted_until: None, charges: None }
    }
}

impl Outgoing {
    /// Whether it may leave together with others: no memory is set aside for it, which could be needed by others first, and nobody
    /// pays for the time that it takes to write it.
    fn is_plain(&self) -> bool {
        self.memory.is_none() && self.charges.is_none()
    }

    /// Whether more may be started before it leaves: it is short, and may leave together with what comes behind it.
    pub(super) fn may_wait(&self) -> bool {
        self.is_plain() && self.segments.len() <= SHORT_BYTES_MAX
    }

    /// Whether `next` may leave by the same write.
    pub(super) fn goes_with(&self, next: &Outgoing) -> bool {
        self.is_plain() && next.is_plain()
    }

    /// Takes the answer behind this one along.
    pub(super) fn join(&mut self, next: Outgoing) {
        self.segments.append(next.segments);
        self.muted_until = self.muted_until.max(next.muted_until);
    }

    /// Waits until others need the memory more, and the answer is to be given up.
    pub(super) async fn recalled(&self) {
        match &self.memory {
            Some(memory) => memory.recalled().await,
            None => std::future::pending().await,
        }
    }
}

/// What becomes of a request.
pub(super) enum Reply {
    /// It is not answered.
    None {
        /// Until when its client is read no more from.
        muted_until: Option<Instant>,
    },
    /// Its answer.
    Now(Outgoing),
    /// What it does is done; only its answer waits, and is not asked for before its turn. The next request may start.
    Overlapping {
        answer: Answer,
        /// Until when its client is read no more from.
        muted_until: Option<Instant>,
    },
    /// It is not done before its answer is there.
    Serial(Answer),
    /// The same, of one that may wait for others for minutes, and whose handler has copied what it needs of the request.
    Parked(Answer),
}

/// Starts requests.
#[derive(Debug)]
pub(crate) struct Dispatcher {
    context: Arc<Context>,
    metrics: RequestMetrics,
}

#[derive(Debug, Clone)]
struct RequestMetrics {
    requests: Vec<(ApiKey, Counter, Histogram)>,
    unsupported: Counter,
}

impl RequestMetrics {
    fn new(registry: &mut Registry) -> RequestMetrics {
        let counts: Family<[(&'static str, &'static str); 1], Counter> = Family::default();
        let times: Family<[(&'static str, &'static str); 1], Histogram> =
            Family::new_with_constructor(|| Histogram::new(seconds_buckets()));
        let unsupported = Counter::default();
        let registry = registry.sub_registry_with_prefix("aquifer_server");
        registry.register("requests", "Requests by API", counts.clone());
        registry.register(
            "request_seconds",
            "Time from a request's arrival to its answer, by API",
            times.clone(),
        );
        registry.register(
            "requests_unsupported",
            "Requests of an API or version unknown here",
            unsupported.clone(),
        );
        let row = |api: &api::Api| {
            let label = [("api", api.key.name())];
            (api.key, counts.get_or_create(&label).clone(), times.get_or_create(&label).clone())
        };
        RequestMetrics { requests: api::APIS.iter().map(row).collect(), unsupported }
    }

    fn of(&self, key: ApiKey) -> Option<(&Counter, &Histogram)> {
        self.requests.iter().find(|(known, _, _)| *known == key).map(|(_, count, time)| (count, time))
    }
}

impl Dispatcher {
    pub(crate) fn new(context: Arc<Context>, registry: &mut Registry) -> Dispatcher {
        Dispatcher { context, metrics: RequestMetrics::new(registry) }
    }

    /// The outside world.
    pub(super) fn world(&self) -> &World {
        &self.context.world
    }

    /// How much clients may use.
    pub(super) fn quotas(&self) -> &Quotas {
        &self.context.quotas
    }

    /// Starts the request in `frame`, which `payer` pays for. An error ends the connection: its bytes cannot be made sense of.
    pub(super) async fn start(
        &self,
        frame: Bytes,
        peer: SocketAddr,
        payer: &mut Payer,
    ) -> Result<Reply, Ended> {
        let bytes = ByteCount(frame.len() as u64);
        let mut reader = Reader::new(frame).with_elements_max(REQUEST_ELEMENTS_MAX);
        let header = match RequestHeader::decode(&mut reader) {
            Ok(header) if api::is_served(header.api_key, header.api_version) => header,
            Ok(header) => {
                let prefix = RequestPrefix {
                    api_key: header.api_key.code(),
                    api_version: header.api_version,
                    correlation_id: header.correlation_id,
                };
                return self.unsupported(&prefix, peer);
            }
            Err(HeaderError::UnknownApiKey(prefix) | HeaderError::UnsupportedVersion(prefix)) => {
                return self.unsupported(&prefix, peer);
            }
            Err(HeaderError::Malformed(error)) => return Err(Ended::Request(error.to_string())),
        };
        if let Some((count, _)) = self.metrics.of(header.api_key) {
            count.inc();
        }
        let (context, clock) = (&self.context, self.context.world.clock);
        let charges = context.quotas.of(payer, ANONYMOUS, header.client_id.as_deref(), clock);
        let began = charges.as_ref().map(|_| clock.now());
        let starting = Starting { context, metrics: &self.metrics, bytes, charges, began };
        starting.dispatch(&header, &mut reader, peer).await
    }

    /// Kafka closes the connection on an API or a version that it does not know. Here the client is told, and the connection
    /// lives: the answer is the correlation id and the error code, which is as much as can be said without knowing the message.
    fn unsupported(&self, prefix: &RequestPrefix, peer: SocketAddr) -> Result<Reply, Ended> {
        self.metrics.unsupported.inc();
        let (api_key, version) = (prefix.api_key, prefix.api_version);
        tracing::debug!(%peer, api_key, version, "request of an API or version unknown here");
        if api_key == ApiKey::ApiVersions.code() {
            let answer = frame::encode_response(&versions::unsupported(), 0, prefix.correlation_id);
            return answer
                .map(|answer| Reply::Now(answer.into()))
                .map_err(|error| Ended::Answer(error.to_string()));
        }
        Ok(Reply::Now(refusal(prefix.correlation_id, ErrorCode::UNSUPPORTED_VERSION).into()))
    }
}

/// One request being started.
struct Starting<'a> {
    context: &'a Arc<Context>,
    metrics: &'a RequestMetrics,
    /// Of the frame.
    bytes: ByteCount,
    /// What its client pays, if it has any limit.
    charges: Option<Arc<Charges>>,
    /// When it was started, if anyone pays.
    began: Option<Instant>,
}

/// When a request is paid for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Charged {
    /// Once it is done.
    WhenDone,
    /// It was, and its answer says so.
    Already,
}

impl Starting<'_> {
    async fn dispatch(
        &self,
        header: &RequestHeader,
        reader: &mut Reader,
        peer: SocketAddr,
    ) -> Result<Reply, Ended> {
        let version = header.api_version;
        match header.api_key {
            ApiKey::ApiVersions => {
                let request: ApiVersionsRequest = read(reader, version)?;
                self.now(header, versions::handle(self.context, &request, version))
            }
            ApiKey::Produce => self.produce(header, reader).await,
            ApiKey::Fetch => {
                let request = read(reader, version)?;
                let answer = fetch::handle(self.context.clone(), request, version, self.charges.clone());
                let split = |fetched: fetch::Fetched| (fetched.response, fetched.memory);
                Ok(Reply::Serial(self.answer(header, answer, split, Charged::WhenDone)))
            }
            ApiKey::ListOffsets => {
                self.serial(header, reader, |context, request| offsets::list(context, request, version))
            }
            ApiKey::Metadata => {
                let mutations = self.mutations(Strictness::Incidental);
                self.serial(header, reader, |context, request| {
                    cluster::metadata(context, request, version, mutations)
                })
            }
            ApiKey::CreateTopics => {
                let mutations = self.mutations_since(topics::VERSION_CREATE_STRICT, version);
                self.serial(header, reader, |context, request| topics::create(context, request, mutations))
            }
            ApiKey::DeleteTopics => {
                let mutations = self.mutations_since(topics::VERSION_DELETE_STRICT, version);
                self.serial(header, reader, |context, request| {
                    topics::delete(context, request, version, mutations)
                })
            }
            ApiKey::CreatePartitions => {
                let mutations = self.mutations_since(topics::VERSION_GROW_STRICT, version);
                self.serial(header, reader, |context, request| topics::grow(context, request, mutations))
            }
            ApiKey::DeleteRecords => self.serial(header, reader, offsets::delete_records),
            ApiKey::InitProducerId => self.serial(header, reader, producer_ids::init),
            ApiKey::IncrementalAlterConfigs => self.serial(header, reader, alter_configs::change),
            ApiKey::AlterConfigs => self.serial(header, reader, alter_configs::replace),
            ApiKey::DescribeLogDirs => self.serial(header, reader, log_dirs::describe),
            ApiKey::ElectLeaders => self.serial(header, reader, elections::handle),
            ApiKey::UpdateFeatures => {
                self.serial(header, reader, |context, request| features::update(context, request, version))
            }
            ApiKey::FindCoordinator => {
                self.serial(header, reader, |context, request| coordinators::find(context, request, version))
            }
            ApiKey::JoinGroup => {
                let caller = caller(header, peer);
                self.serve(header, reader, |context, request| {
                    group_members::join(context, request, caller, version)
                })
                .map(Reply::Parked)
            }
            ApiKey::SyncGroup => self
                .serve(header, reader, |context, request| group_members::sync(context, request, version))
                .map(Reply::Parked),
            ApiKey::Heartbeat => self.serial(header, reader, group_members::heartbeat),
            ApiKey::LeaveGroup => self
                .serial(header, reader, |context, request| group_members::leave(context, request, version)),
            ApiKey::OffsetCommit => self
                .serial(header, reader, |context, request| group_offsets::commit(context, request, version)),
            ApiKey::OffsetFetch => self
                .serial(header, reader, |context, request| group_offsets::fetch(context, request, version)),
            ApiKey::OffsetDelete => self.serial(header, reader, group_offsets::delete),
            ApiKey::ListGroups => self.serial(header, reader, groups::list),
            ApiKey::DescribeGroups => {
                self.serial(header, reader, |context, request| groups::describe(context, request, version))
            }
            ApiKey::DeleteGroups => self.serial(header, reader, groups::delete),
            ApiKey::OffsetForLeaderEpoch => {
                let request = read(reader, version)?;
                self.now(header, offsets::epoch_ends(self.context, &request))
            }
            ApiKey::DescribeConfigs => {
                let request = read(reader, version)?;
                self.now(header, configs::describe(self.context, &request))
            }
            ApiKey::ListConfigResources => {
                let request = read(reader, version)?;
                self.now(header, configs::list(self.context, &request, version))
            }
            ApiKey::DescribeQuorum => {
                let request = read(reader, version)?;
                self.now(header, quorum::describe(self.context, &request, version))
            }
            ApiKey::DescribeProducers => {
                let request = read(reader, version)?;
                self.now(header, producers::describe(self.context, &request))
            }
            ApiKey::DescribeTopicPartitions => {
                let request = read(reader, version)?;
                self.now(header, topic_partitions::describe(self.context, &request))
            }
            ApiKey::DescribeClientQuotas => {
                let request = read(reader, version)?;
                self.now(header, quotas::describe(self.context, &request))
            }
            ApiKey::AlterClientQuotas => self.serial(header, reader, quotas::alter),
            ApiKey::DescribeUserScramCredentials => {
                let request = read(reader, version)?;
                self.now(header, scram_credentials::describe(&request))
            }
            ApiKey::DescribeCluster => {
                let request = read(reader, version)?;
                self.now(header, cluster::describe(self.context, &request))
            }
            ApiKey::ConsumerGroupHeartbeat => {
                let caller = caller(header, peer);
                self.serial(header, reader, |context, request| {
                    consumer_groups::heartbeat(context, request, caller, version)
                })
            }
            ApiKey::ConsumerGroupDescribe => self.serial(header, reader, consumer_groups::describe),
            other => unreachable!("{other} is in the table of APIs but has no handler"),
        }
    }

    async fn produce(&self, header: &RequestHeader, reader: &mut Reader) -> Result<Reply, Ended> {
        let request: ProduceRequest = read(reader, header.api_version)?;
        let mut started = produce::start(self.context, request, header.api_version).await;
        let unacknowledged = started.unacknowledged();
        let muted_until = self.charge_produce(&mut started, unacknowledged.is_none());
        match unacknowledged {
            Some(Ok(())) => return Ok(Reply::None { muted_until }),
            Some(Err(words)) => return Err(Ended::UnacknowledgedProduce(words)),
            None => {}
        }
        if started.is_done() {
            let answer = encode(&started.into_response(), header)?;
            return Ok(Reply::Now(Outgoing { muted_until, ..answer }));
        }
        let finish = started.finish(self.context.clone());
        let answer = self.answer(header, finish, |response| (response, None), Charged::Already);
        Ok(Reply::Overlapping { answer, muted_until })
    }

    /// Records count once they are appended, whatever becomes of their acknowledgement; the time only if there is an answer.
    fn charge_produce(&self, started: &mut produce::Started, is_answered: bool) -> Option<Instant> {
        let charges = self.charges.as_ref()?;
        let now = self.context.world.clock.now();
        let mut rest = charges.produce(self.bytes, now);
        if is_answered {
            rest = rest.max(charges.request(self.took(now), now));
        }
        started.throttle(millis(rest));
        (!rest.is_zero()).then(|| now + rest)
    }

    fn mutations_since(&self, strict_since: i16, version: i16) -> Mutations {
        let is_strict = version >= strict_since;
        self.mutations(if is_strict { Strictness::Strict } else { Strictness::Permissive })
    }

    fn mutations(&self, strictness: Strictness) -> Mutations {
        Mutations::new(self.charges.clone(), strictness)
    }

    /// How long it was worked on until now, if anyone pays.
    fn took(&self, now: Instant) -> Duration {
        self.began.map_or(Duration::ZERO, |began| now.saturating_duration_since(began))
    }

    /// The answer of one that is done.
    fn now<M: Message>(&self, header: &RequestHeader, mut response: M) -> Result<Reply, Ended> {
        let clock = self.context.world.clock;
        let took = self.began.map_or(Duration::ZERO, |_| self.took(clock.now()));
        let muted_until = charge(self.charges.as_deref(), took, &mut response, clock);
        Ok(Reply::Now(Outgoing { muted_until, ..encode(&response, header)? }))
    }

    fn serial<R, F>(
        &self,
        header: &RequestHeader,
        reader: &mut Reader,
        handle: impl FnOnce(Arc<Context>, R) -> F,
    ) -> Result<Reply, Ended>
    where
        R: Request,
        R::Response: Send,
        F: Future<Output = R::Response> + Send + 'static,
    {
        self.serve(header, reader, handle).map(Reply::Serial)
    }

    fn serve<R, F>(
        &self,
        header: &RequestHeader,
        reader: &mut Reader,
        handle: impl FnOnce(Arc<Context>, R) -> F,
    ) -> Result<Answer, Ended>
    where
        R: Request,
        R::Response: Send,
        F: Future<Output = R::Response> + Send + 'static,
    {
        let request: R = read(reader, header.api_version)?;
        let answer = handle(self.context.clone(), request);
        Ok(self.answer(header, answer, |response| (response, None), Charged::WhenDone))
    }

    /// `split` parts what a handler gives into the response and the memory set aside for it.
    fn answer<T, M: Message + Send>(
        &self,
        header: &RequestHeader,
        answer: impl Future<Output = T> + Send + 'static,
        split: impl FnOnce(T) -> (M, Option<Held>) + Send + 'static,
        charged: Charged,
    ) -> Answer {
        let clock = self.context.world.clock;
        let began = clock.now();
        let started_in = self.took(began);
        let charges = self.charges.clone();
        let timing = charges.clone().filter(|charges| charges.times_requests());
        let time = self.metrics.of(header.api_key).map(|(_, time)| time.clone());
        // The client's name is a piece of the request, which would stay whole for it.
        let header = RequestHeader { client_id: None, ..*header };
        Box::pin(async move {
            let (answered, took) = match &timing {
                Some(_) => timed(clock, answer).await,
                None => (answer.await, Duration::ZERO),
            };
            let (mut response, memory) = split(answered);
            let muted_until = match (charged, &timing) {
                (Charged::WhenDone, _) => charge(charges.as_deref(), started_in + took, &mut response, clock),
                (Charged::Already, Some(charges)) => {
                    charges.note_request(took, clock.now());
                    None
                }
                (Charged::Already, None) => None,
            };
            if let Some(time) = time {
                time.observe(clock.now().duration_since(began).as_secs_f64());
            }
            Ok(Outgoing { memory, muted_until, charges: timing, ..encode(&response, &header)? })
        })
    }
}

/// Who asks, as groups remember it; Kafka writes addresses so.
fn caller(header: &RequestHeader, peer: SocketAddr) -> group_members::Caller {
    group_members::Caller {
        client_id: header.client_id.as_ref().map_or(Str::EMPTY, Str::detached),
        client_host: Str::from(format!("/{}", peer.ip())),
    }
}

/// Has the client pay for a request that took a thread for so long, and says in its answer how long it rests: for this, and for
/// what its handler has found. Gives until when nothing more is read from it.
fn charge<M: Message>(
    charges: Option<&Charges>,
    took: Duration,
    response: &mut M,
    clock: Clock,
) -> Option<Instant> {
    let rest = match charges {
        Some(charges) if charges.times_requests() => millis(charges.request(took, clock.now())),
        Some(_) | None => 0,
    };
    let rest = match response.throttle_time_ms() {
        Some(told) => {
            *told = rest.max(*told);
            *told
        }
        None => rest,
    };
    let rest = u64::try_from(rest).unwrap_or(0);
    (rest > 0).then(|| clock.now() + Duration::from_millis(rest))
}

fn millis(rest: Duration) -> i32 {
    i32::try_from(rest.as_millis()).unwrap_or(i32::MAX)
}

fn refusal(correlation_id: i32, code: ErrorCode) -> Segments {
    let mut writer = Writer::frame();
    writer.i32(correlation_id);
    writer.i16(code.code());
    writer.finish().expect("six bytes fit into a frame")
}

/// Bytes behind the message are let pass, as Kafka does: librdkafka up to 2.16 at least, when it asks for all topics by Metadata
/// 9 or newer, keeps the four bytes that it set aside for a count of one, and so sends three more than it means to.
fn read<M: Message>(reader: &mut Reader, version: i16) -> Result<M, Ended> {
    M::decode(reader, version)
        .map_err(|error: aquifer_protocol::DecodeError| Ended::Request(format!("{}: {error}", M::NAME)))
}

fn encode<M: Message>(response: &M, header: &RequestHeader) -> Result<Outgoing, Ended> {
    let encoded = frame::encode_response(response, header.api_version, header.correlation_id);
    encoded
        .map(Outgoing::from)
        .map_err(|error| Ended::Answer(format!("{} version {}: {error}", header.api_key, header.api_version)))
}
