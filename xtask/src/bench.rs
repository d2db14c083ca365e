//! Aquifer beside Apache Kafka: `cargo xtask bench`, and what the machine itself can do at best: `cargo xtask bench floor`.
//!
//! Both are up at once, on the same core, and run in turn, A B B A A B, some seconds each: machines like this one change by more from one
//! minute to the next than what is measured, so that a ratio says something only of what lies close together. Kafka stays up for all
//! cases of a lane, since a JVM takes a minute under load to be as fast as it gets. All pairs of a case are measured before the next
//! case, and what matters most comes first: of a run that has to end early, what is there is whole. Replays from MinIO stand beside
//! plain GETs: there is no Kafka that could make them.

use crate::flags::Flags;
use crate::replay::{self, Replayed, Store};
use crate::run::{command, output};
use crate::{built, network, places, process};
use anyhow::{Context, Result, bail, ensure};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::thread::sleep;
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
use load::{Figures, Stage};
use page_cache::Full;
use report::{CaseResult, Pair, ProbeResult, ReplayResult, ReplayRun, Report};
use standing::{PROBES, Probe};

/// Pairs of a case that are measured again because the machine was not quiet.
const REPEATS_MAX: usize = 2;
/// How long this may take of a run, and waiting for it to be.
const AGAIN_MINUTES: u64 = 20;
const QUIET_WAIT: Duration = Duration::from_secs(15);
const QUIET_POLL: Duration = Duration::from_millis(500);
/// How long Kafka is under load before anything of it counts, and Aquifer, which has nothing to compile.
const WARM_KAFKA_SECONDS: u64 = 60;
const WARM_AQUIFER: Duration = Duration::from_secs(5);
/// How long each case goes on before it counts.
const WARM_CASE: Duration = Duration::from_secs(5);
/// The most that both write in a second each of a case; what is written in a replay, or by one without a load; and what is to be left
/// of the disk.
const BYTES_PER_S_MAX: u64 = 3_000_000_000;
const STANDING_BYTES: u64 = 12_000_000_000;
const SPARE_BYTES: u64 = 5_000_000_000;
/// How long room may take to come.
const ROOM_WAIT: Duration = Duration::from_secs(60);
/// How long a floor is measured beside a case.
const FLOOR_DURING: Duration = Duration::from_secs(2);
const FLOOR_BYTES: [usize; 3] = [1 << 20, 64 << 10, 16 << 10];

/// Runs the cases, and writes what came of them.
pub(crate) fn main(mut flags: Flags) -> Result<()> {
    let only: String = flags.take("cases", "all".to_owned())?;
    let pairs: usize = flags.take("pairs", 3)?;
    let seconds: u64 = flags.take("seconds", 3)?;
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
        pairs,
        warm: Duration::from_secs(warm),
        during: Duration::from_secs(seconds),
        again: Duration::from_mins(again),
        canary: Canary::default(),
        cache: (cache == "full").then(Full::fill).transpose()?,
        out,
    };
    let mut machine = machine()?;
    if is_given {
        machine.insert(
            "Aquifer".to_owned(),
            format!("as built before, by --binary {}", run.programs.aquifer.display()),
        );
    }
    machine.insert("Kafka's threads".to_owned(), format!("{network_threads} network, {io_threads} io"));
    let command = std::env::args().skip(1).collect::<Vec<_>>().join(" ");
    let command = format!("cargo xtask {command}");
    let cases = chosen.cases.iter().map(|case| CaseResult::new(case)).collect();
    let mut report = Report { machine, command, cases, ..Report::default() };
    run.all(&chosen, &mut report)?;
    println!("\nwritten to {}", run.out.join("benchmarks.md").display());
    Ok(())
}

/// The machine's floor alone.
pub(crate) fn floor(mut flags: Flags) -> Result<()> {
    let seconds: u64 = flags.take("seconds", 5)?;
    flags.end()?;
    network::enter_own()?;
    let mut cache = Full::fill()?;
    println!("{:<10} {:>10} {:>10} {:>12}", "work", "bytes", "MB/s", "CPU s/GB");
    for work in [Work::Produce, Work::Fetch] {
        for bytes in FLOOR_BYTES {
            cache.touch()?;
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
    pairs: usize,
    warm: Duration,
    during: Duration,
    /// What is left of the time for waiting until the machine is quiet, and for what it has spoilt.
    again: Duration,
    canary: Canary,
    /// Not if it was asked to leave it as it is, which is to try the harness and not to measure.
    cache: Option<Full>,
    out: PathBuf,
}

impl Run {
    /// What was measured is not lost if the next one fails; of what comes behind that, the same lane alone is not measured.
    fn all(&mut self, chosen: &Chosen, report: &mut Report) -> Result<()> {
        let is_matrix = |number: usize| MATRIX.iter().any(|case| case.name == chosen.cases[number].name);
        let numbers = |lane: Lane, matrix: bool| -> Vec<usize> {
            let all = 0..chosen.cases.len();
            all.filter(|at| chosen.cases[*at].lane == lane && is_matrix(*at) == matrix).collect()
        };
        for who in [Who::Aquifer, Who::Kafka] {
            // What a run that failed has left.
            places::removed(&contender::data(who)?)?;
        }
        for lane in Lane::ALL {
            let measured = self.lane(lane, chosen, &numbers(lane, false), report);
            self.note(measured, lane.name(), report)?;
        }
        for (name, what, store) in &chosen.replays {
            println!("\n== {name}: {what}");
            let mut result = ReplayResult::new(name, what);
            let measured = self.replays(*store, &mut result);
            report.replays.push(result);
            self.note(measured, name, report)?;
        }
        for probe in &chosen.probes {
            println!("\n== {}: {}", probe.name, probe.what);
            let mut result = ProbeResult::new(probe);
            let measured = self.probe(probe, &mut result);
            report.probes.push(result);
            self.note(measured, probe.name, report)?;
        }
        for lane in Lane::ALL {
            let measured = self.lane(lane, chosen, &numbers(lane, true), report);
            self.note(measured, &format!("matrix, {}", lane.name()), report)?;
        }
        ensure!(report.failed.is_empty(), "not all could be measured:\n{}", report.failed.join("\n"));
        Ok(())
    }

    /// Writes down what was measured of `name`, and what could not be.
    fn note(&self, measured: Result<()>, name: &str, report: &mut Report) -> Result<()> {
        if let Err(error) = measured {
            println!("   FAILED: {error:#}");
            report.failed.push(format!("{name}: {error:#}"));
            // Nothing of it runs any more, and the next needs the room.
            for who in [Who::Aquifer, Who::Kafka] {
                places::removed(&contender::data(who)?)?;
            }
        }
        self.write(report)
    }

    fn replays(&mut self, store: Store, result: &mut ReplayResult) -> Result<()> {
        for _ in 0..self.pairs {
            result.runs.push(self.replay(store)?);
        }
        Ok(())
    }

    fn probe(&mut self, probe: &Probe, result: &mut ProbeResult) -> Result<()> {
        for _ in 0..self.pairs {
            result.pairs.push(self.pair([Who::Aquifer, Who::Kafka], |run, who| run.look(probe, who))?);
        }
        Ok(())
    }

    fn write(&self, report: &mut Report) -> Result<()> {
        let no = || "no: these figures mean nothing".to_owned();
        let kept = self.cache.as_ref().map_or_else(no, Full::shown);
        report.machine.insert("page cache kept full".to_owned(), kept);
        report.write(&self.out)
    }

    /// Cases of one lane, by two brokers that are up for all of them.
    fn lane(&mut self, lane: Lane, chosen: &Chosen, numbers: &[usize], report: &mut Report) -> Result<()> {
        if numbers.is_empty() {
            return Ok(());
        }
        println!("\n#### {}", lane.name());
        self.touch()?;
        let aquifer = Contender::start(Who::Aquifer, lane, &self.programs)?;
        let kafka = Contender::start(Who::Kafka, lane, &self.programs)?;
        load::warm_up(&aquifer, self.warm.min(WARM_AQUIFER))?;
        load::warm_up(&kafka, self.warm)?;
        for (at, number) in numbers.iter().enumerate() {
            let measured = self.case((&aquifer, &kafka), chosen.cases[*number], &mut report.cases[*number]);
            measured.with_context(|| {
                let names: Vec<&str> = numbers[at..].iter().map(|it| chosen.cases[*it].name).collect();
                format!("not, or not to its end, measured: {}", names.join(", "))
            })?;
            self.write(report)?;
        }
        aquifer.end()?;
        kafka.end()
    }

    /// All pairs of a case. One during which the machine was not quiet does not count while there is time for another.
    fn case(
        &mut self,
        (aquifer, kafka): (&Contender, &Contender),
        case: &Case,
        result: &mut CaseResult,
    ) -> Result<()> {
        println!("\n== {}: {}", case.name, case.what);
        let measured = if case.writes() { self.pairs as u64 * self.bytes_max() } else { 0 };
        self.has_room(2 * load::WRITTEN_BEFORE_MAX + measured)?;
        let (warm, during) = (self.warm.min(WARM_CASE), self.during);
        let set = |contender| Stage::set(contender, case, warm);
        let (mut ours, mut theirs) = (set(aquifer)?, set(kafka)?);
        let mut repeats = REPEATS_MAX;
        while result.pairs.len() < self.pairs {
            let (began, again) = (Instant::now(), self.again);
            // Who comes first has had the quieter machine, and leaves it the other.
            let order = match result.pairs.len() % 2 {
                0 => [Who::Aquifer, Who::Kafka],
                _ => [Who::Kafka, Who::Aquifer],
            };
            let mut floor = None;
            let mut pair = self.pair(order, |run, who| {
                let stage = match who {
                    Who::Aquifer => &mut ours,
                    Who::Kafka => &mut theirs,
                };
                let figures = stage.run(during, &mut || run.touch());
                let figures = figures.with_context(|| format!("{} by {}", case.name, who.name()))?;
                told(who, &figures);
                Ok(figures)
            })?;
            if let Some((work, bytes)) = case.floor {
                self.touch()?;
                floor = Some(floor::measure(work, bytes, FLOOR_DURING)?.cpu_per_gb);
                pair.contended = pair.contended.or(self.canary.look()?.contended());
            }
            let left = self.pairs - result.pairs.len();
            if pair.contended.is_some() && repeats > 0 && !again.is_zero() && self.has_space(left)? {
                repeats -= 1;
                self.again = again.saturating_sub(began.elapsed());
                continue;
            }
            result.add(pair, floor);
        }
        ours.clear()?;
        theirs.clear()
    }

    fn replay(&mut self, store: Store) -> Result<ReplayRun> {
        self.has_room(STANDING_BYTES)?;
        let before = self.canary.look()?;
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

    /// Waits a little for the machine to be quiet; gives how it is then.
    fn quiet(&mut self) -> Result<Verdict> {
        let began = Instant::now();
        let until = began + QUIET_WAIT.min(self.again);
        loop {
            let verdict = self.canary.look()?;
            if verdict == Verdict::Quiet || Instant::now() > until {
                self.again = self.again.saturating_sub(began.elapsed());
                return Ok(verdict);
            }
            sleep(QUIET_POLL);
        }
    }

    /// Both, and whether the machine was quiet before and behind it.
    fn pair<T>(
        &mut self,
        order: [Who; 2],
        mut measure: impl FnMut(&mut Run, Who) -> Result<T>,
    ) -> Result<Pair<T>> {
        let before = self.quiet()?;
        let [first, second] = [measure(self, order[0])?, measure(self, order[1])?];
        let (aquifer, kafka) = if order[0] == Who::Aquifer { (first, second) } else { (second, first) };
        let contended = [before, self.canary.look()?].into_iter().find_map(Verdict::contended);
        if let Some(why) = &contended {
            println!("   contended: {why}");
        }
        Ok(Pair { aquifer, kafka, contended })
    }

    fn look(&mut self, probe: &Probe, who: Who) -> Result<Vec<f64>> {
        self.has_room(STANDING_BYTES)?;
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

    /// Sees that there is room for so much on the disk, and has the page cache full again.
    fn has_room(&mut self, written: u64) -> Result<()> {
        let needed = SPARE_BYTES + written;
        let until = Instant::now() + ROOM_WAIT;
        loop {
            // The files of deleted topics go a while after these.
            let free = places::free_bytes()?;
            if free > needed {
                return self.touch();
            }
            ensure!(
                Instant::now() < until,
                "{} GB are free for the data of brokers, and {} may be needed: fewer --seconds need less",
                free / 1_000_000_000,
                needed / 1_000_000_000
            );
            sleep(QUIET_POLL);
        }
    }

    fn touch(&mut self) -> Result<()> {
        self.cache.as_mut().map_or(Ok(()), Full::touch)
    }

    /// Whether there is room for a pair more than so many.
    fn has_space(&self, pairs: usize) -> Result<bool> {
        Ok(places::free_bytes()? > SPARE_BYTES + (pairs as u64 + 1) * self.bytes_max())
    }

    /// What a pair writes at most.
    fn bytes_max(&self) -> u64 {
        self.during.as_secs() * BYTES_PER_S_MAX
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
    let java = first_line(output(&mut command("java", ["--version"]))?);
    told.insert("Kafka's heap, and Java".to_owned(), format!("{}, G1; {java}", contender::HEAP));
    let memory = std::fs::read_to_string("/proc/meminfo")?;
    let memory = memory.lines().find_map(|line| line.strip_prefix("MemTotal:")).unwrap_or_default();
    told.insert("memory".to_owned(), memory.trim().to_owned());
    told.insert("Kafka".to_owned(), crate::pins::Pins::read()?.java_kafka_tools);
    Ok(told)
}
