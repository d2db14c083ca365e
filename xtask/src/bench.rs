//! Aquifer beside Apache Kafka: `cargo xtask bench`, and what the machine itself can do at best: `cargo xtask bench floor`.
//!
//! The two run in turn, A B A B A B, on the same core, with empty data folders, for one case after the other; but all of the matrix by
//! one broker, then by the other. Replays from MinIO stand beside plain GETs: there is no Kafka that could make them.

use crate::flags::Flags;
use crate::replay::{self, Replayed, Store};
use crate::run::{command, output};
use crate::{built, network, places, process};
use anyhow::{Context, Result, bail, ensure};
use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::time::Duration;

/// Whether the machine is quiet.
mod canary;
/// A page cache that is kept full.
mod page_cache;
/// The machine's floor.
mod floor;
/// Aquifer and Kafka, each on one core.
mod contender;
/// What is measured.
mod cases;
/// One run's figures.
mod load;
/// What a broker costs without a load.
mod standing;
/// JSON, a page, plots.
mod report;

use canary::{Canary, Verdict};
use cases::{CASES, Case, MATRIX};
use contender::{Contender, LOAD_CORE, Programs, Who};
use floor::Work;
use load::Figures;
use page_cache::Full;
use report::{CaseResult, Pair, ProbeResult, ReplayResult, ReplayRun, Report};
use standing::{PROBES, Probe};

/// Times that a pair is measured again because the machine was not quiet.
const REPEATS_MAX: usize = 2;
/// The most that one second of a case writes, and what brokers need to be left on their disk.
const BYTES_PER_S_MAX: u64 = 1_500_000_000;
const SPARE_BYTES: u64 = 12_000_000_000;
/// How long a broker is warmed up, at the most, for a case that has done others like it.
const WARM_ALREADY: Duration = Duration::from_secs(10);
const FLOOR_BYTES: [usize; 3] = [1 << 20, 64 << 10, 16 << 10];

/// Runs the cases, and writes what came of them.
pub(crate) fn main(mut flags: Flags) -> Result<()> {
    let only: String = flags.take("cases", "all".to_owned())?;
    let pairs: usize = flags.take("pairs", 3)?;
    let seconds: u64 = flags.take("seconds", 10)?;
    let warm: u64 = flags.take("warm", 20)?;
    let out: PathBuf = flags.take("out", places::root().join("docs"))?;
    let (network_threads, io_threads) =
        (flags.take("kafka-network-threads", 3)?, flags.take("kafka-io-threads", 8)?);
    let given: PathBuf = flags.take("binary", PathBuf::new())?;
    let is_given = !given.as_os_str().is_empty();
    let cache: String = flags.take("page-cache", "full".to_owned())?;
    flags.end()?;
    ensure!(cache == "full" || cache == "as-is", "--page-cache is full or as-is, not '{cache}'");
    let Chosen { cases, matrix, probes, replays } = chosen(&only)?;
    ensure!(pairs > 0 && seconds > 0, "--pairs and --seconds are 1 or more");
    let programs = contender::programs(built::or_given("release", given)?, (network_threads, io_threads))?;
    for case in cases.iter().chain(&matrix) {
        contender::understands(&programs.aquifer, case.words)?;
    }
    if !replays.is_empty() {
        replay::install()?;
    }
    network::enter_own()?;
    let mut run = Run {
        programs,
        warm: Duration::from_secs(warm),
        during: Duration::from_secs(seconds),
        canary: Canary::default(),
        cache: (cache == "full").then(Full::fill).transpose()?,
        floors: HashMap::new(),
    };
    let mut machine = machine()?;
    if is_given {
        machine.insert(
            "Aquifer".to_owned(),
            format!("as built before, by --binary {}", run.programs.aquifer.display()),
        );
    }
    let kept = run.cache.as_ref().map_or_else(|| "no: these figures mean nothing".to_owned(), Full::shown);
    machine.insert("page cache kept full".to_owned(), kept);
    machine.insert("Kafka's threads".to_owned(), format!("{network_threads} network, {io_threads} io"));
    let command = std::env::args().skip(1).collect::<Vec<_>>().join(" ");
    let command = format!("cargo xtask {command}");
    let mut report = Report { machine, command, ..Report::default() };
    // What was measured is not lost if the next one fails.
    for case in cases {
        println!("\n== {}: {}", case.name, case.what);
        report.cases.push(run.case(case, pairs)?);
        report.write(&out)?;
    }
    // Before the probes, behind which this process and all that it starts have one core.
    for (name, what, store) in replays {
        println!("\n== {name}: {what}");
        report.replays.push(run.replay(name, what, *store, pairs)?);
        report.write(&out)?;
    }
    for probe in probes {
        println!("\n== {}: {}", probe.name, probe.what);
        report.probes.push(run.probe(probe, pairs)?);
        report.write(&out)?;
    }
    if !matrix.is_empty() {
        println!("\n== the matrix: size of a record, partitions, acks");
        let before = report.cases.len();
        for _ in 0..pairs {
            let pair = run.matrix(&matrix)?;
            for (number, (case, pair)) in matrix.iter().zip(pair).enumerate() {
                match report.cases.get_mut(before + number) {
                    Some(result) => result.pairs.push(pair),
                    None => report.cases.push(run.of_case(case, vec![pair])?),
                }
            }
            report.write(&out)?;
        }
    }
    println!("\nwritten to {}", out.join("benchmarks.md").display());
    Ok(())
}

/// The machine's floor alone.
pub(crate) fn floor(mut flags: Flags) -> Result<()> {
    let seconds: u64 = flags.take("seconds", 5)?;
    flags.end()?;
    network::enter_own()?;
    let _cache = Full::fill()?;
    println!("{:<10} {:>10} {:>10} {:>12}", "work", "bytes", "MB/s", "CPU s/GB");
    for work in [Work::Produce, Work::Fetch] {
        for bytes in FLOOR_BYTES {
            let found = floor::measure(work, bytes, Duration::from_secs(seconds))?;
            let name = format!("{work:?}").to_lowercase();
            println!("{name:<10} {bytes:>10} {:>10.0} {:>12.3}", found.mb_per_second, found.cpu_per_gb);
        }
    }
    Ok(())
}

/// What is asked for.
#[derive(Default)]
struct Chosen {
    cases: Vec<&'static Case>,
    matrix: Vec<&'static Case>,
    probes: Vec<&'static Probe>,
    replays: Vec<&'static Replay>,
}

/// A history that is replayed: its name, what it is, and where it lies.
type Replay = (&'static str, &'static str, Store);

const REPLAYS: &[Replay] = &[
    (
        "replay-s3",
        "2 GB of one partition, in MinIO alone, behind a proxy with 30 ms to the first byte and 90 MB/s a connection",
        Store::Slow,
    ),
    ("replay-minio", "the same, without the proxy: all on the same two cores", Store::Bare),
];

fn chosen(only: &str) -> Result<Chosen> {
    let mut chosen = Chosen::default();
    let count = |it: &Chosen| it.cases.len() + it.matrix.len() + it.probes.len() + it.replays.len();
    for name in only.split(',') {
        let found = |known: &str| known == name || name == "all";
        let before = count(&chosen);
        chosen.cases.extend(CASES.iter().filter(|case| found(case.name)));
        chosen.matrix.extend(MATRIX.iter().filter(|case| found(case.name) || name == "matrix"));
        chosen.probes.extend(PROBES.iter().filter(|probe| found(probe.name)));
        chosen.replays.extend(REPLAYS.iter().filter(|(known, ..)| found(known)));
        ensure!(count(&chosen) > before, "no such case: {name}");
    }
    Ok(chosen)
}

struct Run {
    programs: Programs,
    warm: Duration,
    during: Duration,
    canary: Canary,
    /// Not if it was asked to leave it as it is, which is to try the harness and not to measure.
    cache: Option<Full>,
    floors: HashMap<(bool, usize), f64>,
}

impl Run {
    fn case(&mut self, case: &Case, pairs: usize) -> Result<CaseResult> {
        let done = self.pairs(pairs, |run, who| run.measure(case, who))?;
        self.of_case(case, done)
    }

    fn of_case(&mut self, case: &Case, pairs: Vec<Pair<Figures>>) -> Result<CaseResult> {
        let floor_cpu_s_per_gb = case.floor.map(|(work, bytes)| self.floor(work, bytes)).transpose()?;
        Ok(CaseResult {
            name: case.name.to_owned(),
            what: case.what.to_owned(),
            lane: case.lane.name().to_owned(),
            command: format!("bench {}", case.words),
            pairs,
            floor_cpu_s_per_gb,
        })
    }

    /// Cases that are so much alike that a broker which was warmed up for one is nearly warm for all: the pairs of all of them.
    fn matrix(&mut self, cases: &[&Case]) -> Result<Vec<Pair<Figures>>> {
        let aquifer = self.measure_all(cases, Who::Aquifer)?;
        let kafka = self.measure_all(cases, Who::Kafka)?;
        let pairs = aquifer.into_iter().zip(kafka);
        let pairs =
            pairs.map(|((aquifer, why), (kafka, other))| Pair { aquifer, kafka, contended: why.or(other) });
        Ok(pairs.collect())
    }

    /// All by one broker, one after the other; what each has written goes before the next. With each, why the machine was not quiet.
    fn measure_all(&mut self, cases: &[&Case], who: Who) -> Result<Vec<(Figures, Option<String>)>> {
        let Some(first) = cases.first() else { return Ok(Vec::new()) };
        let mut before = self.canary.look()?;
        let contender = Contender::start(who, first.lane, &self.programs)?;
        let mut warm = self.warm;
        let mut all = Vec::new();
        for case in cases {
            self.has_room()?;
            let figures = load::run(&contender, case, warm, self.during)
                .with_context(|| format!("{} by {}", case.name, who.name()))?;
            contender.delete_topic(case.name)?;
            told(who, &figures);
            let after = self.canary.look()?;
            let contended = [before, after.clone()].into_iter().find_map(Verdict::contended);
            all.push((figures, contended));
            before = after;
            warm = self.warm.min(WARM_ALREADY);
        }
        contender.end()?;
        Ok(all)
    }

    fn probe(&mut self, probe: &Probe, pairs: usize) -> Result<ProbeResult> {
        let done = self.pairs(pairs, |run, who| run.look(probe, who))?;
        let measures = probe.measures.iter().map(|of| (of.name.to_owned(), of.unit.to_owned())).collect();
        Ok(ProbeResult { name: probe.name.to_owned(), what: probe.what.to_owned(), measures, pairs: done })
    }

    /// So many times.
    fn replay(&mut self, name: &str, what: &str, store: Store, times: usize) -> Result<ReplayResult> {
        let mut runs = Vec::new();
        let mut before = self.canary.look()?;
        for _ in 0..times {
            self.has_room()?;
            let found = replay::measure(&self.programs.aquifer, store, replay::MB, replay::VALUE_BYTES)?;
            let after = self.canary.look()?;
            let contended = [before, after.clone()].into_iter().find_map(Verdict::contended);
            before = after;
            let Replayed { cold, again, many, .. } = &found;
            println!(
                "   cold {:.0} MB/s, {:.2} of plain GETs, CPU {:.2} s/GB; again {:.0} MB/s; by ten {:.0} MB/s",
                cold.mb_per_s,
                found.share(),
                cold.cpu_s_per_gb,
                again.mb_per_s,
                many.mb_per_s
            );
            runs.push(ReplayRun { found, contended });
        }
        Ok(ReplayResult { name: name.to_owned(), what: what.to_owned(), runs })
    }

    fn pairs<T>(
        &mut self,
        pairs: usize,
        mut measure: impl FnMut(&mut Run, Who) -> Result<T>,
    ) -> Result<Vec<Pair<T>>> {
        (0..pairs).map(|_| self.pair(&mut measure)).collect()
    }

    /// Both, until the machine was quiet before and behind it.
    fn pair<T>(&mut self, mut measure: impl FnMut(&mut Run, Who) -> Result<T>) -> Result<Pair<T>> {
        let mut repeats = 0;
        loop {
            let before = self.canary.look()?;
            let aquifer = measure(self, Who::Aquifer)?;
            let kafka = measure(self, Who::Kafka)?;
            let verdicts = [before, self.canary.look()?];
            let contended = verdicts.into_iter().find_map(Verdict::contended);
            match &contended {
                Some(why) if repeats < REPEATS_MAX => println!("   contended ({why}): once more"),
                _ => return Ok(Pair { aquifer, kafka, contended }),
            }
            repeats += 1;
        }
    }

    fn look(&mut self, probe: &Probe, who: Who) -> Result<Vec<f64>> {
        self.has_room()?;
        // Who looks has the load's core; from here on that is all that there is to do.
        process::pin(std::process::id(), LOAD_CORE)?;
        let found = probe.run(who, &self.programs)?;
        for (measure, number) in probe.measures.iter().zip(&found) {
            println!("   {:<8} {:<44} {number:>10.1} {}", who.name(), measure.name, measure.unit);
        }
        Ok(found)
    }

    /// Has the page cache full again, and sees that the disk is not.
    fn has_room(&self) -> Result<()> {
        self.cache.as_ref().map(Full::touch).transpose()?;
        let written = self.during.as_secs() * BYTES_PER_S_MAX + self.warm.as_secs() * load::WARM_BYTES_PER_S;
        let (free, needed) = (places::free_bytes()?, SPARE_BYTES + written);
        ensure!(
            free > needed,
            "{} GB are free for the data of brokers, and {} may be needed: fewer --seconds need less",
            free / 1_000_000_000,
            needed / 1_000_000_000
        );
        Ok(())
    }

    fn measure(&mut self, case: &Case, who: Who) -> Result<Figures> {
        self.has_room()?;
        let contender = Contender::start(who, case.lane, &self.programs)?;
        let figures = load::run(&contender, case, self.warm, self.during)
            .with_context(|| format!("{} by {}", case.name, who.name()))?;
        contender.end()?;
        told(who, &figures);
        Ok(figures)
    }

    fn floor(&mut self, work: Work, bytes: usize) -> Result<f64> {
        let key = (work == Work::Produce, bytes);
        if let Some(known) = self.floors.get(&key) {
            return Ok(*known);
        }
        let found = floor::measure(work, bytes, Duration::from_secs(5))?.cpu_per_gb;
        println!("   floor    {bytes} bytes: CPU {found:.2} s/GB");
        self.floors.insert(key, found);
        Ok(found)
    }
}

fn told(who: Who, figures: &Figures) {
    println!(
        "   {:<8} {:>7.0} MB/s {:>9.0} records/s  CPU {:.2} s/GB, {:.0} us a request  p50 {:.2} p99 {:.2} p99.9 {:.1} ms",
        who.name(),
        figures.mb_per_s,
        figures.records_per_s,
        figures.cpu_s_per_gb,
        figures.cpu_us_per_request,
        figures.p50_ms,
        figures.p99_ms,
        figures.p999_ms
    );
}

/// What it was measured on.
fn machine() -> Result<BTreeMap<String, String>> {
    let mut told = BTreeMap::new();
    let first_line = |text: String| text.lines().next().unwrap_or_default().trim().to_owned();
    let processor = std::fs::read_to_string("/proc/cpuinfo")?;
    let name = processor.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    let Some((_, name)) = name else { bail!("no model name in /proc/cpuinfo") };
    told.insert("processor".to_owned(), name.trim().to_owned());
    told.insert("kernel".to_owned(), first_line(output(&mut command("uname", ["-sr"]))?));
    let commit = output(command("git", ["rev-parse", "--short", "HEAD"]).current_dir(places::root()))?;
    let changes = output(command("git", ["status", "--porcelain"]).current_dir(places::root()))?;
    let with = if changes.is_empty() { "" } else { ", with changes that are not committed" };
    told.insert("Aquifer".to_owned(), format!("{}{with}", first_line(commit)));
    told.insert("Kafka".to_owned(), crate::pins::Pins::read()?.java_kafka_tools);
    Ok(told)
}
