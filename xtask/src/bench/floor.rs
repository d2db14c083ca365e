//! What this machine takes for the least that any broker has to do: receive a request whole, check its bytes, write them to the
//! page cache, answer; and, for a fetch, send what lies in the page cache. One thread and nothing else, so that a broker's figures
//! are also a ratio to the limit.

use super::canary::{CORES, bind};
use crate::places;
use anyhow::{Context, Result, anyhow, ensure};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::sendfile;
use rustix::time::{ClockId, clock_gettime};
use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

const CONNECTIONS: usize = 4;
/// Requests of a connection that wait for an answer.
const IN_FLIGHT: usize = 4;
const FILES: usize = 16;
/// The files have so much each, in the page cache before measuring begins, and are read or written over and over: together more than a
/// processor's cache, and no page has to be found for them.
const FILE_BYTES: usize = 32 << 20;
const LENGTH_BYTES: usize = 4;
const ANSWER: [u8; 8] = *b"answered";

/// Which of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Work {
    Produce,
    Fetch,
}

/// What it took.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Floor {
    pub(crate) mb_per_second: f64,
    /// Seconds of the one thread's processor time.
    pub(crate) cpu_per_gb: f64,
}

/// Requests, or answers, of so many bytes, for as long.
pub(crate) fn measure(work: Work, bytes: usize, during: Duration) -> Result<Floor> {
    let folder = places::emptied(places::data()?.join("bench-floor"))?;
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let ends = AtomicBool::new(false);
    let floor = thread::scope(|scope| {
        let server = scope.spawn(|| {
            bind(CORES[0])?;
            Server::accept(&listener, work, bytes, &folder)?.serve(&ends)
        });
        let clients: Vec<_> = (0..CONNECTIONS)
            .map(|_| {
                scope.spawn(|| {
                    bind(CORES[1])?;
                    let socket = TcpStream::connect(address)?;
                    socket.set_nodelay(true)?;
                    match work {
                        Work::Produce => produce(socket, bytes, during),
                        Work::Fetch => fetch(socket, bytes, during),
                    }
                })
            })
            .collect();
        let clients: Vec<_> = clients.into_iter().map(|client| client.join()).collect();
        ends.store(true, Ordering::Relaxed);
        let floor = server.join().map_err(|_| anyhow!("the server's thread panicked"))?;
        for client in clients {
            client.map_err(|_| anyhow!("a client's thread panicked"))??;
        }
        floor
    })?;
    places::removed(&folder)?;
    Ok(floor)
}

/// Writes requests whose answers it has not read, so many at a time.
fn produce(mut socket: TcpStream, bytes: usize, during: Duration) -> Result<()> {
    let mut request = u32::try_from(bytes)?.to_be_bytes().to_vec();
    request.resize(LENGTH_BYTES + bytes, 0x5a);
    let (mut sent, mut answer) = (0, ANSWER);
    while sent < IN_FLIGHT {
        socket.write_all(&request)?;
        sent += 1;
    }
    // The server has begun.
    socket.read_exact(&mut answer)?;
    sent -= 1;
    let until = Instant::now() + during;
    while Instant::now() < until {
        socket.read_exact(&mut answer)?;
        socket.write_all(&request)?;
    }
    for _ in 0..sent {
        socket.read_exact(&mut answer)?;
    }
    Ok(())
}

/// Asks, and reads what comes.
fn fetch(mut socket: TcpStream, bytes: usize, during: Duration) -> Result<()> {
    let mut answer = vec![0; bytes];
    let mut until = None;
    // From when the server has begun.
    while until.is_none_or(|until| Instant::now() < until) {
        socket.write_all(&ANSWER)?;
        socket.read_exact(&mut answer)?;
        until.get_or_insert_with(|| Instant::now() + during);
    }
    Ok(())
}

struct Connection {
    socket: TcpStream,
    /// What has come of its request.
    buffer: Vec<u8>,
    filled: usize,
    file: usize,
}

struct Server {
    work: Work,
    bytes: usize,
    connections: Vec<Connection>,
    files: Vec<(File, u64)>,
    done: u64,
}

impl Server {
    fn accept(listener: &TcpListener, work: Work, bytes: usize, folder: &Path) -> Result<Server> {
        let request = match work {
            Work::Produce => LENGTH_BYTES + bytes,
            Work::Fetch => ANSWER.len(),
        };
        let mut connections = Vec::with_capacity(CONNECTIONS);
        for number in 0..CONNECTIONS {
            let (socket, _) = listener.accept()?;
            socket.set_nodelay(true)?;
            socket.set_nonblocking(true)?;
            connections.push(Connection { socket, buffer: vec![0; request], filled: 0, file: number });
        }
        let mut files = Vec::with_capacity(FILES);
        for number in 0..FILES {
            let path = folder.join(number.to_string());
            let mut file = File::options().create(true).read(true).write(true).truncate(true).open(&path);
            let file = file.as_mut().map_err(|error| anyhow!("opening {}: {error}", path.display()))?;
            file.write_all(&vec![0x5a; FILE_BYTES.max(bytes)])?;
            std::io::Seek::rewind(file)?;
            files.push((file.try_clone()?, 0));
        }
        Ok(Server { work, bytes, connections, files, done: 0 })
    }

    fn serve(mut self, ends: &AtomicBool) -> Result<Floor> {
        let (began, cpu) = (Instant::now(), thread_cpu());
        while !ends.load(Ordering::Relaxed) {
            let ready = self.wait()?;
            for at in ready {
                self.read(at)?;
            }
        }
        let (took, cpu) = (began.elapsed(), thread_cpu().saturating_sub(cpu));
        ensure!(self.done > 0, "nothing was asked");
        let bytes = (self.done * self.bytes as u64) as f64;
        Ok(Floor {
            mb_per_second: bytes / 1e6 / took.as_secs_f64(),
            cpu_per_gb: cpu.as_secs_f64() / (bytes / 1e9),
        })
    }

    /// The connections that have something to read.
    fn wait(&self) -> Result<Vec<usize>> {
        let wanted = |connection| PollFd::from_borrowed_fd(AsFd::as_fd(connection), PollFlags::IN);
        let mut fds: Vec<PollFd<'_>> =
            self.connections.iter().map(|connection| wanted(&connection.socket)).collect();
        let soon = rustix::time::Timespec { tv_sec: 0, tv_nsec: 20_000_000 };
        poll(&mut fds, Some(&soon)).context("polling")?;
        let ready = fds.iter().enumerate().filter(|(_, fd)| fd.revents().contains(PollFlags::IN));
        Ok(ready.map(|(at, _)| at).collect())
    }

    /// Reads once, and answers if the request is whole.
    fn read(&mut self, at: usize) -> Result<()> {
        let connection = &mut self.connections[at];
        match connection.socket.read(&mut connection.buffer[connection.filled..]) {
            Ok(read) => connection.filled += read,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error).context("reading a request"),
        }
        if connection.filled < connection.buffer.len() {
            return Ok(());
        }
        connection.filled = 0;
        self.done += 1;
        match self.work {
            Work::Produce => self.store(at),
            Work::Fetch => self.send(at),
        }
    }

    fn store(&mut self, at: usize) -> Result<()> {
        let connection = &mut self.connections[at];
        let bytes = &connection.buffer[LENGTH_BYTES..];
        std::hint::black_box(aquifer_model::format::crc32c(&[bytes]));
        connection.file = (connection.file + CONNECTIONS) % FILES;
        let (file, written) = &mut self.files[connection.file];
        if *written + bytes.len() as u64 > FILE_BYTES.max(bytes.len()) as u64 {
            std::io::Seek::rewind(file)?;
            *written = 0;
        }
        file.write_all(bytes).context("writing")?;
        *written += bytes.len() as u64;
        // Eight bytes always fit into a socket whose reader waits for them.
        connection.socket.write_all(&ANSWER).context("answering")
    }

    fn send(&mut self, at: usize) -> Result<()> {
        let connection = &mut self.connections[at];
        connection.file = (connection.file + CONNECTIONS) % FILES;
        let bytes = self.bytes as u64;
        let (file, next) = &mut self.files[connection.file];
        let mut offset = if *next + bytes > FILE_BYTES.max(self.bytes) as u64 { 0 } else { *next };
        let end = offset + bytes;
        *next = end;
        while offset < end {
            let left = usize::try_from(end - offset)?;
            match sendfile(&connection.socket, &*file, Some(&mut offset), left) {
                Ok(_) => {}
                Err(rustix::io::Errno::AGAIN) => {
                    let mut full = [PollFd::from_borrowed_fd(connection.socket.as_fd(), PollFlags::OUT)];
                    poll(&mut full, None).context("polling")?;
                }
                Err(error) => return Err(error).context("sending"),
            }
        }
        Ok(())
    }
}

fn thread_cpu() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_kinds_of_work_get_done() {
        for work in [Work::Produce, Work::Fetch] {
            let floor = measure(work, 16 << 10, Duration::from_millis(100)).expect("it runs");
            assert!(floor.mb_per_second > 1.0 && floor.cpu_per_gb > 0.0, "{floor:?}");
        }
    }
}
