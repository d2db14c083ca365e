//! Stops the bucket's server for a while: producing and tail reads go on, a cold reader waits, the lag shows and goes.

use super::{PARTITIONS, POLL, SMALL_SEGMENTS, TIERED_DEADLINE, TOPIC};
use crate::broker::Broker;
use crate::bucket;
use crate::clients::{self, Client, Passed};
use crate::flags::Flags;
use crate::history::History;
use crate::s3::Kind;
use crate::soak::{self, Load, Soak};
use anyhow::{Result, anyhow, ensure};
use aquifer_checker::Expiry;
use std::path::Path;
use std::thread::{JoinHandle, sleep, spawn};
use std::time::{Duration, Instant};

/// With the bucket away, an acknowledgement may take as long as on any other day, on a busy machine.
const STALL_MAX: Duration = Duration::from_secs(5);

pub(crate) fn main(binary: &Path, mut flags: Flags) -> Result<()> {
    let seconds: u64 = flags.take("seconds", 60)?;
    let rate: u64 = flags.take("rate", 5_000)?;
    flags.end()?;
    Kind::MinIo.install()?;
    let readers: Vec<Client> = clients::install()?.into_iter().filter(Client::reads).collect();
    let mut store = Kind::MinIo.start()?;
    let url = store.url("outage");
    let mut broker = Broker::start(binary, "outage", &url, &SMALL_SEGMENTS)?;
    broker.create_topic(TOPIC, PARTITIONS)?;
    let mut history = History::begin("outage")?;
    history.topic(TOPIC, PARTITIONS, Expiry::Never)?;
    let load = Load { topic: TOPIC, producer: 1, rate, value_bytes: soak::VALUE_BYTES };
    let mut soak = Soak::start(&broker.bootstrap, load, &history.of("soak"))?;
    // A cold reader stops at the end as it is when it starts, so what it reads lies in the bucket for the most part.
    broker.wait_until_tiered(TOPIC, 0.5, TIERED_DEADLINE)?;
    let tail = soak::watch(&broker.bootstrap, TOPIC, "latest", "tail", &history.of("tail"))?;

    history.fault("bucket away")?;
    store.stop()?;
    let cold = cold_readers(readers, &broker.bootstrap);
    let (mut lags, mut acked, mut stall) = (Vec::new(), soak.acked()?, Duration::ZERO);
    let (stopped, mut moved) = (Instant::now(), Instant::now());
    while stopped.elapsed() < Duration::from_secs(seconds) {
        sleep(POLL);
        let now = soak.acked()?;
        if now > acked {
            stall = stall.max(moved.elapsed());
            (acked, moved) = (now, Instant::now());
        }
        if stopped.elapsed().as_secs() as usize >= lags.len() {
            lags.push(broker.upload_lag_bytes()?);
        }
    }
    stall = stall.max(moved.elapsed());
    soak.check()?;
    for (name, reader) in &cold {
        ensure!(
            !reader.is_finished(),
            "{name} ended while the bucket was away: it failed, or had nothing to wait for"
        );
    }
    let (lag_first, lag_last) = (lags[0], lags[lags.len() - 1]);
    ensure!(lag_last > lag_first, "the upload lag did not grow while the bucket was away: {lags:?}");
    ensure!(stall < STALL_MAX, "nothing was acknowledged for {stall:?}");

    store.start()?;
    let back = Instant::now();
    for (name, reader) in cold {
        let read = reader.join().map_err(|_| anyhow!("the thread of {name} panicked"))??;
        for passed in &read {
            let dense = passed.first == 0 && passed.last + 1 == i64::try_from(passed.count)?;
            ensure!(dense, "{name} skipped something: {passed:?}");
        }
        let seconds = back.elapsed().as_secs_f64();
        println!("   {name}, which waited for the bucket, read all by {seconds:.1} s after it came back");
    }
    println!("   tail: {}", tail.end()?.trim());
    soak.end()?.whole()?;
    broker.wait_until_no_lag(TIERED_DEADLINE)?;
    println!("   no lag {:.1} s after the bucket came back", back.elapsed().as_secs_f64());
    history.audit(&broker.bootstrap, TOPIC, PARTITIONS)?;
    history.must_be_clean()?;
    broker.end()?;
    bucket::verify(binary, &url)?;
    println!(
        "outage: {seconds} s; longest time without an acknowledgement {} ms; upload lag grew from {lag_first} to {lag_last} bytes",
        stall.as_millis()
    );
    Ok(())
}

type Reading = JoinHandle<Result<Vec<Passed>>>;

/// Each reads the whole topic, all at once.
fn cold_readers(readers: Vec<Client>, bootstrap: &str) -> Vec<(String, Reading)> {
    let start = |client: Client| {
        let (name, bootstrap) = (client.name().to_owned(), bootstrap.to_owned());
        (name, spawn(move || client.read(&bootstrap, TOPIC, PARTITIONS)))
    };
    readers.into_iter().map(start).collect()
}
