//! What is measured, each as a user would meet it: words to `aquifer bench`, the same for both contenders.

use super::contender::Lane;
use super::floor::Work;

/// What `aquifer bench` writes if nothing else is asked for.
const USUAL_RECORD_BYTES: u64 = 1024;

/// One of them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Case {
    pub(crate) name: &'static str,
    /// In a line, for people.
    pub(crate) what: &'static str,
    pub(crate) lane: Lane,
    pub(crate) partitions: usize,
    /// What is written before, in MB, in batches of 64 KiB; where it is tiered, it is in the bucket alone when measuring begins.
    pub(crate) filled_mb: u64,
    /// Each time that it is read, the page cache has forgotten it.
    pub(crate) uncached: bool,
    /// What is measured.
    pub(crate) words: &'static str,
    /// The least that the machine can do it for, if that was measured: by requests, or answers, of so many bytes.
    pub(crate) floor: Option<(Work, usize)>,
}

impl Case {
    /// Whether it writes while it is measured.
    pub(crate) fn writes(&self) -> bool {
        !self.words.starts_with("replay")
    }

    /// Bytes of a record's value.
    pub(crate) fn record_bytes(&self) -> u64 {
        let mut words = self.words.split(' ').skip_while(|word| *word != "--record-size").skip(1);
        words.next().and_then(|bytes| bytes.parse().ok()).unwrap_or(USUAL_RECORD_BYTES)
    }
}

const fn produce(
    name: &'static str,
    what: &'static str,
    words: &'static str,
    floor: Option<(Work, usize)>,
) -> Case {
    Case { name, what, lane: Lane::NoSync, partitions: 16, filled_mb: 0, uncached: false, words, floor }
}

/// All of them, in the order of the table.
pub(crate) const CASES: &[Case] = &[
    produce(
        "produce-64k",
        "records of 1 KB in batches of 64 KiB, 16 partitions, acks=1, 4 connections with 4 requests in flight",
        "produce --record-size 1024 --batch-bytes 65536 --acks 1 --connections 4 --in-flight 4",
        Some((Work::Produce, 64 << 10)),
    ),
    produce(
        "produce-16k",
        "the same in batches of 16 KiB",
        "produce --record-size 1024 --batch-bytes 16384 --acks 1 --connections 4 --in-flight 4",
        Some((Work::Produce, 16 << 10)),
    ),
    produce(
        "produce-1m",
        "the same in batches of 1 MB",
        "produce --record-size 1024 --batch-bytes 1000000 --acks 1 --connections 4 --in-flight 4",
        Some((Work::Produce, 1 << 20)),
    ),
    produce(
        "produce-single",
        "100 connections, a request with one record of 1 KB in flight on each",
        "produce --record-size 1024 --batch-bytes 1 --acks 1 --connections 100 --in-flight 1",
        None,
    ),
    produce(
        "produce-10000",
        "10,000 connections, on each of which a request with one record of 1 KB comes once a second",
        "produce --record-size 1024 --batch-bytes 1 --acks 1 --connections 10000 --in-flight 1 --rate 10000",
        None,
    ),
    Case {
        partitions: 1000,
        ..produce(
            "produce-keyed",
            "100 keyed producers, batches of 4 KiB, 1,000 partitions, acks=all",
            "produce --record-size 1024 --batch-bytes 4096 --keyed --acks all --connections 100 --in-flight 5",
            None,
        )
    },
    Case {
        lane: Lane::SyncBeforeAck,
        partitions: 1,
        ..produce(
            "synced-1",
            "batches of 16 KiB to one partition, on disk before they are acknowledged (acks=all)",
            "produce --record-size 1024 --batch-bytes 16384 --acks all --connections 4 --in-flight 4",
            None,
        )
    },
    Case {
        lane: Lane::SyncBeforeAck,
        partitions: 1000,
        ..produce(
            "synced-1000",
            "batches of 4.4 KB to 1,000 partitions, one a request, on disk before they are acknowledged",
            "produce --record-size 1024 --batch-bytes 4400 --acks all --connections 16 --in-flight 5",
            None,
        )
    },
    Case {
        lane: Lane::SyncBeforeAck,
        partitions: 1000,
        ..produce(
            "synced-1000-whole",
            "the same batches, all 1,000 in one request, 2 connections with one request in flight",
            "produce --record-size 1024 --batch-bytes 4400 --batches 1000 --acks all --connections 2 --in-flight 1",
            None,
        )
    },
    Case {
        filled_mb: 4_000,
        ..produce(
            "fetch-1m",
            "4 GB from the page cache, over and over, 16 partitions, up to 1 MiB of each a fetch, 4 connections",
            "replay --fetch-bytes 1048576 --connections 4",
            Some((Work::Fetch, 1 << 20)),
        )
    },
    Case {
        filled_mb: 4_000,
        uncached: true,
        ..produce(
            "fetch-uncached",
            "the same, from the disk",
            "replay --fetch-bytes 1048576 --connections 4",
            None,
        )
    },
    Case {
        filled_mb: 4_000,
        partitions: 1,
        ..produce(
            "fetch-64k",
            "4 GB from the page cache, over and over, one partition, 64 KiB a fetch, one connection",
            "replay --fetch-bytes 65536 --connections 1",
            Some((Work::Fetch, 64 << 10)),
        )
    },
    Case {
        partitions: 1,
        ..produce(
            "end-to-end",
            "2,000 batches of one record a second, acks=1, from when each was due until a consumer has it; CPU is of both, a GB that came",
            "consume --end-to-end --rate 2000 --record-size 1024 --batch-bytes 1100 --acks 1",
            None,
        )
    },
    Case {
        partitions: 1,
        ..produce(
            "end-to-end-200",
            "the same, 200 batches a second",
            "consume --end-to-end --rate 200 --record-size 1024 --batch-bytes 1100 --acks 1",
            None,
        )
    },
    Case {
        partitions: 1,
        ..produce(
            "end-to-end-10000",
            "the same, 10,000 batches a second",
            "consume --end-to-end --rate 10000 --record-size 1024 --batch-bytes 1100 --acks 1",
            None,
        )
    },
    Case {
        partitions: 1,
        ..produce(
            "end-to-end-16k",
            "2,000 batches of 16 KiB a second, acks=all",
            "consume --end-to-end --rate 32000 --record-size 1024 --batch-bytes 16384 --acks all",
            None,
        )
    },
    Case {
        partitions: 1,
        ..produce(
            "fan-out",
            "100 MB/s in batches of 64 KiB, acks=1, read at the tail by 10 consumers; MB/s is what all of them read, CPU is of a GB written once and read ten times",
            "consume --consumers 10 --end-to-end --rate 98000 --record-size 1024 --batch-bytes 65536 --acks 1",
            None,
        )
    },
    produce(
        "paced",
        "200 MB/s in batches of 64 KiB, 16 partitions, acks=1, not tiered: beside `paced-tiered`",
        PACED,
        Some((Work::Produce, 64 << 10)),
    ),
    Case {
        lane: Lane::Tiered,
        ..produce(
            "paced-tiered",
            "the same, uploaded meanwhile and gone from the local disk as soon as it is",
            PACED,
            Some((Work::Produce, 64 << 10)),
        )
    },
    history(1, "history-1", "replay --fetch-bytes 1048576 --connections 1"),
    history(4, "history-4", "replay --fetch-bytes 1048576 --connections 4"),
];

/// Produce with batches of 64 KiB, over four connections with four requests in flight: by size of a record, partitions, and acks.
macro_rules! matrix {
    ($($size:literal, $partitions:literal, $acks:literal;)*) => {
        &[$(Case {
            partitions: $partitions,
            ..produce(
                concat!("matrix-", $size, "-", $partitions, "-", $acks),
                concat!("records of ", $size, " B, ", $partitions, " partitions, acks=", $acks, ", batches of 64 KiB"),
                concat!(
                    "produce --record-size ", $size, " --batch-bytes 65536 --acks ", $acks, " --connections 4 --in-flight 4"
                ),
                Some((Work::Produce, 64 << 10)),
            )
        }),*]
    };
}

/// All of these, in the order of the table.
pub(crate) const MATRIX: &[Case] = matrix! {
    100, 1, "1"; 100, 16, "1"; 100, 1000, "1";
    100, 1, "all"; 100, 16, "all"; 100, 1000, "all";
    1024, 1, "1"; 1024, 16, "1"; 1024, 1000, "1";
    1024, 1, "all"; 1024, 16, "all"; 1024, 1000, "all";
    10240, 1, "1"; 10240, 16, "1"; 10240, 1000, "1";
    10240, 1, "all"; 10240, 16, "all"; 10240, 1000, "all";
};

const PACED: &str =
    "produce --record-size 1024 --batch-bytes 65536 --acks 1 --connections 4 --in-flight 4 --rate 195000";

/// What is in the bucket alone, by one connection to each partition.
const fn history(partitions: usize, name: &'static str, words: &'static str) -> Case {
    Case {
        lane: Lane::Tiered,
        filled_mb: 4_000,
        partitions,
        ..produce(
            name,
            "4 GB in the bucket alone (a folder, in the page cache), a connection to each partition, 1 MiB a fetch, over and over",
            words,
            None,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cases_have_names_of_their_own() {
        let all = || CASES.iter().chain(MATRIX);
        let names: std::collections::BTreeSet<_> = all().map(|case| case.name).collect();
        assert_eq!(names.len(), CASES.len() + MATRIX.len());
        let of = |name: &str| all().find(|case| case.name == name).map(Case::record_bytes);
        assert_eq!((of("matrix-100-16-all"), of("fetch-1m")), (Some(100), Some(1024)));
    }
}
