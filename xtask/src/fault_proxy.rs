//! A proxy that fails as stores do, between a broker and a real one: before the deed, after it, half-way, by saying what is not so,
//! and minutes late.
//!
//! For each request a seed decides whether something goes wrong, and what of all that can go wrong with such a request. What is
//! passed on to the store is always what the client has signed; what the store says of a request that came late is counted.
//! It can also be told to hold writes until it is told to let them go ([`FaultProxy::hold`]).

use crate::messages::{Body, Head, PIECE_BYTES, relay};
use anyhow::Result;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use socket2::SockRef;
use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

/// Longer than any client waits for an answer that does not come.
const SILENCE_MAX: Duration = Duration::from_secs(120);
/// The longest that a delayed answer is delayed by.
const DELAY_MAX: Duration = Duration::from_secs(3);

/// Readers ask more often than writers, and what goes wrong with them does less harm.
const READS_LESS: u32 = 4;

/// What goes wrong with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Fault {
    /// The connection is reset, and nothing was passed on.
    Refused,
    /// Half of its body reaches the store, and both connections end.
    CutBody,
    /// Nothing was passed on; the answer is 500.
    InternalError,
    /// Nothing was passed on; the answer is 503.
    SlowDown,
    /// Nothing was passed on; the answer says that another one is under way (409).
    Conflict,
    /// It was done, and the answer says that the key is taken (412): a retry below met its own write.
    OwnExists,
    /// It was done, and the connection is reset.
    Unanswered,
    /// It was done, and nobody says a word.
    Silent,
    /// Fewer bytes come than the answer's head promises, and the connection ends.
    ShortBody,
    /// It was done, and the answer comes some seconds later.
    Delayed,
    /// Nobody says a word, and it is done some time later.
    Late,
}

const FAULTS: [Fault; 11] = [
    Fault::Refused,
    Fault::CutBody,
    Fault::InternalError,
    Fault::SlowDown,
    Fault::Conflict,
    Fault::OwnExists,
    Fault::Unanswered,
    Fault::Silent,
    Fault::ShortBody,
    Fault::Delayed,
    Fault::Late,
];

/// What a request asks for, in S3's terms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Operation {
    Create,
    Put,
    Begin,
    Part,
    Complete,
    Abort,
    Delete,
    List,
    Get,
    Head,
}

impl Operation {
    fn of(head: &Head) -> Operation {
        let (_, query) = head.target().split_once('?').unwrap_or_default();
        let asks = |name: &str| query.split('&').any(|pair| pair.split('=').next() == Some(name));
        match head.method() {
            "PUT" if asks("partNumber") => Operation::Part,
            "PUT" if head.header("if-none-match").is_some() => Operation::Create,
            "PUT" => Operation::Put,
            "POST" if asks("uploads") => Operation::Begin,
            "POST" if asks("uploadId") => Operation::Complete,
            "DELETE" if asks("uploadId") => Operation::Abort,
            "POST" | "DELETE" => Operation::Delete,
            "HEAD" => Operation::Head,
            _ if asks("list-type") || asks("uploads") || asks("lifecycle") => Operation::List,
            _ => Operation::Get,
        }
    }

    fn writes(self) -> bool {
        !matches!(self, Operation::List | Operation::Get | Operation::Head)
    }
}

impl Fault {
    fn fits(self, operation: Operation, body: &[u8]) -> bool {
        match self {
            Fault::CutBody => operation.writes() && body.len() > 1,
            Fault::Conflict => matches!(operation, Operation::Create | Operation::Complete),
            Fault::OwnExists => operation == Operation::Create,
            Fault::ShortBody => matches!(operation, Operation::Get | Operation::List),
            Fault::Late => operation.writes(),
            Fault::Refused
            | Fault::InternalError
            | Fault::SlowDown
            | Fault::Unanswered
            | Fault::Silent
            | Fault::Delayed => true,
        }
    }
}

/// A request, whole.
#[derive(Debug)]
struct Request {
    head: Head,
    body: Vec<u8>,
    operation: Operation,
}

impl Request {
    fn read(from: &mut BufReader<TcpStream>, to: &mut TcpStream) -> io::Result<Option<Request>> {
        let Some(head) = Head::read(from)? else { return Ok(None) };
        if head.has("expect", "100-continue") {
            to.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        }
        let mut body = Vec::new();
        relay(head.request_body()?, from, &mut body, &mut |_| Ok(()))?;
        let operation = Operation::of(&head);
        Ok(Some(Request { head, body, operation }))
    }

    /// Asks the store, over a connection of its own.
    fn ask(&self, upstream: &str) -> io::Result<Answer> {
        let mut to = TcpStream::connect(upstream)?;
        to.set_nodelay(true)?;
        let mut from = BufReader::with_capacity(PIECE_BYTES, to.try_clone()?);
        to.write_all(self.head.bytes())?;
        to.write_all(&self.body)?;
        let head = loop {
            let head = Head::read(&mut from)?.ok_or(io::ErrorKind::UnexpectedEof)?;
            if !head.is_interim() {
                break head;
            }
        };
        let kind = head.answer_body(&self.head)?;
        let mut body = Vec::new();
        relay(kind, &mut from, &mut body, &mut |_| Ok(()))?;
        Ok(Answer { head, body, is_last: kind == Body::UntilClosed })
    }

    /// Sends half of its body to the store, and hangs up.
    fn ask_half(&self, upstream: &str) -> io::Result<()> {
        let mut to = TcpStream::connect(upstream)?;
        to.write_all(self.head.bytes())?;
        to.write_all(&self.body[..self.body.len() / 2])
    }
}

#[derive(Debug)]
struct Answer {
    head: Head,
    body: Vec<u8>,
    /// Its end shows only by the end of the connection.
    is_last: bool,
}

impl Answer {
    fn status(&self) -> &str {
        self.head.target()
    }
}

/// What went wrong so far.
#[derive(Debug, Clone, Default)]
pub(crate) struct Counts {
    faults: BTreeMap<(Fault, Operation), u64>,
    requests: BTreeMap<Operation, u64>,
    /// What the store said of those that came late, by status.
    late: BTreeMap<String, u64>,
}

impl Counts {
    /// All faults.
    pub(crate) fn faults(&self) -> u64 {
        self.faults.values().sum()
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let requests: u64 = self.requests.values().sum();
        writeln!(f, "{} faults in {requests} requests", self.faults())?;
        for fault in FAULTS {
            let of = self.faults.iter().filter(|((kind, _), _)| *kind == fault);
            let by: Vec<String> =
                of.clone().map(|((_, operation), count)| format!("{operation:?} {count}")).collect();
            let sum: u64 = of.map(|(_, count)| count).sum();
            writeln!(f, "{:<14} {sum:>6}  {}", format!("{fault:?}"), by.join(", "))?;
        }
        let late: Vec<String> = self.late.iter().map(|(status, count)| format!("{status} {count}")).collect();
        write!(f, "came late and were answered {}", late.join(", "))
    }
}

#[derive(Debug)]
struct State {
    rng: StdRng,
    /// In thousandths of writes.
    share: u32,
    counts: Counts,
    /// Taken, and to be done later by themselves.
    late: usize,
    /// Such writes wait to be let go.
    hold: Option<Hold>,
    held: Vec<Request>,
}

/// The proxy, in this process, for as long as the process lives.
#[derive(Debug)]
pub(crate) struct FaultProxy {
    upstream: String,
    late_max: Duration,
    state: Mutex<State>,
}

impl FaultProxy {
    /// On a port of its own, whose address it gives. Nothing goes wrong yet.
    pub(crate) fn spawn(upstream: &str, seed: u64, late_max: Duration) -> Result<(Arc<FaultProxy>, String)> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?.to_string();
        let state = State {
            rng: StdRng::seed_from_u64(seed),
            share: 0,
            counts: Counts::default(),
            late: 0,
            hold: None,
            held: Vec::new(),
        };
        let proxy =
            Arc::new(FaultProxy { upstream: upstream.to_owned(), late_max, state: Mutex::new(state) });
        let serving = proxy.clone();
        thread::spawn(move || {
            for client in listener.incoming().map_while(io::Result::ok) {
                let proxy = serving.clone();
                thread::spawn(move || {
                    // A peer that hangs up is no news: here it is what everything is about.
                    if let Err(error) = proxy.connection(client)
                        && error.kind() == io::ErrorKind::InvalidData
                    {
                        eprintln!("fault-proxy: {error}");
                    }
                });
            }
        });
        Ok((proxy, address))
    }

    /// From now on so many thousandths of the writes go wrong, and of the reads so many times fewer.
    pub(crate) fn set_share(&self, thousandths: u32) {
        self.state().share = thousandths;
    }

    /// What was asked and what went wrong so far.
    pub(crate) fn counts(&self) -> Counts {
        self.state().counts.clone()
    }

    /// How many requests are still to be done.
    pub(crate) fn late(&self) -> usize {
        self.state().late
    }

    /// From now on such writes are taken and neither done nor answered, until [`FaultProxy::let_go`].
    pub(crate) fn hold(&self, which: Hold) {
        self.state().hold = Some(which);
    }

    /// How many writes it holds.
    pub(crate) fn held(&self) -> usize {
        self.state().held.len()
    }

    /// Lets new writes pass again; those held stay so.
    pub(crate) fn pass(&self) {
        self.state().hold = None;
    }

    /// Does what was held, in its order. Gives what the store said to each.
    pub(crate) fn let_go(&self) -> Vec<String> {
        let held = std::mem::take(&mut self.state().held);
        held.iter().map(|request| self.deliver(request)).collect()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn connection(self: &Arc<FaultProxy>, client: TcpStream) -> io::Result<()> {
        client.set_nodelay(true)?;
        let mut from = BufReader::with_capacity(PIECE_BYTES, client.try_clone()?);
        let mut to = client;
        while let Some(request) = Request::read(&mut from, &mut to)? {
            let closes = request.head.has("connection", "close");
            let goes_on = match self.take(request) {
                Taken::Held => return wait_for_end(&mut from),
                Taken::Well(request) => self.answer(&request, Duration::ZERO, &mut to)?,
                Taken::Wrong(fault, request) => self.fail(fault, request, &mut from, &mut to)?,
            };
            if !goes_on || closes {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Decides what becomes of a request.
    fn take(&self, request: Request) -> Taken {
        let mut state = self.state();
        *state.counts.requests.entry(request.operation).or_default() += 1;
        if state.hold.is_some_and(|hold| hold.fits(request.operation)) {
            state.held.push(request);
            return Taken::Held;
        }
        let share = if request.operation.writes() { state.share } else { state.share / READS_LESS };
        if state.rng.random_range(0..1_000) >= share {
            return Taken::Well(request);
        }
        let fitting: Vec<Fault> =
            FAULTS.into_iter().filter(|fault| fault.fits(request.operation, &request.body)).collect();
        let fault = fitting[state.rng.random_range(0..fitting.len())];
        *state.counts.faults.entry((fault, request.operation)).or_default() += 1;
        Taken::Wrong(fault, request)
    }

    /// Gives whether the connection may be used again.
    fn answer(&self, request: &Request, after: Duration, to: &mut TcpStream) -> io::Result<bool> {
        let answer = request.ask(&self.upstream)?;
        thread::sleep(after);
        to.write_all(answer.head.bytes())?;
        to.write_all(&answer.body)?;
        Ok(!answer.is_last && !answer.head.has("connection", "close"))
    }

    fn fail(
        self: &Arc<FaultProxy>,
        fault: Fault,
        request: Request,
        from: &mut BufReader<TcpStream>,
        to: &mut TcpStream,
    ) -> io::Result<bool> {
        match fault {
            Fault::Refused => reset(to)?,
            Fault::CutBody => {
                request.ask_half(&self.upstream)?;
                reset(to)?;
            }
            Fault::InternalError => say(to, &request, "500 Internal Server Error", "InternalError")?,
            Fault::SlowDown => say(to, &request, "503 Slow Down", "SlowDown")?,
            Fault::Conflict => say(to, &request, "409 Conflict", "ConditionalRequestConflict")?,
            Fault::OwnExists => {
                let answer = request.ask(&self.upstream)?;
                // What the store refused was no write of its own.
                if answer.status() == "200" || answer.status() == "412" {
                    say(to, &request, "412 Precondition Failed", "PreconditionFailed")?;
                } else {
                    reset(to)?;
                }
            }
            Fault::Unanswered => {
                request.ask(&self.upstream)?;
                reset(to)?;
            }
            Fault::Silent => {
                request.ask(&self.upstream)?;
                wait_for_end(from)?;
            }
            Fault::ShortBody => {
                let answer = request.ask(&self.upstream)?;
                to.write_all(answer.head.bytes())?;
                to.write_all(&answer.body[..answer.body.len() / 2])?;
                reset(to)?;
            }
            Fault::Delayed => {
                let delay = self.state().rng.random_range(0..DELAY_MAX.as_millis() as u64);
                return self.answer(&request, Duration::from_millis(delay), to);
            }
            Fault::Late => {
                self.deliver_later(request);
                wait_for_end(from)?;
            }
        }
        Ok(false)
    }

    fn deliver_later(self: &Arc<FaultProxy>, request: Request) {
        let after = {
            let mut state = self.state();
            state.late += 1;
            let longest = u64::try_from(self.late_max.as_millis()).unwrap_or(u64::MAX).max(1);
            Duration::from_millis(state.rng.random_range(0..longest))
        };
        let proxy = self.clone();
        thread::spawn(move || {
            thread::sleep(after);
            proxy.deliver(&request);
            proxy.state().late -= 1;
        });
    }

    fn deliver(&self, request: &Request) -> String {
        let said = match request.ask(&self.upstream) {
            Ok(answer) => answer.status().to_owned(),
            Err(error) => error.kind().to_string(),
        };
        *self.state().counts.late.entry(said.clone()).or_default() += 1;
        said
    }
}

/// Which writes to hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hold {
    /// Those of keys that nobody else writes: objects.
    Puts,
    /// Those of keys that must be free: manifests.
    Creates,
    /// Removals.
    Deletes,
}

impl Hold {
    fn fits(self, operation: Operation) -> bool {
        match self {
            Hold::Puts => matches!(operation, Operation::Put | Operation::Part),
            Hold::Creates => operation == Operation::Create,
            Hold::Deletes => operation == Operation::Delete,
        }
    }
}

/// What becomes of a request.
enum Taken {
    Held,
    Well(Request),
    Wrong(Fault, Request),
}

/// An answer that the store never gave.
fn say(to: &mut TcpStream, request: &Request, status: &str, code: &str) -> io::Result<()> {
    let body = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?><Error><Code>{code}</Code><Message>of a proxy's making</Message></Error>"
    );
    let shown = if request.operation == Operation::Head { "" } else { &body };
    let length = body.len();
    write!(
        to,
        "HTTP/1.1 {status}\r\nContent-Type: application/xml\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{shown}"
    )
}

/// The connection is reset once both ends of it here are dropped.
fn reset(client: &TcpStream) -> io::Result<()> {
    SockRef::from(client).set_linger(Some(Duration::ZERO))
}

/// Says nothing until the client has enough of it.
fn wait_for_end(from: &mut BufReader<TcpStream>) -> io::Result<()> {
    from.get_ref().set_read_timeout(Some(SILENCE_MAX))?;
    io::copy(&mut from.take(u64::MAX), &mut io::sink()).map(drop)
}

#[cfg(test)]
mod tests;
