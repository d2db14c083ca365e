//! Where attackers meet the broker: connections from an address of their own, requests, and a pace.
//!
//! An attacker expects to be cut off: an error of its socket is the broker's defence, and is counted, not told.

use crate::plain_client;
use anyhow::{Context, Result};
use aquifer_protocol::frame::encode_request;
use aquifer_protocol::{Request, Str};
use bytes::Bytes;
use socket2::{Domain, SockAddr, Socket, Type};
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::sleep;
use std::time::Duration;

/// How long an attacker waits for the broker before it tries something else.
const PATIENCE: Duration = Duration::from_secs(5);
/// How soon an attacker notices that all is over.
const NOTICE: Duration = Duration::from_millis(100);
/// Attackers give way to broker and good client: this is about limits, not about who gets the processor.
const NICENESS: i32 = 15;

/// The broker, and whether the attack goes on.
#[derive(Debug)]
pub(super) struct Ground {
    broker: SocketAddr,
    over: AtomicBool,
}

/// One attacker: an address, and what became of its efforts.
#[derive(Debug)]
pub(super) struct Attacker<'a> {
    ground: &'a Ground,
    address: Ipv4Addr,
    blows: AtomicU64,
    rebuffs: AtomicU64,
}

impl Ground {
    pub(super) fn new(bootstrap: &str) -> Result<Ground> {
        let broker = bootstrap.parse().with_context(|| format!("{bootstrap} is no address"))?;
        Ok(Ground { broker, over: AtomicBool::new(false) })
    }

    /// Every attacker comes from a loopback address of its own, and none from the good client's.
    pub(super) fn attacker(&self, number: u8) -> Attacker<'_> {
        let address = Ipv4Addr::new(127, 0, 1, number);
        Attacker { ground: self, address, blows: AtomicU64::new(0), rebuffs: AtomicU64::new(0) }
    }

    pub(super) fn end(&self) {
        self.over.store(true, Ordering::SeqCst);
    }

    fn is_over(&self) -> bool {
        self.over.load(Ordering::SeqCst)
    }
}

impl Attacker<'_> {
    /// Lowers the priority of this thread.
    pub(super) fn give_way(&self) -> Result<()> {
        rustix::process::setpriority_process(None, NICENESS).context("lowering an attacker's priority")
    }

    /// Waits; whether to go on then.
    pub(super) fn goes_on_after(&self, pause: Duration) -> bool {
        let mut left = pause;
        while !left.is_zero() && !self.ground.is_over() {
            let step = left.min(NOTICE);
            sleep(step);
            left -= step;
        }
        !self.ground.is_over()
    }

    /// What it did, and how often the broker would have none of it.
    pub(super) fn tally(&self) -> (u64, u64) {
        (self.blows.load(Ordering::Relaxed), self.rebuffs.load(Ordering::Relaxed))
    }

    fn count<T>(&self, done: io::Result<T>) -> Option<T> {
        self.blows.fetch_add(1, Ordering::Relaxed);
        match done {
            Ok(done) => Some(done),
            Err(_) => {
                self.rebuff();
                None
            }
        }
    }

    pub(super) fn rebuff(&self) {
        self.rebuffs.fetch_add(1, Ordering::Relaxed);
    }

    /// A connection, if the broker takes one.
    pub(super) fn connect(&self) -> Option<TcpStream> {
        let connect = || -> io::Result<TcpStream> {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
            socket.bind(&SockAddr::from(SocketAddr::from((self.address, 0))))?;
            socket.connect_timeout(&SockAddr::from(self.ground.broker), PATIENCE)?;
            socket.set_read_timeout(Some(PATIENCE))?;
            socket.set_write_timeout(Some(PATIENCE))?;
            socket.set_tcp_nodelay(true)?;
            Ok(socket.into())
        };
        self.count(connect())
    }

    /// Closes by a reset, as a machine that crashed does.
    pub(super) fn reset(&self, stream: TcpStream) {
        // One that the broker has closed already cannot be reset, which is as well.
        drop(Socket::from(stream).set_linger(Some(Duration::ZERO)));
    }

    /// Sends these bytes; whether the broker took them.
    pub(super) fn send(&self, stream: &mut TcpStream, bytes: &[u8]) -> bool {
        self.count(stream.write_all(bytes)).is_some()
    }

    /// Reads at most so much; `None` once the broker has closed.
    pub(super) fn sip(&self, stream: &mut TcpStream, bytes_max: usize) -> Option<usize> {
        let mut bytes = vec![0; bytes_max];
        self.count(stream.read(&mut bytes)).filter(|&count| count > 0)
    }

    /// Whether the broker has closed the connection. Consumes nothing.
    pub(super) fn is_closed(&self, stream: &TcpStream) -> bool {
        let look = || -> io::Result<bool> {
            stream.set_nonblocking(true)?;
            let closed = match stream.peek(&mut [0]) {
                Ok(count) => count == 0,
                Err(error) => error.kind() != io::ErrorKind::WouldBlock,
            };
            stream.set_nonblocking(false)?;
            Ok(closed)
        };
        look().unwrap_or(true)
    }

    /// Asks, and waits for the answer.
    pub(super) fn ask<R: Request>(
        &self,
        stream: &mut TcpStream,
        request: &R,
        version: i16,
    ) -> Option<R::Response> {
        if !self.send(stream, &framed(request, version)) {
            return None;
        }
        self.count(plain_client::answer::<R>(stream, version))
    }
}

/// A request as it goes over the wire.
pub(super) fn framed<R: Request>(request: &R, version: i16) -> Bytes {
    let framed = encode_request(request, version, 1, Some(Str::from("hostile")));
    framed.expect("what the attacks send can be encoded").into_bytes()
}
