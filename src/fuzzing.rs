//! What the fuzz targets in `fuzz/` do, and what they start from.
//!
//! A target is a plain function over bytes that panics for what must not happen. nightly runs it by the million
//! (`cargo xtask fuzz`); a stable test runs it over its seeds and some thousand changes of them, so that it cannot rot.

use aquifer_model::batches::Batches;
use aquifer_model::{BatchHeader, aborted, offset_index, record, time_index};
use aquifer_protocol::Reader;
use aquifer_protocol::frame::RequestHeader;
use bytes::Bytes;
use futures::FutureExt as _;
use tokio::io::AsyncReadExt as _;

use crate::config::{Config, FileText, Sources};
use crate::net::FrameReader;
use crate::{groups, log, metadata};

/// One target: its name, which its file in `fuzz/fuzz_targets` has too.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// As in `cargo xtask fuzz --target NAME`.
    pub name: &'static str,
    /// Panics for what must not happen.
    pub run: fn(&[u8]),
    /// Inputs that come far.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

/// All of them.
pub const TARGETS: &[Target] = &[
    Target { name: "frames", run: frames, seeds: frames_seeds },
    Target {
        name: "messages",
        run: aquifer_protocol::fuzzing::message,
        seeds: aquifer_protocol::fuzzing::messages,
    },
    Target { name: "batches", run: batches, seeds: batches_seeds },
    Target { name: "indexes", run: indexes, seeds: || from_hex(&[log::fuzzing::INDEX_CHUNK]) },
    Target { name: "log_files", run: log::fuzzing::file, seeds: || from_hex(log::fuzzing::FILES) },
    Target { name: "recovery", run: log::fuzzing::recovery, seeds: recovery_seeds },
    Target { name: "journal", run: log::fuzzing::journal, seeds: log::fuzzing::journal_seeds },
    Target {
        name: "object_tail",
        run: aquifer_tiering::fuzzing::tail,
        seeds: || from_hex(aquifer_tiering::fuzzing::TAILS),
    },
    Target {
        name: "bucket_records",
        run: aquifer_tiering::fuzzing::record,
        seeds: || from_hex(aquifer_tiering::fuzzing::RECORDS),
    },
    Target { name: "metadata", run: metadata::fuzzing::record, seeds: metadata_seeds },
    Target {
        name: "metadata_image",
        run: metadata::fuzzing::image,
        seeds: || from_hex(&[metadata::fuzzing::IMAGE, metadata::fuzzing::IMAGE_QUOTAS]),
    },
    Target {
        name: "group_records",
        run: groups::record::fuzzing::record,
        seeds: || from_hex(groups::record::fuzzing::RECORDS),
    },
    Target { name: "config", run: config, seeds: config_seeds },
];

/// What records may decompress to here: far above what a few kilobytes of input hold honestly.
const DECOMPRESSED_BYTES_MAX: usize = 1 << 20;
/// The longest frame taken here.
const FRAME_BYTES_MAX: usize = 64 << 10;

/// The target of that name.
///
/// # Panics
/// If there is none.
pub fn target(name: &str) -> &'static Target {
    TARGETS.iter().find(|target| target.name == name).unwrap_or_else(|| panic!("no target is called {name}"))
}

/// A stream that arrives in two pieces, the first as long as its first byte says: frames are taken out of it until it ends,
/// none longer than it may be, and each one's header is read.
fn frames(bytes: &[u8]) {
    let [first, stream @ ..] = bytes else { return };
    let (first, second) = stream.split_at(usize::from(*first).min(stream.len()));
    let mut reader = FrameReader::new(first.chain(second));
    let mut taken = 0;
    loop {
        let frame = reader.frame(FRAME_BYTES_MAX).now_or_never().expect("bytes in memory are always there");
        let Ok(Some(frame)) = frame else { break };
        assert_eq!(frame, stream[taken + 4..][..frame.len()], "a frame is what was sent");
        taken += 4 + frame.len();
        let Ok(header) = RequestHeader::decode(&mut Reader::new(frame)) else { continue };
        let mut writer = aquifer_protocol::Writer::bare();
        header.encode(&mut writer).expect("what was decoded can be encoded");
        let written = writer.finish().expect("it is no longer than it was").into_bytes();
        assert_eq!(RequestHeader::decode(&mut Reader::new(written)), Ok(header));
    }
}

fn frames_seeds() -> Vec<Vec<u8>> {
    let frame = |request: &[u8]| [&(request.len() as u32).to_be_bytes()[..], request].concat();
    let old = frame(&[0, 3, 0, 1, 0, 0, 0, 7, 0, 2, b'm', b'e', 0, 0, 0, 0]);
    let flexible = frame(&[0, 18, 0, 3, 0, 0, 0, 8, 0, 2, b'm', b'e', 0, 2, b'a', 2, b'b', 0]);
    let unknown = frame(&[0, 99, 0, 0, 0, 0, 0, 9, 0xff, 0xff]);
    let http = b"GET / HTTP/1.1\r\n\r\n".to_vec();
    let all = [old, flexible, unknown, http];
    let mut seeds: Vec<Vec<u8>> = all.iter().map(|one| [&[3][..], one].concat()).collect();
    seeds.push([&[30][..], &all.concat()].concat());
    seeds
}

/// Batches, walked: each header that is written is read as the same, and its records are checked, decompressed within a bound and read.
fn batches(bytes: &[u8]) {
    let mut batches = Batches::new(bytes);
    let mut end = 0;
    for located in batches.by_ref() {
        assert_eq!(located.position, end, "one behind the other");
        let (header, batch) = (located.header, &bytes[located.position..][..located.header.size()]);
        end += batch.len();
        let written = header.to_bytes();
        // All leader epochs below zero mean none, so bytes may differ where meaning does not.
        assert_eq!(BatchHeader::parse(&written), Ok(header), "a header written is the header read");
        let _ = header.verify(batch);
        records(&header, &batch[written.len()..]);
    }
    assert!(batches.position() == end && batches.tail().is_some(), "the walk says how it ended");
}

fn records(header: &BatchHeader, stored: &[u8]) {
    let Ok(plain) = header.compression().decompress(stored, DECOMPRESSED_BYTES_MAX) else { return };
    assert!(plain.len() <= DECOMPRESSED_BYTES_MAX);
    let checked = record::check(header, &plain);
    if let (Ok(_), Ok(read)) = (checked, record::read(header, &Bytes::from(plain))) {
        assert_eq!(read.len() as u64, u64::from(header.record_count()));
    }
}

fn batches_seeds() -> Vec<Vec<u8>> {
    use aquifer_model::builder::BatchBuilder;
    use aquifer_model::compression::Compression;
    let batch = |compression| {
        let mut batch = BatchBuilder::new();
        for time in 0..3 {
            let headers: [(&[u8], Option<&[u8]>); 2] = [(b"h", Some(b"v")), (b"", None)];
            batch.push(aquifer_model::Timestamp(time), Some(b"key"), Some(&[b'v'; 20]), &headers);
        }
        batch.finish(compression).expect("these records can be compressed")
    };
    let codecs = (0..).map_while(Compression::from_bits);
    let mut seeds: Vec<Vec<u8>> = codecs.map(batch).collect();
    seeds.push([batch(Compression::None), batch(Compression::None)].concat());
    seeds
}

/// A segment's indexes: the file beside it, and the parts of an object.
fn indexes(bytes: &[u8]) {
    log::fuzzing::index(bytes);
    if let Ok(entries) = offset_index::decode(bytes) {
        assert_eq!(offset_index::encode(&entries), bytes);
    }
    if let Ok(entries) = time_index::decode(bytes) {
        assert_eq!(time_index::encode(&entries), bytes);
    }
    if let Ok(entries) = aborted::decode(bytes) {
        assert_eq!(aborted::decode(&aborted::encode(&entries)), Ok(entries));
    }
}

fn recovery_seeds() -> Vec<Vec<u8>> {
    let log = batches_seeds().remove(0);
    let (index, checkpoint) = (from_hex(&[log::fuzzing::INDEX_CHUNK]), from_hex(log::fuzzing::FILES));
    let input = |present: u8| {
        let lengths = [log.len() as u16, index[0].len() as u16].map(u16::to_be_bytes).concat();
        [&[present][..], &lengths, &log, &index[0], &checkpoint[1]].concat()
    };
    (0..8).map(input).collect()
}

fn metadata_seeds() -> Vec<Vec<u8>> {
    let commands = metadata::fuzzing::COMMANDS.lines().filter_map(|line| line.split_once(' '));
    commands.flat_map(|(_, hex)| from_hex(&[hex])).collect()
}

/// A configuration file: one that is taken is printed as one that is taken.
fn config(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let load = |text: String| {
        let file = Some(FileText { path: "fuzzed.toml".to_owned(), text });
        Config::load(Sources { file, ..Sources::default() })
    };
    match load(text.to_owned()) {
        Ok(config) => {
            let printed = config.print();
            let again = load(printed.clone()).unwrap_or_else(|problems| panic!("{problems}\n{printed}"));
            assert_eq!(again.broker(), config.broker());
        }
        Err(problems) => assert!(!problems.to_string().is_empty(), "what is refused is refused for a reason"),
    }
}

fn config_seeds() -> Vec<Vec<u8>> {
    let defaults = Config::load(Sources::default()).expect("the defaults are valid").print();
    let texts = [
        &*defaults,
        "[log]\nsegment.bytes = 2097152\nretention.ms = -1\n",
        "listeners = [\"PLAINTEXT://127.0.0.1:9092\"]\n",
        "tier.object.store = \"s3://bucket/prefix?region=eu\"\n",
        "log.segment.byte = 1\n",
    ];
    texts.map(|text| text.as_bytes().to_vec()).to_vec()
}

/// The bytes of texts in hexadecimal; golden files are kept so.
fn from_hex(texts: &[&str]) -> Vec<Vec<u8>> {
    let byte = |pair: &[u8]| {
        let pair = std::str::from_utf8(pair).ok().and_then(|pair| u8::from_str_radix(pair, 16).ok());
        pair.expect("golden files are in hexadecimal")
    };
    texts.iter().map(|text| text.trim().as_bytes().chunks(2).map(byte).collect()).collect()
}

#[cfg(test)]
mod tests;
