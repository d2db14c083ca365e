//! Plain concurrent ranged GETs: what a replay from the same bucket, through the same proxy, in the same run is measured
//! against. One connection a worker, kept; no signature, so the bucket must be readable by anyone (`--make-readable yes`).

use crate::flags::Flags;
use crate::messages::Head;
use crate::{http, places, run, s3};
use anyhow::{Context, Result, anyhow, ensure};
use std::io::{BufReader, Read, Write};
use std::net::TcpStream;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

const TIMEOUT: Duration = Duration::from_secs(60);
const MB: f64 = 1e6;
const IN_FLIGHT: usize = 16;
/// A GET that is made later than this after it was due is not the same GET.
const LATE_MAX: Duration = Duration::from_millis(500);
const RANGE_BYTES: u64 = 8 << 20;

#[derive(Debug, Clone, PartialEq, Eq)]
struct Range {
    path: String,
    from: u64,
    bytes: u64,
}

/// Lists the bucket, reads every range of every object once, prints one line.
pub(crate) fn main(mut flags: Flags) -> Result<()> {
    let endpoint = flags.need("endpoint")?;
    let bucket = flags.need("bucket")?;
    let prefix: String = flags.take("prefix", String::new())?;
    let in_flight: usize = flags.take("in-flight", IN_FLIGHT)?;
    let range_bytes: u64 = flags.take("range-bytes", RANGE_BYTES)?;
    let total_mb: u64 = flags.take("total-mb", u64::MAX / 1_000_000)?;
    let make_readable: String = flags.take("make-readable", "no".to_owned())?;
    flags.end()?;
    let address = endpoint.strip_prefix("http://").context("--endpoint must begin with http://")?;
    let address = address.trim_end_matches('/');
    if make_readable == "yes" {
        make_bucket_readable(address, &bucket)?;
    }
    let ranges = ranges(&list(address, &bucket, &prefix)?, &bucket, range_bytes, total_mb * 1_000_000);
    ensure!(!ranges.is_empty(), "nothing lies under '{prefix}' in bucket '{bucket}'");
    let done = read_all(address, &ranges, in_flight)?;
    println!(
        "plain-gets: bytes={} gets={} in_flight={in_flight} seconds={:.2} mb_per_second={:.1}",
        done.bytes,
        done.gets,
        done.seconds,
        done.mb_per_second()
    );
    Ok(())
}

/// What was read, in how long.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Done {
    pub(crate) bytes: u64,
    pub(crate) gets: usize,
    pub(crate) seconds: f64,
}

impl Done {
    pub(crate) fn mb_per_second(&self) -> f64 {
        self.bytes as f64 / MB / self.seconds
    }
}

/// Reads all under a prefix of a readable bucket, as fast as 16 GETs of 8 MiB at a time do it.
pub(crate) fn read_prefix(address: &str, bucket: &str, prefix: &str) -> Result<Done> {
    let ranges = ranges(&list(address, bucket, prefix)?, bucket, RANGE_BYTES, u64::MAX);
    ensure!(!ranges.is_empty(), "nothing lies under '{prefix}' in bucket '{bucket}'");
    read_all(address, &ranges, IN_FLIGHT)
}

/// Lets anyone list and read the bucket: for a rig's bucket on loopback only.
pub(crate) fn make_bucket_readable(address: &str, bucket: &str) -> Result<()> {
    let policy = serde_json::json!({ "Version": "2012-10-17", "Statement": [{
        "Effect": "Allow", "Principal": { "AWS": ["*"] }, "Action": ["s3:GetObject", "s3:ListBucket", "s3:ListBucketMultipartUploads"],
        "Resource": [format!("arn:aws:s3:::{bucket}"), format!("arn:aws:s3:::{bucket}/*")],
    }]});
    let key =
        |index: usize| std::env::var(s3::KEYS[index].0).unwrap_or_else(|_| s3::KEYS[index].1.to_owned());
    let user = format!("{}:{}", key(0), key(1));
    let url = format!("http://{address}/{bucket}?policy=");
    // As a file: curl's signature of a body given with --data is refused.
    let file = places::data()?.join("policy.json");
    std::fs::write(&file, policy.to_string()).with_context(|| format!("writing {}", file.display()))?;
    let mut curl = run::command("curl", ["--silent", "--show-error", "--fail-with-body", "--upload-file"]);
    curl.arg(file).args(["--aws-sigv4", "aws:amz:us-east-1:s3", "--user", &user, &url]);
    run::output(&mut curl).context("setting the bucket's policy")?;
    Ok(())
}

/// Key and size of all under a prefix of a readable bucket.
pub(crate) fn list(address: &str, bucket: &str, prefix: &str) -> Result<Vec<(String, u64)>> {
    let mut objects = Vec::new();
    let mut after = String::new();
    loop {
        let path =
            format!("/{bucket}?list-type=2&prefix={}&start-after={}", escaped(prefix), escaped(&after));
        let answer = http::get(address, &path)?;
        ensure!(answer.status == 200, "listing '{bucket}' was answered {}: {}", answer.status, answer.body);
        let page = listed(&answer.body)?;
        after = page.last().map(|(key, _)| key.clone()).unwrap_or_default();
        objects.extend(page);
        if !answer.body.contains("<IsTruncated>true</IsTruncated>") {
            return Ok(objects);
        }
    }
}

fn escaped(text: &str) -> String {
    let keep = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~/".contains(&byte);
    text.bytes()
        .map(|byte| if keep(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

/// Key and size of each object of a page of `ListObjectsV2`. (Aquifer's keys hold nothing that XML escapes.)
fn listed(xml: &str) -> Result<Vec<(String, u64)>> {
    let inside = |text: &str, name: &str| -> Option<String> {
        let (_, rest) = text.split_once(&format!("<{name}>"))?;
        Some(rest.split_once(&format!("</{name}>"))?.0.to_owned())
    };
    xml.split("<Contents>")
        .skip(1)
        .map(|text| {
            let key = inside(text, "Key").context("an object without a key")?;
            let size = inside(text, "Size").context("an object without a size")?.parse()?;
            Ok((key, size))
        })
        .collect()
}

fn ranges(objects: &[(String, u64)], bucket: &str, range_bytes: u64, total_max: u64) -> Vec<Range> {
    let mut left = total_max;
    let mut ranges = Vec::new();
    for (key, size) in objects {
        let mut from = 0;
        while from < *size && left > 0 {
            let bytes = range_bytes.min(size - from).min(left);
            ranges.push(Range { path: format!("/{bucket}/{}", escaped(key)), from, bytes });
            from += bytes;
            left -= bytes;
        }
    }
    ranges
}

fn read_all(address: &str, ranges: &[Range], in_flight: usize) -> Result<Done> {
    let start = Instant::now();
    let next = AtomicUsize::new(0);
    let failure = Mutex::new(None);
    thread::scope(|scope| {
        for _ in 0..in_flight {
            scope.spawn(|| {
                if let Err(error) = worker(address, ranges, &next) {
                    *failure.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(error);
                    next.store(ranges.len(), Ordering::Relaxed);
                }
            });
        }
    });
    match failure.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner) {
        Some(error) => Err(error),
        None => Ok(Done {
            bytes: ranges.iter().map(|range| range.bytes).sum(),
            gets: ranges.len(),
            seconds: start.elapsed().as_secs_f64(),
        }),
    }
}

/// A GET that somebody made.
#[derive(Debug, Clone)]
pub(crate) struct Made {
    pub(crate) at: Instant,
    pub(crate) target: String,
    pub(crate) range: Option<String>,
}

/// Makes these again, each as long after now as it was made after `began`.
pub(crate) fn make_again(address: &str, made: &[Made], began: Instant) -> Result<()> {
    let (again, next) = (Instant::now(), AtomicUsize::new(0));
    let worker = || -> Result<()> {
        let mut connection = Connection::open(address)?;
        while let Some(one) = made.get(next.fetch_add(1, Ordering::Relaxed)) {
            let due = one.at.saturating_duration_since(began);
            thread::sleep(due.saturating_sub(again.elapsed()));
            let late = again.elapsed().saturating_sub(due);
            ensure!(late < LATE_MAX, "a GET was made {late:?} late");
            connection.get(&one.target, one.range.as_deref())?;
        }
        Ok(())
    };
    thread::scope(|scope| {
        let workers: Vec<_> = (0..IN_FLIGHT).map(|_| scope.spawn(worker)).collect();
        workers
            .into_iter()
            .try_for_each(|worker| worker.join().map_err(|_| anyhow!("a thread that makes GETs panicked"))?)
    })
}

fn worker(address: &str, ranges: &[Range], next: &AtomicUsize) -> Result<()> {
    let mut connection = Connection::open(address)?;
    while let Some(range) = ranges.get(next.fetch_add(1, Ordering::Relaxed)) {
        connection.read(range)?;
    }
    Ok(())
}

/// One GET at a time.
struct Connection<'a> {
    address: &'a str,
    to: TcpStream,
    from: BufReader<TcpStream>,
}

impl Connection<'_> {
    fn open(address: &str) -> Result<Connection<'_>> {
        let to = TcpStream::connect(address).with_context(|| format!("connecting to {address}"))?;
        to.set_nodelay(true)?;
        to.set_read_timeout(Some(TIMEOUT))?;
        let from = BufReader::with_capacity(128 * 1024, to.try_clone()?);
        Ok(Connection { address, to, from })
    }

    fn read(&mut self, range: &Range) -> Result<()> {
        let last = range.from + range.bytes - 1;
        let read = self.get(&range.path, Some(&format!("bytes={}-{last}", range.from)))?;
        ensure!(read == range.bytes, "{}: {read} of {} bytes", range.path, range.bytes);
        Ok(())
    }

    /// Gives the bytes of the body.
    fn get(&mut self, target: &str, range: Option<&str>) -> Result<u64> {
        let Connection { address, to, from } = self;
        let range = range.map_or_else(String::new, |range| format!("Range: {range}\r\n"));
        write!(to, "GET {target} HTTP/1.1\r\nHost: {address}\r\n{range}\r\n")?;
        let head = Head::read(from)?.with_context(|| format!("{target}: closed before the answer"))?;
        let status = head.target();
        ensure!(status == "206" || (status == "200" && range.is_empty()), "{target}: {status}");
        let bytes = head.header("content-length").context("an answer without its length")?.parse()?;
        let read = std::io::copy(&mut from.by_ref().take(bytes), &mut std::io::sink())?;
        ensure!(read == bytes, "{target}: {read} of {bytes} bytes");
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listing_becomes_ranges() {
        let xml = "<L><Contents><Key>a b</Key><Size>5</Size></Contents><Contents><Key>c</Key><Size>3</Size></Contents></L>";
        let objects = listed(xml).expect("a listing");
        let range = |path: &str, from, bytes| Range { path: path.to_owned(), from, bytes };
        let want = [range("/x/a%20b", 0, 4), range("/x/a%20b", 4, 1), range("/x/c", 0, 2)];
        assert_eq!(ranges(&objects, "x", 4, 7), want);
        assert!(listed("<Contents><Size>3</Size></Contents>").is_err());
    }
}
