//! A connection to a broker, with many requests in flight.
//!
//! Two tasks own the socket, one writes and one reads; callers share them through a bounded queue and find their answers by
//! correlation id. Requests leave in the order in which [`Peer::send`] was called, and a broker answers in order, so that
//! whoever needs order has it without waiting.
//!
//! A connection fails as a whole: on the first error, on an answer that nobody waits for and on the first call that waits too
//! long, it is closed, all calls in flight fail, and a new one must be made. Whether such a call has had its effect is unknown.

use std::collections::{BTreeMap, HashMap};
use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::Duration;

use aquifer_model::ByteCount;
use aquifer_protocol::messages::api_versions::{ApiVersionsRequest, ApiVersionsResponse};
use aquifer_protocol::{
    ApiKey, DecodeError, EncodeError, ErrorCode, Message, Request, Segments, Str, VersionRange, frame,
};
use aquifer_runtime::clock::Clock;
use aquifer_runtime::sockets::{self, Stream};
use aquifer_runtime::tasks::TaskGroup;
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::io::AsyncRead;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::config::Endpoint;
use crate::net::frame::FrameReader;
use crate::net::write::{Wire, write_pieces};
use crate::net::write_turns::WriteTurns;

/// How a connection behaves.
#[derive(Debug, Clone)]
pub struct PeerOptions {
    /// Told to the broker with each request.
    pub client_id: Str,
    /// How long connecting and agreeing on versions may take.
    pub connect_timeout: Duration,
    /// How long a call waits for its answer, unless it says otherwise.
    pub call_timeout: Duration,
    /// Largest answer accepted.
    pub frame_bytes_max: ByteCount,
    /// Requests that wait to be written; more callers wait their turn.
    pub queue_max: usize,
}

impl Default for PeerOptions {
    fn default() -> PeerOptions {
        PeerOptions {
            client_id: Str::from_static("aquifer"),
            connect_timeout: Duration::from_secs(10),
            call_timeout: Duration::from_secs(40),
            frame_bytes_max: ByteCount::mib(256),
            queue_max: 64,
        }
    }
}

/// Why there is no connection. Another address, or later, may do.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// No such host, nobody listens, no route.
    #[error("cannot connect to {address}: {error}")]
    Io {
        /// Where to.
        address: Endpoint,
        /// What the machine said.
        error: std::io::Error,
    },
    /// Nobody answered.
    #[error("cannot connect to {address}: no answer within {waited:?}")]
    Timeout {
        /// Where to.
        address: Endpoint,
        /// For how long.
        waited: Duration,
    },
    /// Somebody listens who is no Kafka broker.
    #[error("{address} does not answer as a Kafka broker: {why}")]
    Handshake {
        /// Where.
        address: Endpoint,
        /// What happened instead.
        why: String,
    },
}

/// Why a call has no answer.
#[derive(Debug, Clone, thiserror::Error)]
pub enum CallError {
    /// The broker has no version of it that we have. It did not happen, here it never will.
    #[error("{address} does not support {api}")]
    Unsupported {
        /// Who.
        address: Endpoint,
        /// What.
        api: ApiKey,
    },
    /// The request cannot be written in the version agreed on. It did not happen.
    #[error("cannot write {api} for {address}: {error}")]
    Encode {
        /// To whom.
        address: Endpoint,
        /// What.
        api: ApiKey,
        /// Why.
        error: EncodeError,
    },
    /// The connection closed first. It may have happened.
    #[error("connection to {address} closed: {why}")]
    Closed {
        /// To whom.
        address: Endpoint,
        /// Why.
        why: Arc<str>,
    },
    /// No answer in time; the connection is closed. It may have happened.
    #[error("{address} did not answer {api} within {waited:?}")]
    Timeout {
        /// Who.
        address: Endpoint,
        /// What.
        api: ApiKey,
        /// For how long.
        waited: Duration,
    },
    /// The answer makes no sense; it happened.
    #[error("{address} answered {api} with something else: {error}")]
    Decode {
        /// Who.
        address: Endpoint,
        /// What.
        api: ApiKey,
        /// Why.
        error: DecodeError,
    },
}

impl CallError {
    /// Whether another connection may do better.
    pub fn is_of_connection(&self) -> bool {
        matches!(self, CallError::Closed { .. } | CallError::Timeout { .. })
    }
}

/// A connection. Cheap to clone; closes when the last clone and the last answer are dropped.
#[derive(Debug, Clone)]
pub struct Peer(Arc<Connection>);

#[derive(Debug)]
struct Connection {
    link: Arc<Link>,
    versions: BTreeMap<i16, VersionRange>,
}

/// What callers and the two tasks share.
#[derive(Debug)]
struct Link {
    address: Endpoint,
    options: PeerOptions,
    outgoing: mpsc::Sender<Segments>,
    correlation_id: AtomicI32,
    waiting: Mutex<Waiting>,
    end: CancellationToken,
}

#[derive(Debug)]
enum Waiting {
    Open(HashMap<i32, oneshot::Sender<Bytes>>),
    Closed(Arc<str>),
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.link.close("no longer needed");
    }
}

impl Peer {
    /// Connects and learns which versions the broker speaks.
    pub async fn connect(
        address: &Endpoint,
        options: PeerOptions,
        tasks: &TaskGroup,
    ) -> Result<Peer, ConnectError> {
        let waited = options.connect_timeout;
        let connecting = Peer::connect_unbounded(address, options, tasks);
        let timeout = |_| ConnectError::Timeout { address: address.clone(), waited };
        tokio::time::timeout(waited, connecting).await.map_err(timeout)?
    }

    async fn connect_unbounded(
        address: &Endpoint,
        options: PeerOptions,
        tasks: &TaskGroup,
    ) -> Result<Peer, ConnectError> {
        let io = |error| ConnectError::Io { address: address.clone(), error };
        let stream = Stream::connect((address.host.as_str(), address.port)).await.map_err(io)?;
        sockets::configure(&stream).map_err(io)?;
        let (outgoing, queue) = mpsc::channel(options.queue_max);
        let link = Arc::new(Link {
            address: address.clone(),
            options,
            outgoing,
            correlation_id: AtomicI32::new(0),
            waiting: Mutex::new(Waiting::Open(HashMap::new())),
            end: tasks.cancelled().child_token(),
        });
        let (reader, writer) = stream.into_split();
        tasks.spawn("peer-writer", write_all(link.clone(), queue, writer));
        tasks.spawn("peer-reader", read_all(link.clone(), reader));
        // From here on the tasks end with the connection, whose drop closes the link.
        let mut connection = Connection { link, versions: BTreeMap::new() };
        let refused = |why: String| ConnectError::Handshake { address: address.clone(), why };
        connection.versions = connection.link.agree().await.map_err(refused)?;
        Ok(Peer(Arc::new(connection)))
    }

    /// Where it leads.
    pub fn address(&self) -> &Endpoint {
        &self.0.link.address
    }

    /// Whether it is of no further use.
    pub fn is_closed(&self) -> bool {
        matches!(*self.0.link.waiting.lock(), Waiting::Closed(_))
    }

    /// The version that requests of this kind go out in: the newest that both sides have.
    pub fn version<R: Request>(&self) -> Result<i16, CallError> {
        let theirs = self.0.versions.get(&R::KEY.code());
        let common = theirs.and_then(|theirs| theirs.intersection(R::VERSIONS));
        let unsupported = || CallError::Unsupported { address: self.address().clone(), api: R::KEY };
        common.map(|common| common.max).ok_or_else(unsupported)
    }

    /// Sends a request and waits for its answer.
    pub async fn call<R: Request>(&self, request: &R) -> Result<R::Response, CallError> {
        self.send(request).await?.within(self.0.link.options.call_timeout).await
    }

    /// Sends a request; its answer is waited for later.
    pub async fn send<R: Request>(&self, request: &R) -> Result<Answer<R>, CallError> {
        let version = self.version::<R>()?;
        let (tell, told) = oneshot::channel();
        self.0.link.send(request, version, Some(tell)).await?;
        Ok(Answer { connection: self.0.clone(), version, told, request: PhantomData })
    }

    /// Sends a request that is not answered: Produce with `acks=0`.
    pub async fn tell<R: Request>(&self, request: &R) -> Result<(), CallError> {
        let version = self.version::<R>()?;
        self.0.link.send(request, version, None).await
    }
}

/// An answer on its way.
#[derive(Debug)]
#[must_use = "an answer must be waited for, or its error is lost"]
pub struct Answer<R> {
    connection: Arc<Connection>,
    version: i16,
    told: oneshot::Receiver<Bytes>,
    request: PhantomData<fn() -> R>,
}

impl<R: Request> Answer<R> {
    /// Waits for it; too long a wait closes the connection, since what else is in flight on it waits behind this answer.
    pub async fn within(self, patience: Duration) -> Result<R::Response, CallError> {
        let link = &self.connection.link;
        let (address, api) = (link.address.clone(), R::KEY);
        let body = match tokio::time::timeout(patience, self.told).await {
            Ok(Ok(body)) => body,
            Ok(Err(_)) => return Err(CallError::Closed { address, why: link.why_closed() }),
            Err(_) => {
                link.close("an answer took too long");
                return Err(CallError::Timeout { address, api, waited: patience });
            }
        };
        let decoded = frame::decode_response::<R>(body, self.version);
        decoded.map_err(|error| CallError::Decode { address, api, error })
    }
}

impl Link {
    async fn send<R: Request>(
        &self,
        request: &R,
        version: i16,
        tell: Option<oneshot::Sender<Bytes>>,
    ) -> Result<(), CallError> {
        let id = self.correlation_id.fetch_add(1, Ordering::Relaxed);
        let encoded = frame::encode_request(request, version, id, Some(self.options.client_id.clone()));
        let unwritable = |error| CallError::Encode { address: self.address.clone(), api: R::KEY, error };
        let frame = encoded.map_err(unwritable)?;
        let closed = |why| CallError::Closed { address: self.address.clone(), why };
        // Room first: between the id's entry and its frame nothing may be cancelled.
        let room = self.outgoing.reserve().await.map_err(|_| closed(self.why_closed()))?;
        if let Some(tell) = tell {
            match &mut *self.waiting.lock() {
                Waiting::Open(waiting) => drop(waiting.insert(id, tell)),
                Waiting::Closed(why) => return Err(closed(why.clone())),
            }
        }
        room.send(frame);
        Ok(())
    }

    /// Asks for the versions that the broker has. One that does not know our newest way to ask says so in the oldest way to
    /// answer, and names the ways that it knows; one that fails to is asked in the oldest way.
    async fn agree(&self) -> Result<BTreeMap<i16, VersionRange>, String> {
        let mut version = ApiVersionsRequest::VERSIONS.max;
        loop {
            let body = self.ask_versions(version).await?;
            // Correlation id, then the error code, in every version.
            let is_refused = body.get(4..6) == Some(&ErrorCode::UNSUPPORTED_VERSION.code().to_be_bytes());
            if is_refused && version > 0 {
                let known =
                    frame::decode_response::<ApiVersionsRequest>(body, 0).map(|answer| ranges(&answer));
                let newest = known
                    .ok()
                    .and_then(|known| known.get(&ApiKey::ApiVersions.code()).map(|range| range.max));
                version = newest.unwrap_or(0).clamp(0, version - 1);
                continue;
            }
            let answer = frame::decode_response::<ApiVersionsRequest>(body, version);
            let answer = answer.map_err(|error| error.to_string())?;
            return match answer.error_code {
                ErrorCode::NONE => Ok(ranges(&answer)),
                error => Err(error.to_string()),
            };
        }
    }

    async fn ask_versions(&self, version: i16) -> Result<Bytes, String> {
        let request = ApiVersionsRequest {
            client_software_name: Str::from_static("aquifer"),
            client_software_version: Str::from_static(env!("CARGO_PKG_VERSION")),
        };
        let (tell, told) = oneshot::channel();
        self.send(&request, version, Some(tell)).await.map_err(|error| error.to_string())?;
        told.await.map_err(|_| self.why_closed().to_string())
    }

    fn close(&self, why: &str) {
        let mut waiting = self.waiting.lock();
        if matches!(*waiting, Waiting::Open(_)) {
            // Whoever waits learns of it by the drop of their sender.
            *waiting = Waiting::Closed(Arc::from(why));
        }
        drop(waiting);
        self.end.cancel();
    }

    fn why_closed(&self) -> Arc<str> {
        match &*self.waiting.lock() {
            Waiting::Open(_) => Arc::from("it is being closed"),
            Waiting::Closed(why) => why.clone(),
        }
    }
}

fn ranges(answer: &ApiVersionsResponse) -> BTreeMap<i16, VersionRange> {
    let range = |min, max| VersionRange { min, max };
    answer.api_keys.iter().map(|api| (api.api_key, range(api.min_version, api.max_version))).collect()
}

async fn write_all(link: Arc<Link>, mut queue: mpsc::Receiver<Segments>, mut wire: impl Wire) {
    // It has nobody to take turns with.
    let (stall_max, turns) = (link.options.call_timeout, WriteTurns::new(1, Clock::system()));
    let writing = async {
        while let Some(frame) = queue.recv().await {
            if let Err(error) = write_pieces(&mut wire, frame.pieces(), stall_max, &turns).await {
                return error.to_string();
            }
        }
        "no longer needed".to_owned()
    };
    tokio::select! {
        why = writing => link.close(&why),
        () = link.end.cancelled() => link.close("stopping"),
    }
}

async fn read_all(link: Arc<Link>, stream: impl AsyncRead + Unpin) {
    let mut frames = FrameReader::new(stream);
    let bytes_max = usize::try_from(link.options.frame_bytes_max.get()).unwrap_or(usize::MAX);
    let reading = async {
        loop {
            let body = match frames.frame(bytes_max).await {
                Ok(Some(body)) => body,
                Ok(None) => return "the broker closed it".to_owned(),
                Err(error) => return error.to_string(),
            };
            let Ok(id) = frame::correlation_id(&body) else {
                return "an answer is too short to be one".to_owned();
            };
            let tell = match &mut *link.waiting.lock() {
                Waiting::Open(waiting) => waiting.remove(&id),
                Waiting::Closed(_) => None,
            };
            match tell {
                // A caller that went away needs no answer.
                Some(tell) => drop(tell.send(body)),
                None => return format!("an answer came to request {id}, which nobody made"),
            }
        }
    };
    tokio::select! {
        why = reading => link.close(&why),
        () = link.end.cancelled() => link.close("stopping"),
    }
}
