//! Aquifer beside Apache Kafka: `cargo xtask bench`, and what the machine itself can do at best: `cargo xtask bench floor`.
//!
//! The two run in turn on the same core: all cases of a lane by one broker, then by the other, since a JVM takes a minute under load to be
//! as fast as it gets. So it goes in rounds, a pair of each case in a round: a run that has to end early has the same of all. Behind
//! the last, what a busy machine has spoilt is measured again while there is time. Replays from MinIO stand beside plain GETs: there
//! is no Kafka that could make them.

use crate::flags::Flags;
use crate::replay::{self, Replayed, Store};
use crate::run::{command, output};
use crate::{built, network, places, process};
use anyhow::{Context, Result, bail, ensure};
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

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
use contender::{BOTH_CORES, Contender, LOAD_CORE, Lane, Programs, Who};
use floor::Work;
use load::Figures;
use page_cache::Full;
use report::{CaseResult, Pair, ProbeResult, ReplayResult, ReplayRun, Report};
use standing::{PROBES, Probe};

/// Times that what was measured while the machine was not quiet is measured again.
const REPEATS_MAX: usize = 2;
/// How long after the last round something may be begun again.
const AGAIN_MINUTES: u64 = 60;
/// How long Kafka is under load before anything of it counts, and Aquifer, which has nothing to compile.
const WARM_KAFKA_SECONDS: u64 = 60;
const WARM_AQUIFER: Duration = Duration::from_secs(5);
/// How long each case goes on before it counts.
const WARM_CASE: Duration = Duration::from_secs(5);
/// The most that one second of a case writes, and what brokers need to be left on their disk.
const BYTES_PER_S_MAX: u64 = 1_500_000_000;
const SPARE_BYTES: u64 = 12_000_000_000;
/// How long a floor is measured beside a case.
const FLOOR_DURING: Duration = Duration::from_secs(5);
const FLOOR_BYTES: [usize; 3] = [1 << 20, 64 << 10, 16 << 10];

/// Runs the cases, and writes what came of them.
pub(crate) fn main(mut flags: Flags) -> Result<()> {
    let only: String = flags.take("cases", "all".to_owned())?;
    let pairs: usize = flags.take("pairs", 3)?;
    let seconds: u64 = flags.take("seconds", 10)?;
    let warm: u64 = flags.take("warm", WARM_KAFKA_SECONDS)?;
    let again: u64 = flags.take("again-minutes", AGAIN_MINUTES)?;
    let out: PathBuf = flags.take("out", places::root().join("docs"))?;
    let (network_threads, io_threads) =
        (flags.take("kafka-network-threads", 3)?, flags.take("kafka-io-threads", 8)?);
    let given: PathBuf = flags.take("binary", PathBuf::new())?;
    let is_given = !given.as_os_str().is_empty();
    let cache: String = flags.take("page-cache", "full".to_owned())?;
    flags.end()?;
    ensure!(cache == "full" || cache == "as-is", "--page-cache is full or as-is, not '{cache}'");
    let chosen = chosen(&only)?;
    ensure!(pairs > 0 && seconds > 0, "--pairs and --seconds are 1 or more");
    let programs = contender::programs(built::or_given("release", given)?, (network_threads, io_threads))?;
    for case in &chosen.cases {
        contender::understands(&programs.aquifer, case.words)?;
    }
    if !chosen.replays.is_empty() {
        replay::install()?;
    }
    network::enter_own()?;
    process::pin(std::process::id(), BOTH_CORES)?;
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
    let cases = chosen.cases.iter().map(|case| CaseResult::new(case)).collect();
    let mut report = Report { machine, command, cases, ..Report::default() };
    for round in 1..=pairs {
        println!("\n#### round {round} of {pairs}");
        run.round(&chosen, &mut report, &out)?;
    }
    let until = Instant::now() + Duration::from_mins(again);
    for _ in 0..REPEATS_MAX {
        if !run.again(&chosen, &mut report, (&out, until))? {
            break;
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
    let count = |it: &Chosen| it.cases.len() + it.probes.len() + it.replays.len();
    for name in only.split(',') {
        let found = |known: &str| known == name || name == "all";
        let before = count(&chosen);
        chosen.cases.extend(CASES.iter().filter(|case| found(case.name)));
        chosen.cases.extend(MATRIX.iter().filter(|case| found(case.name) || name == "matrix"));
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
    /// Of this round, or of the pair that was measured again last.
    floors: HashMap<(bool, usize), f64>,
}

impl Run {
    /// A pair of each. What was measured is not lost if the next one fails.
    fn round(&mut self, chosen: &Chosen, report: &mut Report, out: &Path) -> Result<()> {
        self.floors.clear();
        for lane in Lane::ALL {
            let of_lane = |number: &usize| chosen.cases[*number].lane == lane;
            let numbers: Vec<usize> = (0..chosen.cases.len()).filter(of_lane).collect();
            let cases: Vec<&Case> = numbers.iter().map(|number| chosen.cases[*number]).collect();
            for (number, pair) in numbers.into_iter().zip(self.side_by_side(&cases)?) {
                let floor = self.floor_of(chosen.cases[number])?;
                report.cases[number].add(pair, floor);
            }
            report.write(out)?;
        }
        for (number, (name, what, store)) in chosen.replays.iter().enumerate() {
            println!("\n== {name}: {what}");
            let replayed = self.replay(*store)?;
            at(&mut report.replays, number, || ReplayResult::new(name, what)).runs.push(replayed);
            report.write(out)?;
        }
        for (number, probe) in chosen.probes.iter().enumerate() {
            println!("\n== {}: {}", probe.name, probe.what);
            let pair = self.pair(|run, who| run.look(probe, who))?;
            at(&mut report.probes, number, || ProbeResult::new(probe)).pairs.push(pair);
            report.write(out)?;
        }
        Ok(())
    }

    /// Each pair during which the machine was not quiet once more. It takes the place of the first one if the machine is quiet now.
    /// Says whether there was time for all of them.
    fn again(
        &mut self,
        chosen: &Chosen,
        report: &mut Report,
        (out, until): (&Path, Instant),
    ) -> Result<bool> {
        for (case, number) in contended(&report.cases, |case| &case.pairs) {
            if !has_time(until, &report.cases[case].name, number) {
                return Ok(false);
            }
            let pair = self.side_by_side(&[chosen.cases[case]])?.pop().context("a pair was measured")?;
            if pair.contended.is_none() {
                self.floors.clear();
                let floor = self.floor_of(chosen.cases[case])?;
                report.cases[case].replace(number, pair, floor);
            }
            report.write(out)?;
        }
        for (probe, number) in contended(&report.probes, |probe| &probe.pairs) {
            if !has_time(until, &report.probes[probe].name, number) {
                return Ok(false);
            }
            let pair = self.pair(|run, who| run.look(chosen.probes[probe], who))?;
            if pair.contended.is_none() {
                report.probes[probe].pairs[number] = pair;
            }
            report.write(out)?;
        }
        Ok(true)
    }

    /// All of them, which are of one lane, by one broker and then by the other.
    fn side_by_side(&mut self, cases: &[&Case]) -> Result<Vec<Pair<Figures>>> {
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
        println!("\n== {} ({})", who.name(), first.lane.name());
        self.has_room()?;
        let contender = Contender::start(who, first.lane, &self.programs)?;
        let warm = match who {
            Who::Aquifer => self.warm.min(WARM_AQUIFER),
            Who::Kafka => self.warm,
        };
        load::warm_up(&contender, warm)?;
        let mut before = self.canary.look()?;
        let mut all = Vec::new();
        for case in cases {
            self.has_room()?;
            let figures = load::run(&contender, case, self.warm.min(WARM_CASE), self.during)
                .with_context(|| format!("{} by {}", case.name, who.name()))?;
            contender.delete_topic(case.name)?;
            told(case, &figures);
            let after = self.canary.look()?;
            let contended = [before, after.clone()].into_iter().find_map(Verdict::contended);
            if let Some(why) = &contended {
                println!("   contended: {why}");
            }
            all.push((figures, contended));
            before = after;
        }
        contender.end()?;
        Ok(all)
    }

    fn replay(&mut self, store: Store) -> Result<ReplayRun> {
        let before = self.canary.look()?;
        self.has_room()?;
        let found = replay::measure(&self.programs.aquifer, store, replay::MB, replay::VALUE_BYTES)?;
        let contended = [before, self.canary.look()?].into_iter().find_map(Verdict::contended);
        let Replayed { cold, again, kcat, kcats, .. } = &found;
        println!(
            "   cold {:.0} MB/s, {:.2} of plain GETs, CPU {:.2} s/GB; again {:.0} MB/s; by kcat {:.0}, by ten {:.0} MB/s",
            cold.mb_per_s,
            found.share(),
            cold.cpu_s_per_gb,
            again.mb_per_s,
            kcat.mb_per_s,
            kcats.mb_per_s
        );
        Ok(ReplayRun { found, contended })
    }

    /// Both, and whether the machine was quiet before and behind it.
    fn pair<T>(&mut self, mut measure: impl FnMut(&mut Run, Who) -> Result<T>) -> Result<Pair<T>> {
        let before = self.canary.look()?;
        let (aquifer, kafka) = (measure(self, Who::Aquifer)?, measure(self, Who::Kafka)?);
        let contended = [before, self.canary.look()?].into_iter().find_map(Verdict::contended);
        if let Some(why) = &contended {
            println!("   contended: {why}");
        }
        Ok(Pair { aquifer, kafka, contended })
    }

    fn look(&mut self, probe: &Probe, who: Who) -> Result<Vec<f64>> {
        self.has_room()?;
        // Who looks has the load's core.
        process::pin(std::process::id(), LOAD_CORE)?;
        let found = probe.run(who, &self.programs);
        process::pin(std::process::id(), BOTH_CORES)?;
        let found = found?;
        for (measure, number) in probe.measures.iter().zip(&found) {
            println!("   {:<8} {:<44} {number:>10.1} {}", who.name(), measure.name, measure.unit);
        }
        Ok(found)
    }

    /// Has the page cache full again, and sees that the disk is not.
    fn has_room(&self) -> Result<()> {
        self.cache.as_ref().map(Full::touch).transpose()?;
        let written = self.during.as_secs() * BYTES_PER_S_MAX + load::WRITTEN_BEFORE_MAX;
        let (free, needed) = (places::free_bytes()?, SPARE_BYTES + written);
        ensure!(
            free > needed,
            "{} GB are free for the data of brokers, and {} may be needed: fewer --seconds need less",
            free / 1_000_000_000,
            needed / 1_000_000_000
        );
        Ok(())
    }

    fn floor_of(&mut self, case: &Case) -> Result<Option<f64>> {
        case.floor.map(|(work, bytes)| self.floor(work, bytes)).transpose()
    }

    fn floor(&mut self, work: Work, bytes: usize) -> Result<f64> {
        let key = (work == Work::Produce, bytes);
        if let Some(known) = self.floors.get(&key) {
            return Ok(*known);
        }
        // The least of what other programs leave of it is what it is.
        let mut least = f64::INFINITY;
        for _ in 0..=REPEATS_MAX {
            let before = self.canary.look()?;
            least = least.min(floor::measure(work, bytes, FLOOR_DURING)?.cpu_per_gb);
            if [before, self.canary.look()?].into_iter().find_map(Verdict::contended).is_none() {
                break;
            }
        }
        println!("   floor    {bytes} bytes: CPU {least:.2} s/GB");
        self.floors.insert(key, least);
        Ok(least)
    }
}

/// The result at a place in the report, made by the first round.
fn at<T>(results: &mut Vec<T>, number: usize, new: impl FnOnce() -> T) -> &mut T {
    if number == results.len() {
        results.push(new());
    }
    &mut results[number]
}

/// Whether a pair is measured again, which is told.
fn has_time(until: Instant, name: &str, number: usize) -> bool {
    let has_time = Instant::now() < until;
    let what = if has_time { "once more" } else { "no time to measure it again" };
    println!("\n== {name}, pair {}, was contended: {what}", number + 1);
    has_time
}

/// The places of those pairs during which the machine was not quiet.
fn contended<T, F>(results: &[T], pairs: impl Fn(&T) -> &[Pair<F>]) -> Vec<(usize, usize)> {
    let places = |(at, result): (usize, &T)| {
        let pairs = pairs(result).iter().enumerate();
        pairs.filter(|(_, pair)| pair.contended.is_some()).map(|(number, _)| (at, number)).collect::<Vec<_>>()
    };
    results.iter().enumerate().flat_map(places).collect()
}

fn told(case: &Case, figures: &Figures) {
    println!(
        "   {:<18} {:>7.0} MB/s {:>9.0} records/s  CPU {:.2} s/GB, {:.0} us a request  p50 {:.2} p99 {:.2} p99.9 {:.1} ms",
        case.name,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_contended_is_found_and_replaced() {
        let pair = |why: Option<&str>| Pair {
            aquifer: Figures::default(),
            kafka: Figures::default(),
            contended: why.map(str::to_owned),
        };
        let mut results: Vec<CaseResult> = CASES[..2].iter().map(CaseResult::new).collect();
        for round in 0..2 {
            for (number, result) in results.iter_mut().enumerate() {
                let why = (round == number).then_some("core 1");
                result.add(pair(why), Some(0.5));
            }
        }
        assert_eq!(results.iter().map(|it| &it.name[..]).collect::<Vec<_>>(), [CASES[0].name, CASES[1].name]);
        assert_eq!(contended(&results, |it| &it.pairs), [(0, 0), (1, 1)]);
        results[1].replace(1, pair(None), Some(0.25));
        assert_eq!(contended(&results, |it| &it.pairs), [(0, 0)]);
        assert_eq!(results[1].floors_cpu_s_per_gb, [0.5, 0.25]);
    }
}
