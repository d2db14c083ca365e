//! Sockets of turmoil's network: a host there is a machine here.

use std::future::Future as _;
use std::io;
use std::net::SocketAddr;
use std::task::{Context, Poll, Waker};

use tokio::io::AsyncWriteExt as _;

use crate::files::File;

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

/// As the host's, by a copy.
pub async fn send_file(half: &mut WriteHalf, file: &File, position: u64, count: usize) -> io::Result<usize> {
    let bytes = file.read_at(position, count)?;
    half.write(&bytes).await
}
