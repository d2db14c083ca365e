//! A proxy as slow as S3, for HTTP/1.1: each answer's first byte comes no sooner than so many milliseconds after its request,
//! and its body no faster than so many MB/s; answers on several connections do not slow each other down.
//!
//! It can be told, on its own port: `POST /-/pause` (answers wait), `/-/resume`, `/-/cut` (connections are closed, new ones
//! too), and `GET /-/stats` (what passed through, as JSON). No bucket can be called `-`.

use crate::flags::Flags;
use crate::messages::{Body, Head, PIECE_BYTES, pieces, relay};
use crate::plain_gets::Made;
use anyhow::{Context, Result};
use rustix::pipe::SpliceFlags;
use std::collections::BTreeMap;
use std::io::{self, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

/// Holds a piece whose packets fill its pages badly.
const PIPE_BYTES: usize = 1 << 20;
const PAUSE_POLL: Duration = Duration::from_millis(10);

/// Runs until it is killed.
pub(crate) fn main(mut flags: Flags) -> Result<()> {
    let listen: String = flags.take("listen", "127.0.0.1:9001".to_owned())?;
    let upstream = flags.need("upstream")?;
    let first_byte = Duration::from_millis(flags.take("first-byte-ms", 30)?);
    let rate_mb = flags.take("rate-mb", 90.0)?;
    flags.end()?;
    let listener = TcpListener::bind(&listen).with_context(|| format!("listening on {listen}"))?;
    println!("slow-proxy: {listen} -> {upstream}, first byte after {first_byte:?}, {rate_mb} MB/s an answer");
    serve(&listener, &Arc::new(Proxy::new(upstream, first_byte, rate_mb)))
}

/// A proxy in this process, on a port of its own, for as long as the process lives.
pub(crate) fn spawn(upstream: &str, first_byte: Duration, rate_mb: f64) -> Result<(Arc<Proxy>, String)> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?.to_string();
    let proxy = Arc::new(Proxy::new(upstream.to_owned(), first_byte, rate_mb));
    let serving = proxy.clone();
    thread::spawn(move || {
        if let Err(error) = serve(&listener, &serving) {
            eprintln!("slow-proxy: {error:#}");
        }
    });
    Ok((proxy, address))
}

fn serve(listener: &TcpListener, proxy: &Arc<Proxy>) -> Result<()> {
    for client in listener.incoming() {
        let (client, proxy) = (client.context("accepting")?, proxy.clone());
        thread::spawn(move || {
            // A peer that hangs up is no news; what it did not get, it will ask for again.
            if let Err(error) = proxy.connection(client)
                && error.kind() == io::ErrorKind::InvalidData
            {
                eprintln!("slow-proxy: {error}");
            }
        });
    }
    Ok(())
}

const RUN: u8 = 0;
const PAUSE: u8 = 1;
const CUT: u8 = 2;

#[derive(Debug)]
pub(crate) struct Proxy {
    upstream: String,
    first_byte: Duration,
    bytes_per_second: f64,
    state: AtomicU8,
    body_bytes: AtomicU64,
    requests: Mutex<BTreeMap<String, u64>>,
    /// The GETs since they were last asked for.
    gets: Mutex<Vec<Made>>,
}

impl Proxy {
    fn new(upstream: String, first_byte: Duration, rate_mb: f64) -> Proxy {
        Proxy {
            upstream,
            first_byte,
            bytes_per_second: rate_mb * 1e6,
            state: AtomicU8::new(RUN),
            body_bytes: AtomicU64::new(0),
            requests: Mutex::default(),
            gets: Mutex::default(),
        }
    }

    /// How many requests of a method passed through until now.
    pub(crate) fn requests(&self, method: &str) -> u64 {
        let requests = self.requests.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        requests.get(method).copied().unwrap_or_default()
    }

    /// Bytes of answers' bodies until now.
    pub(crate) fn answer_bytes(&self) -> u64 {
        self.body_bytes.load(Ordering::Relaxed)
    }

    /// The GETs that passed since this was last asked.
    pub(crate) fn take_gets(&self) -> Vec<Made> {
        std::mem::take(&mut self.gets.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
    }

    /// From now on requests and answers wait, or go on.
    pub(crate) fn pause(&self, pause: bool) {
        self.state.store(if pause { PAUSE } else { RUN }, Ordering::Relaxed);
    }

    fn connection(&self, client: TcpStream) -> io::Result<()> {
        client.set_nodelay(true)?;
        let mut from_client = BufReader::with_capacity(PIECE_BYTES, client.try_clone()?);
        let mut to_client = client;
        let mut upstream: Option<(BufReader<TcpStream>, TcpStream)> = None;
        loop {
            let Some(request) = Head::read(&mut from_client)? else { return Ok(()) };
            if request.target().starts_with("/-/") {
                self.told(request.target(), &mut to_client)?;
                continue;
            }
            self.wait()?;
            if upstream.as_ref().is_some_and(|(_, stream)| is_closed(stream)) {
                upstream = None;
            }
            if upstream.is_none() {
                let stream = TcpStream::connect(&self.upstream)?;
                stream.set_nodelay(true)?;
                upstream = Some((BufReader::with_capacity(PIECE_BYTES, stream.try_clone()?), stream));
            }
            let (from_upstream, to_upstream) = upstream.as_mut().expect("connected above");
            self.count(&request);
            to_upstream.write_all(request.bytes())?;
            if request.has("expect", "100-continue") {
                // The client waits for a word before it sends its body. We say it: the store is not asked twice.
                to_client.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
            }
            relay(request.request_body()?, &mut from_client, to_upstream, &mut |_| Ok(()))?;
            let asked = Instant::now();
            if !self.answer(&request, asked, from_upstream, &mut to_client)? {
                return Ok(());
            }
        }
    }

    /// Passes one answer on, at our pace. False: the connection is not to be used again.
    fn answer(
        &self,
        request: &Head,
        asked: Instant,
        from: &mut BufReader<TcpStream>,
        to: &mut TcpStream,
    ) -> io::Result<bool> {
        let head = loop {
            let head = Head::read(from)?.ok_or(io::ErrorKind::UnexpectedEof)?;
            if !head.is_interim() {
                break head;
            }
        };
        let body = head.answer_body(request)?;
        sleep_until(asked + self.first_byte);
        self.wait()?;
        to.write_all(head.bytes())?;
        let (start, mut sent) = (Instant::now(), 0u64);
        let mut passed = |bytes: usize| {
            self.wait()?;
            self.body_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
            sent += bytes as u64;
            sleep_until(start + Duration::from_secs_f64(sent as f64 / self.bytes_per_second));
            Ok(())
        };
        match body {
            Body::Bytes(bytes) if bytes > PIECE_BYTES as u64 => splice(bytes, from, to, &mut passed)?,
            body => relay(body, from, to, &mut passed)?,
        }
        Ok(body != Body::UntilClosed
            && !head.has("connection", "close")
            && !request.has("connection", "close"))
    }

    /// Holds while paused; fails while cut.
    fn wait(&self) -> io::Result<()> {
        loop {
            match self.state.load(Ordering::Relaxed) {
                RUN => return Ok(()),
                CUT => return Err(io::ErrorKind::ConnectionAborted.into()),
                _ => thread::sleep(PAUSE_POLL),
            }
        }
    }

    fn count(&self, request: &Head) {
        let mut requests = self.requests.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        *requests.entry(request.method().to_owned()).or_default() += 1;
        if request.method() == "GET" {
            let (target, range) = (request.target().to_owned(), request.header("range").map(str::to_owned));
            let made = Made { at: Instant::now(), target, range };
            self.gets.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(made);
        }
    }

    fn told(&self, target: &str, to: &mut TcpStream) -> io::Result<()> {
        let (status, body) = match target {
            "/-/pause" => self.turn(PAUSE),
            "/-/resume" => self.turn(RUN),
            "/-/cut" => self.turn(CUT),
            "/-/stats" => {
                let requests =
                    self.requests.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone();
                let bytes = self.body_bytes.load(Ordering::Relaxed);
                (
                    "200 OK",
                    serde_json::json!({ "answer_body_bytes": bytes, "requests": requests }).to_string(),
                )
            }
            _ => ("404 Not Found", "pause, resume, cut or stats".to_owned()),
        };
        write!(to, "HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{body}", body.len())
    }

    fn turn(&self, state: u8) -> (&'static str, String) {
        self.state.store(state, Ordering::Relaxed);
        ("200 OK", String::new())
    }
}

/// Whether the store has hung up on a connection that was long unused: a client that was connected to it itself would know.
fn is_closed(stream: &TcpStream) -> bool {
    let peeked = stream.set_nonblocking(true).and_then(|()| stream.peek(&mut [0]));
    let is_open = peeked.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock);
    !is_open || stream.set_nonblocking(false).is_err()
}

fn sleep_until(then: Instant) {
    thread::sleep(then.saturating_duration_since(Instant::now()));
}

/// Copies so many bytes inside the kernel: what this costs is taken from whom the proxy serves, who shares its processors.
fn splice(
    bytes: u64,
    from: &mut BufReader<TcpStream>,
    to: &mut TcpStream,
    passed: &mut impl FnMut(usize) -> io::Result<()>,
) -> io::Result<()> {
    let buffered = from.buffer().len() as u64;
    pieces(buffered, from, to, passed)?;
    let (pipe_out, pipe_in) = rustix::pipe::pipe()?;
    rustix::pipe::fcntl_setpipe_size(&pipe_in, PIPE_BYTES)?;
    let mut left = bytes - buffered;
    while left > 0 {
        let want = PIECE_BYTES.min(usize::try_from(left).unwrap_or(usize::MAX));
        let count = rustix::pipe::splice(from.get_ref(), None, &pipe_in, None, want, SpliceFlags::MOVE)?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let mut inside = count;
        while inside > 0 {
            inside -= rustix::pipe::splice(&pipe_out, None, &mut *to, None, inside, SpliceFlags::MOVE)?;
        }
        left -= count as u64;
        passed(count)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    /// A server that gives the same answer to every request on a connection.
    fn upstream(answer: &'static [u8]) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("bound").to_string();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.expect("accepted");
                thread::spawn(move || {
                    let mut from = BufReader::new(stream.try_clone().expect("cloned"));
                    while let Ok(Some(head)) = Head::read(&mut from) {
                        let body = head.request_body().expect("a length");
                        relay(body, &mut from, &mut io::sink(), &mut |_| Ok(())).expect("a body");
                        stream.write_all(answer).expect("sent");
                    }
                });
            }
        });
        address
    }

    fn proxied(answer: &'static [u8], first_byte_ms: u64, rate_mb: f64) -> TcpStream {
        let proxy = spawn(&upstream(answer), Duration::from_millis(first_byte_ms), rate_mb);
        TcpStream::connect(proxy.expect("a proxy").1).expect("connected")
    }

    fn ask(stream: &mut TcpStream, request: &str, answer_bytes: usize) -> String {
        stream.write_all(request.as_bytes()).expect("sent");
        let mut answer = vec![0; answer_bytes];
        stream.read_exact(&mut answer).expect("answered");
        String::from_utf8(answer).expect("text")
    }

    #[test]
    fn an_answer_is_late_and_paced_and_the_connection_goes_on() {
        const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
        let mut stream = proxied(ANSWER, 60, 0.000_1);
        for _ in 0..2 {
            let start = Instant::now();
            assert!(
                ask(&mut stream, "PUT /b/k HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc", ANSWER.len())
                    .ends_with("hello")
            );
            assert!(
                start.elapsed() >= Duration::from_millis(60),
                "the first byte waits: {:?}",
                start.elapsed()
            );
            // 5 bytes at 100 bytes a second; the pace is kept after the last piece, so the next answer shows it.
        }
        stream.write_all(b"GET /-/stats HTTP/1.1\r\nConnection: close\r\n\r\n").expect("sent");
        stream.shutdown(std::net::Shutdown::Write).expect("shut");
        let mut stats = String::new();
        stream.read_to_string(&mut stats).expect("answered");
        assert!(stats.contains("\"answer_body_bytes\":10") && stats.contains("{\"PUT\":2}"), "{stats}");
    }

    #[test]
    fn chunks_pass_as_they_are_and_a_cut_ends_the_connection() {
        const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n";
        let mut stream = proxied(ANSWER, 0, 1000.0);
        assert_eq!(ask(&mut stream, "GET /b/k HTTP/1.1\r\n\r\n", ANSWER.len()).as_bytes(), ANSWER);
        ask(&mut stream, "POST /-/cut HTTP/1.1\r\n\r\n", 38);
        stream.write_all(b"GET /b/k HTTP/1.1\r\n\r\n").expect("sent");
        assert_eq!(stream.read(&mut [0; 1]).unwrap_or(0), 0, "closed");
    }
}
