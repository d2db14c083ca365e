//! The machine's own sockets.

use std::io;
use std::net::SocketAddr;

use tokio::io::Interest;

use crate::files::File;

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

/// Sends up to `count` bytes of a file from `position` on, without a copy of them; gives how many, and zero where the file ends. What
/// is not in the page cache is waited for on this thread.
pub async fn send_file(half: &mut WriteHalf, file: &File, position: u64, count: usize) -> io::Result<usize> {
    let stream: &Stream = (*half).as_ref();
    let send = || {
        let mut position = position;
        rustix::fs::sendfile(stream, file, Some(&mut position), count).map_err(io::Error::from)
    };
    stream.async_io(Interest::WRITABLE, send).await
}
