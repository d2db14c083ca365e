//! Damage at random places of every kind of file and object: flipped bits, lost ends, blocks of another place, zeros.
//!
//! Of each place: was it detected (named in the broker's log, or in its refusal to start; where it is in the bucket, also by `aquifer
//! tier verify --deep`), was anything wrong given to a client, and was it mended where there is a good copy? A round harms many
//! files, each in one place. First clients read all of it, with no scrub about; then the scrub looks, and all is read again.

use crate::broker::Broker;
use crate::flags::Flags;
use crate::run::command;
use crate::{places, s3};
use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Chance, by its seed.
mod dice;
/// What is done to a file.
mod harm;
/// A client that goes on where it is refused.
mod reader;
/// What can be harmed.
mod sites;
/// What came of it.
mod tally;
/// What is harmed: a data directory and a bucket.
mod world;

use dice::Dice;
use reader::{Refused, held_against};
use sites::{Fate, Kind, Place, of_node, of_partition, partitions_of};
use tally::{Seen, Tally};
use world::{Id, TOPICS, World};

/// Of each partition in a round.
const PLACES_A_PARTITION: u64 = 3;
/// How long a client waits where it is refused, and where it must not be.
const REFUSED_PATIENCE: Duration = Duration::from_secs(4);
const PATIENCE: Duration = Duration::from_secs(30);
const MENDING_DEADLINE: Duration = Duration::from_secs(60);
const SCRUB_DEADLINE: Duration = Duration::from_secs(120);
const POLL: Duration = Duration::from_millis(50);
/// Looks at the bucket until all partitions have been claimed and looked at.
const LOOKS: u64 = 3;
const NO_SCRUB: [(&str, &str); 2] =
    [("log.scrub.bytes.per.second", "0"), ("tier.scrub.bytes.per.second", "0")];
const SCRUB: [(&str, &str); 4] = [
    ("log.scrub.bytes.per.second", "1073741824"),
    ("log.scrub.interval.ms", "1000"),
    ("tier.scrub.bytes.per.second", "1073741824"),
    ("tier.scrub.interval.ms", "1000"),
];
/// What may be harmed in a partition at once: one of these lines.
const MIXES: [&[Kind]; 8] = [
    &[Kind::SegmentWithCopy],
    &[Kind::Index, Kind::ProducerSnapshot, Kind::Checkpoint, Kind::PartitionFile],
    &[Kind::ObjectLogWithCopy, Kind::ObjectTailWithCopy],
    &[Kind::SegmentAlone],
    &[Kind::OpenSegment],
    &[Kind::ObjectLogAlone, Kind::ObjectTailAlone, Kind::ManifestFormer],
    &[Kind::ManifestPage],
    &[Kind::ManifestAtStart],
];
const OF_NODE: [Kind; 6] =
    [Kind::DirFormat, Kind::NodeFile, Kind::MetadataImage, Kind::RaftLog, Kind::Journal, Kind::ClusterMarker];

pub(crate) fn main(binary: &Path, mut flags: Flags) -> Result<()> {
    let places = flags.take("places", 1_000)?;
    let seed = flags.take("seed", std::process::id().into())?;
    flags.end()?;
    run(binary, places, seed)
}

/// Harms so many places at least.
pub(crate) fn run(binary: &Path, places: usize, seed: u64) -> Result<()> {
    places::has_room()?;
    println!("   seed {seed}");
    let began = Instant::now();
    let world = World::make(binary)?;
    println!("   made in {:.0} s", began.elapsed().as_secs_f64());
    let mut proof = Proof { binary, world, dice: Dice::new(seed), tally: Tally::default() };
    let mut round = 0;
    while proof.tally.places() < places {
        round += 1;
        // A node's own files take a start each, and are few; the running broker's manifests a round of their own.
        for _ in 0..6 {
            proof.node_round()?;
        }
        proof.live_round()?;
        proof.mixed_round()?;
        println!("   round {round}: {} places, {:.0} s", proof.tally.places(), began.elapsed().as_secs_f64());
    }
    let tally = proof.tally;
    println!("   {}", tally.to_string().replace('\n', "\n   "));
    ensure!(tally.is_clean(), "seed {seed}:\n{}", tally.faults.join("\n"));
    Ok(())
}

struct Proof<'a> {
    binary: &'a Path,
    world: World,
    dice: Dice,
    tally: Tally,
}

/// What `tier verify` says.
#[derive(Debug, Deserialize)]
struct Verified {
    problems: Vec<Problem>,
}

#[derive(Debug, Deserialize)]
struct Problem {
    object: Option<String>,
}

impl Proof<'_> {
    /// Harms many partitions' files while the broker is stopped.
    fn mixed_round(&mut self) -> Result<()> {
        self.world.restore()?;
        let places = self.harm_partitions()?;
        let verified = self.verify()?;
        // What clients come across by themselves.
        let broker = self.world.start(self.binary, "corrupt-read", &NO_SCRUB)?;
        self.read(&broker, &places, "reading")?;
        let said = ended(broker)?;
        // What the scrub finds, and what is left after it.
        let broker = self.world.start(self.binary, "corrupt-scrub", &SCRUB)?;
        wait_for_scrubs(&broker)?;
        let mending: Vec<&Place> =
            places.iter().filter(|place| place.site.kind.fate() == Fate::Mended).collect();
        self.wait_until_mended(&broker, &mending)?;
        self.read(&broker, &places, "mended")?;
        let damaged = broker.damaged()?.join("\n");
        let said = said + &ended(broker)?;
        let after = self.verify()?;
        for place in places {
            let name = self.name(&place)?;
            let key = self.world.key(&place.site.file);
            let by_verify = key.as_ref().is_some_and(|key| verified.contains(key));
            let still = key.as_ref().is_some_and(|key| after.contains(key)) || names(&damaged, &name);
            let only_verify = place.site.kind == Kind::ManifestFormer;
            let seen = Seen {
                detected: names(&said, &name) || (only_verify && by_verify),
                verified: by_verify,
                meaningless: false,
                mended: !still && self.is_whole(&place)?,
            };
            self.tally.count(&place, seen);
        }
        Ok(())
    }

    /// Harms the newest manifests of a broker that knows them.
    fn live_round(&mut self) -> Result<()> {
        self.world.restore()?;
        let broker = self.world.start(self.binary, "corrupt-live", &SCRUB)?;
        wait_for_scrubs(&broker)?;
        let mut places = Vec::new();
        for id in partitions_of(Kind::ManifestLive).into_iter().take(3) {
            for site in of_partition(&self.world, Kind::ManifestLive, id)? {
                places.push(site.harm(&mut self.dice)?);
            }
        }
        let verified = self.verify()?;
        let now = broker.metric(LOOKS_AT_BUCKET)?;
        wait_for(&broker, LOOKS_AT_BUCKET, now + 2)?;
        self.read(&broker, &[], "while manifests were damaged")?;
        let damaged = broker.damaged()?.join("\n");
        let said = ended(broker)?;
        for place in places {
            let name = self.name(&place)?;
            let newest =
                of_partition(&self.world, Kind::ManifestLive, place.site.of.context("a partition")?)?;
            let replaced = newest.iter().all(|newest| newest.file != place.site.file);
            let seen = Seen {
                detected: names(&said, &name),
                verified: verified.contains(&name),
                meaningless: false,
                mended: replaced && !names(&damaged, &name),
            };
            self.tally.count(&place, seen);
        }
        Ok(())
    }

    /// Harms one file of the node, and starts the broker on it.
    fn node_round(&mut self) -> Result<()> {
        let kind = *self.dice.pick(&OF_NODE).context("kinds")?;
        match kind {
            Kind::Journal => self.world.restore_killed()?,
            _ => self.world.restore()?,
        }
        let mut sites = of_node(&self.world, kind)?;
        self.dice.shuffle(&mut sites);
        // A metadata image is only there once there was a snapshot.
        let Some(site) = sites.pop() else { return Ok(()) };
        let place = site.harm(&mut self.dice)?;
        let name = self.name(&place)?;
        let seen = match self.world.start(self.binary, "corrupt-node", &NO_SCRUB) {
            Err(refused) => {
                let refused = format!("{refused:#}");
                let detected = names(&refused, &name);
                if !detected {
                    println!("   {place}: refused without a word of it: {refused}");
                }
                Seen { detected, ..Seen::default() }
            }
            Ok(broker) => {
                self.read(&broker, &[], "on a harmed node")?;
                let said = ended(broker)?;
                let detected = names(&said, &name);
                // All is there and served: what was harmed had no meaning, if nobody has told of it.
                let meaningless = !detected && matches!(kind, Kind::RaftLog | Kind::Journal);
                Seen { detected, meaningless, mended: detected, ..Seen::default() }
            }
        };
        self.tally.count(&place, seen);
        Ok(())
    }

    fn harm_partitions(&mut self) -> Result<Vec<Place>> {
        let mut ids: Vec<Id> =
            TOPICS.iter().flat_map(|topic| (0..topic.partitions).map(|index| (topic.name, index))).collect();
        self.dice.shuffle(&mut ids);
        let mut places = Vec::new();
        for id in ids {
            let mixes: Vec<&[Kind]> = MIXES
                .iter()
                .copied()
                .filter(|mix| mix.iter().any(|kind| partitions_of(*kind).contains(&id)))
                .collect();
            let Some(mix) = self.dice.pick(&mixes) else { continue };
            let mut sites = Vec::new();
            for kind in mix.iter().filter(|kind| partitions_of(**kind).contains(&id)) {
                sites.extend(of_partition(&self.world, *kind, id)?);
            }
            self.dice.shuffle(&mut sites);
            let count = 1 + self.dice.below(PLACES_A_PARTITION);
            let mut files = BTreeSet::new();
            for site in sites {
                if files.len() as u64 >= count || !files.insert(site.file.clone()) {
                    continue;
                }
                places.push(site.harm(&mut self.dice)?);
            }
        }
        Ok(places)
    }

    /// Reads everything, all partitions side by side; what has no good copy may be refused, and nothing else.
    fn read(&mut self, broker: &Broker, places: &[Place], when: &str) -> Result<()> {
        let mut lost: BTreeMap<Id, Vec<Option<i64>>> = BTreeMap::new();
        for place in places.iter().filter(|place| place.site.kind.fate() == Fate::Refused) {
            let Some(id) = place.site.of else { continue };
            // A log whose end is damaged is refused as a whole until somebody decides about it.
            let base = place.site.base().filter(|_| place.site.kind != Kind::OpenSegment);
            lost.entry(id).or_default().push(base);
        }
        let (world, lost) = (&self.world, &lost);
        let outcomes = std::thread::scope(|scope| {
            let reading: Vec<_> = world
                .truth
                .iter()
                .map(|(id, truth)| {
                    let bases = &world.bases[id];
                    let how = match lost.get(id) {
                        None => (PATIENCE, Refused::GoOn),
                        Some(bases) if bases.contains(&None) => (REFUSED_PATIENCE, Refused::End),
                        Some(_) => (REFUSED_PATIENCE, Refused::GoOn),
                    };
                    let from = (broker.bootstrap.as_str(), id.0, id.1);
                    (*id, scope.spawn(move || held_against(truth, bases, from, how)))
                })
                .collect();
            reading.into_iter().map(|(id, reading)| (id, reading.join())).collect::<Vec<_>>()
        });
        for (id, outcome) in outcomes {
            let outcome = outcome.map_err(|_| anyhow::anyhow!("a reader panicked"))??;
            self.tally.right += outcome.right;
            self.tally.wrong += outcome.wrong.len();
            let (topic, partition) = id;
            if !outcome.wrong.is_empty() {
                let some = &outcome.wrong[..outcome.wrong.len().min(5)];
                self.tally
                    .faults
                    .push(format!("{when}: {topic}-{partition} gave something wrong at {some:?}"));
            }
            let may = lost.get(&id).cloned().unwrap_or_default();
            for base in outcome.refused {
                if !may.contains(&None) && !may.contains(&Some(base)) {
                    self.tally.missed += 1;
                    self.tally.faults.push(format!("{when}: {topic}-{partition} was refused from {base} on"));
                }
            }
        }
        Ok(())
    }

    /// Waits until the broker says of none of these that it is damaged.
    fn wait_until_mended(&self, broker: &Broker, places: &[&Place]) -> Result<()> {
        let names: Vec<String> = places.iter().map(|place| self.name(place)).collect::<Result<_>>()?;
        let began = Instant::now();
        while began.elapsed() < MENDING_DEADLINE {
            let damaged = broker.damaged()?.join("\n");
            if !names.iter().any(|name| self::names(&damaged, name)) {
                return Ok(());
            }
            sleep(POLL);
        }
        // Told by the tally.
        Ok(())
    }

    /// What a file is called in logs: an object by its key, a file by its path.
    fn name(&self, place: &Place) -> Result<String> {
        let file = &place.site.file;
        Ok(self.world.key(file).unwrap_or_else(|| file.to_string_lossy().into_owned()))
    }

    /// Whether a segment's bytes are what they were; of other files that is not asked, since they go on.
    fn is_whole(&self, place: &Place) -> Result<bool> {
        if place.site.kind != Kind::SegmentWithCopy {
            return Ok(true);
        }
        let found = std::fs::read(&place.site.file)?;
        Ok(found == std::fs::read(self.world.kept(&place.site.file)?)?)
    }

    /// The objects in which `tier verify --deep` finds something wrong.
    fn verify(&self) -> Result<BTreeSet<String>> {
        let url = format!("file://{}", self.world.bucket().display());
        let words = ["tier", "verify", "--deep", "--json", "--object-store", &url];
        let done = command(self.binary, words).envs(s3::KEYS).output().context("starting tier verify")?;
        let said = String::from_utf8_lossy(&done.stdout);
        let verified: Verified = serde_json::from_str(&said).with_context(|| {
            format!("what tier verify says: {said}{}", String::from_utf8_lossy(&done.stderr))
        })?;
        Ok(verified.problems.into_iter().filter_map(|problem| problem.object).collect())
    }
}

const LOOKS_AT_LOGS: &str = "aquifer_replica_scrubs_local_total";
const LOOKS_AT_BUCKET: &str = "aquifer_replica_scrubs_bucket_total";

fn wait_for_scrubs(broker: &Broker) -> Result<()> {
    wait_for(broker, LOOKS_AT_LOGS, 2)?;
    wait_for(broker, LOOKS_AT_BUCKET, LOOKS)
}

fn wait_for(broker: &Broker, metric: &str, count: u64) -> Result<()> {
    let began = Instant::now();
    while broker.metric(metric)? < count {
        ensure!(began.elapsed() < SCRUB_DEADLINE, "{metric} is not {count} after {SCRUB_DEADLINE:?}");
        sleep(POLL);
    }
    Ok(())
}

/// Ends a broker, and gives what it said of its troubles.
fn ended(broker: Broker) -> Result<String> {
    let log = broker.log().to_owned();
    broker.end()?;
    let said = std::fs::read_to_string(&log).with_context(|| format!("reading {}", log.display()))?;
    ensure!(!said.contains("panicked"), "the broker panicked: see {}", log.display());
    let troubles = said.lines().filter(|line| line.contains(" WARN ") || line.contains("ERROR "));
    Ok(troubles.map(|line| format!("{line}\n")).collect())
}

/// Whether a text names this file or object, and not one whose name only begins so.
fn names(text: &str, name: &str) -> bool {
    text.match_indices(name).any(|(at, _)| {
        let next = text[at + name.len()..].chars().next();
        next.is_none_or(|next| !next.is_alphanumeric() && next != '.' && next != '/' && next != '-')
    })
}
