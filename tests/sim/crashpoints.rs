//! The machine stops at each operation of a reference workload in turn: before it, within it, after it; by a power cut, or by the
//! end of the process alone. The workload goes on after the restart, and nothing acknowledged may be missing.

use std::fmt;
use std::process::ExitCode;
use std::str::FromStr;

use aquifer_runtime::files::simulated::{Moment, SimDisk};
use aquifer_tiering::testing::bucket::{self, SimBucket};

use crate::seeds;

/// The seed of the reference workload.
const REFERENCE: u64 = 7;

/// Where the machine stops, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Trap {
    place: Place,
    number: u64,
    moment: Moment,
    pub(crate) end: End,
}

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Disk,
    Bucket,
}

/// What the machine loses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// All that was not synced, or some of it.
    PowerCut,
    /// The process alone.
    Kill,
}

impl Trap {
    /// One that no run comes to.
    fn nowhere() -> Trap {
        Trap { place: Place::Disk, number: u64::MAX, moment: Moment::Before, end: End::Kill }
    }

    pub(crate) fn set(self, disk: &SimDisk, bucket: &SimBucket) {
        match (self.place, self.moment) {
            (Place::Disk, moment) => disk.stop_at(self.number, moment),
            (Place::Bucket, Moment::Before) => bucket.strike_at(self.number, bucket::Moment::Before),
            (Place::Bucket, _) => bucket.strike_at(self.number, bucket::Moment::After),
        }
    }
}

impl fmt::Display for Trap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}:{}:{:?}:{:?}", self.place, self.number, self.moment, self.end)
    }
}

impl FromStr for Trap {
    type Err = String;

    fn from_str(text: &str) -> Result<Trap, String> {
        let wrong = || format!("{text} is no place:number:moment:end");
        let [place, number, moment, end] =
            <[&str; 4]>::try_from(text.split(':').collect::<Vec<_>>()).map_err(|_| wrong())?;
        Ok(Trap {
            place: match place {
                "Disk" => Place::Disk,
                "Bucket" => Place::Bucket,
                _ => return Err(wrong()),
            },
            number: number.parse().map_err(|_| wrong())?,
            moment: match moment {
                "Before" => Moment::Before,
                "Within" => Moment::Within,
                "After" => Moment::After,
                _ => return Err(wrong()),
            },
            end: match end {
                "PowerCut" => End::PowerCut,
                "Kill" => End::Kill,
                _ => return Err(wrong()),
            },
        })
    }
}

/// Every operation, or each of these many.
pub(crate) fn run_all(every: u64) -> ExitCode {
    let reference = seeds::child(REFERENCE, &["--trap", &Trap::nowhere().to_string()]);
    seeds::complain(&reference, &format!("--seed {REFERENCE} --trap {}", Trap::nowhere()));
    let (operations, requests) = (reference.disk_operations, reference.node_requests);
    println!(
        "the reference workload: {operations} operations of the disk, {requests} requests to the bucket"
    );
    let mut traps = Vec::new();
    let moments = [Moment::Before, Moment::Within, Moment::After];
    for (place, count) in [(Place::Disk, operations), (Place::Bucket, requests)] {
        for number in (1..=count).step_by(usize::try_from(every).unwrap_or(usize::MAX)) {
            for moment in moments {
                // A request is carried out or not.
                if place == Place::Bucket && moment == Moment::Within {
                    continue;
                }
                let ends = [End::PowerCut, End::Kill];
                traps.extend(ends.map(|end| Trap { place, number, moment, end }));
            }
        }
    }
    let outcomes = seeds::side_by_side(&traps, |trap| {
        let trap = trap.to_string();
        let mut outcome = seeds::child(REFERENCE, &["--trap", &trap]);
        if outcome.blows == 0 && outcome.violations.is_empty() {
            outcome.violations.push("the machine never came to this operation".to_owned());
        }
        seeds::complain(&outcome, &format!("--seed {REFERENCE} --trap {trap}"));
        outcome
    });
    seeds::tell(&outcomes)
}
