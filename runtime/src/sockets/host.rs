//! The machine's own sockets.

use std::io::{self, IoSlice};
use std::net::SocketAddr;

use tokio::io::Interest;

use crate::files::Lent;

/// A listening TCP socket.
#[allow(clippy::disallowed_types)] // The home of sockets.
pub type Listener = tokio::net::TcpListener;
/// A connected TCP socket.
#[allow(clippy::disallowed_types)] // The home of sockets.
pub type Stream = tokio::net::TcpStream;

/// The reading half of a connection.
pub type ReadHalf = tokio::net::tcp::OwnedReadHalf;
/// The writing half of a connection.
pub type WriteHalf = tokio::net::tcp::OwnedWriteHalf;

/// Connections that the kernel completes before we accept them.
const BACKLOG: i32 = 1024;

/// Listens on `address`; port 0 lets the kernel choose. A port that was just given up may be taken at once.
pub fn listen(address: SocketAddr) -> io::Result<Listener> {
    let domain = socket2::Domain::for_address(address);
    let socket = socket2::Socket::new(domain, socket2::Type::STREAM, Some(socket2::Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Listener::from_std(socket.into())
}

/// Sets what every connection wants: answers leave at once, and a peer that vanished is noticed in the end.
pub fn configure(stream: &Stream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    socket2::SockRef::from(stream).set_keepalive(true)
}

/// Sends some of these bytes, and gives how many. They may wait for what is sent next, to leave together with it (`MSG_MORE`).
pub async fn send_with_more(half: &mut WriteHalf, slices: &[IoSlice<'_>]) -> io::Result<usize> {
    let stream: &Stream = (*half).as_ref();
    let send = || {
        socket2::SockRef::from(stream).send_vectored_with_flags(slices, libc::MSG_MORE | libc::MSG_NOSIGNAL)
    };
    stream.async_io(Interest::WRITABLE, send).await
}

/// Sends up to `count` bytes of what was lent, from its byte `at` on, without a copy of them. Gives how many: zero where the file ends,
/// and `None` if they are not known to be sound any more.
pub async fn send_lent(
    half: &mut WriteHalf,
    lent: &Lent,
    at: usize,
    count: usize,
) -> io::Result<Option<usize>> {
    let stream: &Stream = (*half).as_ref();
    // Each time that the socket has room: it may have been without for a long time.
    let send = || {
        if !lent.is_sound(at, count) {
            return Ok(None);
        }
        let mut position = lent.position(at);
        Ok(Some(rustix::fs::sendfile(stream, lent.file(), Some(&mut position), count)?))
    };
    stream.async_io(Interest::WRITABLE, send).await
}
