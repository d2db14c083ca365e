use super::*;
use std::collections::BTreeSet;
use std::time::Instant;

const DEADLINE: Duration = Duration::from_secs(20);

/// A store that writes down which bodies it was sent whole, and says yes to everything.
fn upstream() -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("bound").to_string();
    let stored = Arc::new(Mutex::new(Vec::new()));
    let writing = stored.clone();
    thread::spawn(move || {
        for mut to in listener.incoming().map_while(io::Result::ok) {
            let mut from = BufReader::new(to.try_clone().expect("cloned"));
            let Ok(Some(request)) = Request::read(&mut from, &mut to) else { continue };
            if request.operation.writes() {
                let body = String::from_utf8(request.body).expect("text");
                writing.lock().expect("not poisoned").push(body);
            }
            let said = to.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n0123456789");
            // Whoever hung up half-way is not answered.
            drop(said);
        }
    });
    (address, stored)
}

/// What a client got: the answer's first line and its body, or nothing.
fn ask(address: &str, head: &str, body: &str) -> Option<(String, String)> {
    let mut to = TcpStream::connect(address).expect("connected");
    to.set_read_timeout(Some(Duration::from_millis(500))).expect("set");
    let length = body.len();
    write!(to, "{head} HTTP/1.1\r\nIf-None-Match: *\r\nContent-Length: {length}\r\n\r\n{body}")
        .expect("sent");
    let mut from = BufReader::new(to);
    let answer = Head::read(&mut from).ok()??;
    let request = Head::read(&mut io::Cursor::new(format!("{head} HTTP/1.1\r\n\r\n"))).ok()??;
    let mut got = Vec::new();
    relay(answer.answer_body(&request).ok()?, &mut from, &mut got, &mut |_| Ok(())).ok()?;
    Some((answer.target().to_owned(), String::from_utf8(got).ok()?))
}

fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < DEADLINE, "{what}");
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn every_fault_happens_and_a_write_that_was_passed_on_is_whole() {
    let (store, stored) = upstream();
    let (proxy, address) = FaultProxy::spawn(&store, 7, Duration::from_millis(1)).expect("a proxy");
    let well = ask(&address, "PUT /b/k", "well");
    assert_eq!(well, Some(("200".to_owned(), "0123456789".to_owned())));
    assert_eq!(proxy.counts().faults(), 0);

    proxy.set_share(1_000);
    let mut answered = BTreeSet::new();
    for number in 0..60 {
        let answer = ask(&address, "PUT /b/k", &format!("write {number:02}"));
        answered.insert(answer.map(|(status, _)| status));
    }
    wait_until("what is late comes", || proxy.late() == 0);
    let statuses = ["200", "409", "412", "500", "503"].map(|status| Some(status.to_owned()));
    assert!(statuses.iter().chain([&None]).all(|status| answered.contains(status)), "{answered:?}");
    let kinds: BTreeSet<Fault> = proxy.counts().faults.keys().map(|(fault, _)| *fault).collect();
    assert_eq!(kinds.len(), FAULTS.len() - 1, "all but the one of reads: {kinds:?}");
    let counts = proxy.counts();
    let passed = [Fault::OwnExists, Fault::Unanswered, Fault::Silent, Fault::Delayed, Fault::Late];
    let of = |fault| counts.faults.get(&(fault, Operation::Create)).copied().unwrap_or_default();
    let expected = 1 + passed.into_iter().map(of).sum::<u64>();
    let stored = stored.lock().expect("not poisoned").clone();
    assert_eq!(stored.len() as u64, expected, "{counts}");
    assert!(stored.iter().all(|body| body == "well" || body.len() == "write 00".len()), "{stored:?}");
}

#[test]
fn held_writes_come_in_their_order_and_all_else_passes_them() {
    let (store, stored) = upstream();
    let (proxy, address) = FaultProxy::spawn(&store, 7, Duration::ZERO).expect("a proxy");
    proxy.hold(Hold::Creates);
    assert_eq!(ask(&address, "PUT /b/one", "one"), None);
    assert_eq!(ask(&address, "PUT /b/two", "two"), None);
    assert_eq!(ask(&address, "GET /b/k", "").map(|(status, _)| status), Some("200".to_owned()));
    assert_eq!((proxy.held(), stored.lock().expect("not poisoned").len()), (2, 0));
    proxy.pass();
    assert!(ask(&address, "PUT /b/three", "three").is_some());
    assert_eq!(proxy.let_go(), ["200", "200"]);
    assert_eq!(*stored.lock().expect("not poisoned"), ["three", "one", "two"]);
}
