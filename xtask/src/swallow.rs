//! A proxy between clients and a broker that can swallow the broker's answers: what was asked is done, and nobody hears of it.

use anyhow::Result;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

const PIECE_BYTES: usize = 64 * 1024;

/// In this process, for as long as the process lives.
#[derive(Debug, Clone)]
pub(crate) struct Swallow {
    swallowing: Arc<AtomicBool>,
}

impl Swallow {
    /// Listens at `listen` and passes everything on to `broker`, which need not be there yet.
    pub(crate) fn spawn(listen: &str, broker: String) -> Result<Swallow> {
        let listener = TcpListener::bind(listen)?;
        let swallow = Swallow { swallowing: Arc::default() };
        let serving = swallow.clone();
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                // A broker that is not there is a connection that closes: the client asks again.
                let Ok(upstream) = TcpStream::connect(&broker) else { continue };
                let (Ok(from_client), Ok(from_broker)) = (client.try_clone(), upstream.try_clone()) else {
                    continue;
                };
                let answers = serving.clone();
                thread::spawn(move || pass(from_client, upstream, || false));
                thread::spawn(move || {
                    pass(from_broker, client, || answers.swallowing.load(Ordering::SeqCst))
                });
            }
        });
        Ok(swallow)
    }

    /// From now on answers go nowhere, or arrive again.
    pub(crate) fn answers(&self, swallow: bool) {
        self.swallowing.store(swallow, Ordering::SeqCst);
    }
}

/// Until either side closes; then both do. Once one answer is swallowed, none behind it may pass on the same connection.
fn pass(mut from: TcpStream, mut to: TcpStream, swallow: impl Fn() -> bool) {
    let mut piece = vec![0; PIECE_BYTES];
    let mut deaf = false;
    while let Ok(count @ 1..) = from.read(&mut piece) {
        deaf |= swallow();
        if !deaf && to.write_all(&piece[..count]).is_err() {
            break;
        }
    }
    // The other side may be gone already, which is what this is for.
    let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_pass_and_answers_only_while_they_may() {
        let broker = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = broker.local_addr().expect("bound").to_string();
        let port = crate::server::free_port().expect("a port");
        let swallow = Swallow::spawn(&format!("127.0.0.1:{port}"), address).expect("a proxy");
        let mut client = TcpStream::connect(("127.0.0.1", port)).expect("connected");
        let (mut server, _) = broker.accept().expect("accepted");
        let mut one = [0];
        client.write_all(b"a").expect("sent");
        server.read_exact(&mut one).expect("asked");
        server.write_all(b"b").expect("sent");
        client.read_exact(&mut one).expect("answered");
        assert_eq!(&one, b"b");
        swallow.answers(true);
        server.write_all(b"c").expect("sent");
        client.write_all(b"d").expect("sent");
        server.read_exact(&mut one).expect("asked");
        assert_eq!(&one, b"d");
        drop(server);
        assert_eq!(client.read(&mut one).unwrap_or(0), 0, "nothing came");
    }
}
