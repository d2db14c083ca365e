//! Sockets of turmoil's network: a host there is a machine here.

use std::future::Future as _;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::task::{Context, Poll, Waker};

use tokio::io::AsyncWriteExt as _;

use crate::files::Lent;

/// A listening TCP socket.
pub type Listener = turmoil::net::TcpListener;
/// A connected TCP socket.
pub type Stream = turmoil::net::TcpStream;

/// The reading half of a connection.
pub type ReadHalf = turmoil::net::tcp::OwnedReadHalf;
/// The writing half of a connection.
pub type WriteHalf = turmoil::net::tcp::OwnedWriteHalf;

/// Listens on `address`, on the machine that runs this.
pub fn listen(address: SocketAddr) -> io::Result<Listener> {
    let mut binding = std::pin::pin!(Listener::bind(address));
    match binding.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(bound) => bound,
        Poll::Pending => unreachable!("the simulated network binds at once"),
    }
}

/// As a real connection.
pub fn configure(stream: &Stream) -> io::Result<()> {
    stream.set_nodelay(true)
}

/// As the host's, at once.
pub async fn send_with_more(half: &mut WriteHalf, slices: &[IoSlice<'_>]) -> io::Result<usize> {
    half.write_vectored(slices).await
}

/// As the host's, by a copy.
pub async fn send_lent(
    half: &mut WriteHalf,
    lent: &Lent,
    at: usize,
    count: usize,
) -> io::Result<Option<usize>> {
    if !lent.is_sound(at, count) {
        return Ok(None);
    }
    match lent.file().read_cached_and_look(lent.position(at), count)? {
        Some((bytes, _)) => half.write(&bytes).await.map(Some),
        None => Ok(None),
    }
}
