//! Attacks that need no request: connections, and bytes that are none.

use super::ground::{Attacker, framed};
use aquifer_protocol::messages::api_versions::ApiVersionsRequest;
use std::collections::VecDeque;
use std::net::TcpStream;
use std::time::Duration;

/// Bytes that a frame may announce and the broker still waits for.
const ANNOUNCED: u32 = 100 << 20;
const TLS_HELLO: &[u8] = &[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3];
const LONGEST: [u8; 4] = [0x7f, 0xff, 0xff, 0xff];
const NEGATIVE: [u8; 4] = [0xff, 0xff, 0xff, 0xfe];

/// Connections that are held, oldest first.
struct Crowd {
    members: VecDeque<TcpStream>,
    most: usize,
}

impl Crowd {
    fn of(most: usize) -> Crowd {
        Crowd { members: VecDeque::new(), most }
    }

    /// Lets one in, and the oldest go once there are too many.
    fn admit(&mut self, attacker: &Attacker<'_>, stream: TcpStream) {
        self.members.push_back(stream);
        if self.members.len() > self.most
            && let Some(oldest) = self.members.pop_front()
            && attacker.is_closed(&oldest)
        {
            attacker.rebuff();
        }
    }
}

/// Slow loris: requests that arrive a byte every few seconds.
pub(super) fn drip(attacker: &Attacker<'_>) {
    let request = [&1000u32.to_be_bytes()[..], &[0; 900]].concat();
    let mut dripping: Vec<Option<(TcpStream, usize)>> = (0..200).map(|_| None).collect();
    let mut at = 0;
    while attacker.goes_on_after(Duration::from_millis(20)) {
        let member = &mut dripping[at];
        match member {
            Some((stream, sent)) if *sent < request.len() => {
                if attacker.send(stream, &request[*sent..][..1]) {
                    *sent += 1;
                } else {
                    *member = None;
                }
            }
            _ => *member = attacker.connect().map(|stream| (stream, 0)),
        }
        at = (at + 1) % dripping.len();
    }
}

/// Large requests that are announced and never come.
pub(super) fn announce(attacker: &Attacker<'_>) {
    let mut crowd = Crowd::of(600);
    while attacker.goes_on_after(Duration::from_millis(50)) {
        if let Some(mut stream) = attacker.connect()
            && attacker.send(&mut stream, &ANNOUNCED.to_be_bytes())
        {
            crowd.admit(attacker, stream);
        }
    }
}

/// Large requests of which the first part comes, so that they hold memory, and then nothing.
pub(super) fn hoard(attacker: &Attacker<'_>) {
    let part = [&ANNOUNCED.to_be_bytes()[..], &vec![0; 300 << 10]].concat();
    let mut crowd = Crowd::of(400);
    while attacker.goes_on_after(Duration::from_millis(200)) {
        if let Some(mut stream) = attacker.connect()
            && attacker.send(&mut stream, &part)
        {
            crowd.admit(attacker, stream);
        }
    }
}

/// Connections that come and go, in order and by reset.
pub(super) fn churn(attacker: &Attacker<'_>) {
    let mut by_reset = false;
    while attacker.goes_on_after(Duration::from_millis(5)) {
        if let Some(stream) = attacker.connect() {
            by_reset = !by_reset;
            if by_reset {
                attacker.reset(stream);
            }
        }
    }
}

/// More connections than one address may have, and nothing on them.
pub(super) fn crowd(attacker: &Attacker<'_>) {
    let mut crowd = Crowd::of(1_500);
    while attacker.goes_on_after(Duration::from_millis(5)) {
        if let Some(stream) = attacker.connect() {
            crowd.admit(attacker, stream);
        }
    }
}

/// Bytes that are no request: other protocols, impossible lengths, noise in a frame, headers with noise behind them.
pub(super) fn garbage(attacker: &Attacker<'_>) {
    let mut noise = Noise(1);
    let mut kind = 0u16;
    while attacker.goes_on_after(Duration::from_millis(30)) {
        let Some(mut stream) = attacker.connect() else { continue };
        let frame = |bytes: &[u8]| [&(bytes.len() as u32).to_be_bytes()[..], bytes].concat();
        let bytes = match kind % 8 {
            0 => b"GET / HTTP/1.1\r\nHost: broker\r\n\r\n".to_vec(),
            1 => TLS_HELLO.to_vec(),
            2 => LONGEST.to_vec(),
            3 => NEGATIVE.to_vec(),
            4 => frame(&noise.bytes(5_000)),
            5 => frame(&[&(kind % 100).to_be_bytes()[..], &noise.bytes(60)].concat()),
            6 => frame(
                &[&[0, (kind % 80) as u8, 0, 3, 0, 0, 0, 1, 0xff, 0xff], &noise.bytes(300)[..]].concat(),
            ),
            _ => [frame(&[]), framed(&ApiVersionsRequest::default(), 0).to_vec()].concat(),
        };
        kind = kind.wrapping_add(1);
        if attacker.send(&mut stream, &bytes) && stream.shutdown(std::net::Shutdown::Write).is_ok() {
            attacker.sip(&mut stream, 4096);
        }
    }
}

/// Bytes without a pattern, the same in each run.
pub(super) struct Noise(pub(super) u64);

impl Noise {
    fn bytes(&mut self, count: usize) -> Vec<u8> {
        let next = || {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            self.0.to_le_bytes()[3]
        };
        std::iter::repeat_with(next).take(count).collect()
    }
}
