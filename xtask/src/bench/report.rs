//! What was measured: as JSON for programs, as a page with a table, and as plots that a person can read.

use super::cases::Case;
use super::contender::Who;
use super::load::Figures;
use super::standing::Probe;
use crate::replay::Replayed;
use crate::spread::Spread;
use anyhow::{Context, Result};
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

/// One case, all its pairs.
#[derive(Debug, Serialize)]
pub(crate) struct CaseResult {
    pub(crate) name: String,
    pub(crate) what: String,
    pub(crate) lane: String,
    /// As it was asked, behind `aquifer`.
    pub(crate) command: String,
    pub(crate) pairs: Vec<Pair<Figures>>,
    /// What a bare loop took directly behind each pair, in seconds of processor time a GB: as many as there are pairs, or none.
    pub(crate) floors_cpu_s_per_gb: Vec<f64>,
}

/// What was looked at without a load.
#[derive(Debug, Serialize)]
pub(crate) struct ProbeResult {
    pub(crate) name: String,
    pub(crate) what: String,
    /// Names and units.
    pub(crate) measures: Vec<(String, String)>,
    /// As many numbers of each as there are measures.
    pub(crate) pairs: Vec<Pair<Vec<f64>>>,
}

/// Both, one directly behind the other.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Pair<T> {
    pub(crate) aquifer: T,
    pub(crate) kafka: T,
    /// Why the machine was not quiet, if it was not.
    pub(crate) contended: Option<String>,
}

/// A history, replayed some times.
#[derive(Debug, Serialize)]
pub(crate) struct ReplayResult {
    pub(crate) name: String,
    pub(crate) what: String,
    pub(crate) runs: Vec<ReplayRun>,
}

/// One of these times.
#[derive(Debug, Serialize)]
pub(crate) struct ReplayRun {
    pub(crate) found: Replayed,
    /// Why the machine was not quiet, if it was not.
    pub(crate) contended: Option<String>,
}

/// A run of all.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Report {
    pub(crate) machine: BTreeMap<String, String>,
    pub(crate) command: String,
    pub(crate) cases: Vec<CaseResult>,
    pub(crate) probes: Vec<ProbeResult>,
    pub(crate) replays: Vec<ReplayResult>,
    /// What could not be measured, and why.
    pub(crate) failed: Vec<String>,
}

impl CaseResult {
    /// Nothing measured yet.
    pub(crate) fn new(case: &Case) -> CaseResult {
        CaseResult {
            name: case.name.to_owned(),
            what: case.what.to_owned(),
            lane: case.lane.name().to_owned(),
            command: format!("bench {}", case.words),
            pairs: Vec::new(),
            floors_cpu_s_per_gb: Vec::new(),
        }
    }

    pub(crate) fn add(&mut self, pair: Pair<Figures>, floor: Option<f64>) {
        self.pairs.push(pair);
        self.floors_cpu_s_per_gb.extend(floor);
    }

    /// Aquifer's processor time by the floor's, pair by pair.
    fn by_the_floor(&self) -> Option<Spread> {
        let beside = self.pairs.iter().zip(&self.floors_cpu_s_per_gb);
        Spread::of(beside.map(|(pair, floor)| pair.aquifer.cpu_s_per_gb / floor))
    }

    /// One of the figures, of one of the two.
    fn spread(&self, who: Who, figure: impl Fn(&Figures) -> f64) -> Option<Spread> {
        Spread::of(self.pairs.iter().map(|pair| match who {
            Who::Aquifer => figure(&pair.aquifer),
            Who::Kafka => figure(&pair.kafka),
        }))
    }

    /// Aquifer's by Kafka's, pair by pair: never a ratio of figures of two pairs.
    fn ratio(&self, figure: impl Fn(&Figures) -> f64) -> Option<Spread> {
        Spread::of(self.pairs.iter().map(|pair| figure(&pair.aquifer) / figure(&pair.kafka)))
    }
}

impl ProbeResult {
    /// Nothing looked at yet.
    pub(crate) fn new(probe: &Probe) -> ProbeResult {
        let measures = probe.measures.iter().map(|of| (of.name.to_owned(), of.unit.to_owned())).collect();
        let (name, what) = (probe.name.to_owned(), probe.what.to_owned());
        ProbeResult { name, what, measures, pairs: Vec::new() }
    }
}

impl ReplayResult {
    /// Not replayed yet.
    pub(crate) fn new(name: &str, what: &str) -> ReplayResult {
        ReplayResult { name: name.to_owned(), what: what.to_owned(), runs: Vec::new() }
    }
}

impl Report {
    /// Writes `benchmarks.json`, `benchmarks.md` and the plots into a folder.
    pub(crate) fn write(&self, folder: &Path) -> Result<()> {
        std::fs::create_dir_all(folder).with_context(|| format!("creating {}", folder.display()))?;
        let put = |name: &str, text: String| {
            let path = folder.join(name);
            std::fs::write(&path, text).with_context(|| format!("writing {}", path.display()))
        };
        put("benchmarks.json", serde_json::to_string_pretty(self)? + "\n")?;
        put("benchmarks.md", self.page()?)?;
        put("benchmarks-throughput.svg", self.plot("MB/s, more is better", |figures| figures.mb_per_s)?)?;
        put("benchmarks-cpu.svg", self.plot("s of CPU a GB, less is better", |figures| figures.cpu_s_per_gb)?)
    }

    fn page(&self) -> Result<String> {
        let mut page = String::from(PAGE);
        for (name, value) in &self.machine {
            writeln!(page, "- {name}: {value}")?;
        }
        writeln!(page, "\nMade by `{}`.\n", self.command)?;
        writeln!(
            page,
            "![throughput](benchmarks-throughput.svg)\n\n![processor time](benchmarks-cpu.svg)\n"
        )?;
        page.push_str(HEADER);
        for case in self.measured() {
            self.row(&mut page, case)?;
        }
        if !self.probes.is_empty() {
            page.push_str(STANDING_HEADER);
        }
        for probe in &self.probes {
            standing_rows(&mut page, probe)?;
        }
        if !self.replays.is_empty() {
            page.push_str(REPLAY_HEADER);
        }
        for replay in &self.replays {
            replay_row(&mut page, replay)?;
        }
        if !self.failed.is_empty() {
            page.push_str("\n## Not measured\n\n");
        }
        for why in &self.failed {
            writeln!(page, "- {why}")?;
        }
        page.push_str("\n## The cases\n\n");
        for case in self.measured() {
            writeln!(page, "- `{}` ({}): {}. `aquifer {}`", case.name, case.lane, case.what, case.command)?;
            contended(&mut page, &case.pairs)?;
            for (number, pair) in case.pairs.iter().enumerate() {
                for (who, figures) in [(Who::Aquifer, &pair.aquifer), (Who::Kafka, &pair.kafka)] {
                    if let Some(why) = figures.doubt() {
                        writeln!(page, "  `+` pair {}, {}: {why}", number + 1, who.name())?;
                    }
                }
            }
        }
        for probe in &self.probes {
            writeln!(page, "- `{}`: {}.", probe.name, probe.what)?;
            contended(&mut page, &probe.pairs)?;
        }
        for replay in &self.replays {
            writeln!(page, "- `{}`: {}.", replay.name, replay.what)?;
            for (number, run) in replay.runs.iter().enumerate() {
                if let Some(why) = &run.contended {
                    writeln!(page, "  `*` run {}: {why}", number + 1)?;
                }
            }
        }
        Ok(page)
    }

    fn measured(&self) -> impl Iterator<Item = &CaseResult> {
        self.cases.iter().filter(|case| !case.pairs.is_empty())
    }

    fn row(&self, page: &mut String, case: &CaseResult) -> Result<()> {
        let median = |who, figure: fn(&Figures) -> f64| case.spread(who, figure).map_or(0.0, |it| it.median);
        let ratio = |figure: fn(&Figures) -> f64| {
            case.ratio(figure).map_or_else(String::new, |it| {
                format!("**{:.2}** ({:.2}-{:.2})", it.median, it.least, it.most)
            })
        };
        let latencies = |who| {
            let of = |figure| median(who, figure);
            format!("{:.2} / {:.2} / {:.1}", of(|it| it.p50_ms), of(|it| it.p99_ms), of(|it| it.p999_ms))
        };
        let ours = median(Who::Aquifer, |it| it.cpu_s_per_gb);
        let cores = |who| median(who, |it| it.cores);
        let floor = case.by_the_floor().map_or_else(String::new, |it| format!("{:.1}", it.median));
        let is_doubtful =
            case.pairs.iter().any(|pair| pair.aquifer.doubt().or_else(|| pair.kafka.doubt()).is_some());
        let mark = format!("{}{}", mark(&case.pairs), if is_doubtful { "+" } else { "" });
        writeln!(
            page,
            "| {}{mark} | {:.0} | {:.0} | {} | {:.2} | {:.2} | {} | {floor} | {:.2} / {:.2} | {} | {} |",
            case.name,
            median(Who::Aquifer, |it| it.mb_per_s),
            median(Who::Kafka, |it| it.mb_per_s),
            ratio(|it| it.mb_per_s),
            ours,
            median(Who::Kafka, |it| it.cpu_s_per_gb),
            ratio(|it| it.cpu_s_per_gb),
            cores(Who::Aquifer),
            cores(Who::Kafka),
            latencies(Who::Aquifer),
            latencies(Who::Kafka),
        )?;
        Ok(())
    }

    /// Two bars a case, each with its range; every case has its own scale, since they lie orders of magnitude apart.
    fn plot(&self, title: &str, figure: fn(&Figures) -> f64) -> Result<String> {
        const LEFT: f64 = 170.0;
        const WIDTH: f64 = 420.0;
        const ROW: f64 = 46.0;
        let height = 50.0 + ROW * self.measured().count() as f64;
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"720\" height=\"{height}\" \
             font-family=\"sans-serif\" font-size=\"13\">\n\
             <rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n\
             <text x=\"10\" y=\"24\" font-size=\"15\" fill=\"#202020\">{title}</text>\n"
        );
        for (number, case) in self.measured().enumerate() {
            let top = 40.0 + ROW * number as f64;
            let spreads = [Who::Aquifer, Who::Kafka].map(|who| (who, case.spread(who, figure)));
            let most = spreads.iter().filter_map(|(_, it)| Some(it.as_ref()?.most)).fold(0.0, f64::max);
            writeln!(svg, "<text x=\"10\" y=\"{}\" fill=\"#202020\">{}</text>", top + 22.0, case.name)?;
            for (row, (who, spread)) in spreads.into_iter().enumerate() {
                let Some(spread) = spread.filter(|_| most > 0.0) else { continue };
                let (y, at) = (top + 17.0 * row as f64, |value: f64| LEFT + WIDTH * value / most);
                let colour = if who == Who::Aquifer { "#1f77b4" } else { "#9a9a9a" };
                let (middle, end) = (y + 7.0, at(spread.median));
                writeln!(
                    svg,
                    "<rect x=\"{LEFT}\" y=\"{y}\" width=\"{:.1}\" height=\"14\" fill=\"{colour}\"/>\n\
                     <line x1=\"{:.1}\" y1=\"{middle}\" x2=\"{:.1}\" y2=\"{middle}\" stroke=\"#202020\"/>\n\
                     <text x=\"{:.1}\" y=\"{}\" fill=\"#202020\">{} {:.3}</text>",
                    end - LEFT,
                    at(spread.least),
                    at(spread.most),
                    at(spread.most) + 6.0,
                    y + 12.0,
                    who.name(),
                    spread.median,
                )?;
            }
        }
        svg.push_str("</svg>\n");
        Ok(svg)
    }
}

/// A row for each measure.
fn standing_rows(page: &mut String, probe: &ProbeResult) -> Result<()> {
    for (number, (name, unit)) in probe.measures.iter().enumerate() {
        let shown = |spread: Option<Spread>| {
            spread.map_or_else(String::new, |it| format!("{:.2} ({:.2}-{:.2})", it.median, it.least, it.most))
        };
        let ours = shown(Spread::of(probe.pairs.iter().map(|pair| pair.aquifer[number])));
        let theirs = shown(Spread::of(probe.pairs.iter().map(|pair| pair.kafka[number])));
        let (case, mark) = (&probe.name, mark(&probe.pairs));
        writeln!(page, "| {case}{mark} | {name}, {unit} | {ours} | {theirs} |")?;
    }
    Ok(())
}

fn replay_row(page: &mut String, replay: &ReplayResult) -> Result<()> {
    let shown = |digits: usize, figure: fn(&Replayed) -> f64| {
        Spread::of(replay.runs.iter().map(|run| figure(&run.found))).map_or_else(String::new, |it| {
            format!("{:.digits$} ({:.digits$}-{:.digits$})", it.median, it.least, it.most)
        })
    };
    writeln!(
        page,
        "| {}{} | {} | {} | {} | {} | {} | {} | {} |",
        replay.name,
        if replay.runs.iter().any(|run| run.contended.is_some()) { "*" } else { "" },
        shown(0, Replayed::plain_mb_per_s),
        shown(0, |it| it.cold.mb_per_s),
        shown(2, Replayed::share),
        shown(2, |it| it.cold.cpu_s_per_gb),
        shown(0, |it| it.again.mb_per_s),
        shown(0, |it| it.kcat.mb_per_s),
        shown(0, |it| it.kcats.mb_per_s),
    )?;
    Ok(())
}

fn mark<T>(pairs: &[Pair<T>]) -> &'static str {
    if pairs.iter().any(|pair| pair.contended.is_some()) { "*" } else { "" }
}

fn contended<T>(page: &mut String, pairs: &[Pair<T>]) -> Result<()> {
    for (number, pair) in pairs.iter().enumerate() {
        if let Some(why) = &pair.contended {
            writeln!(page, "  `*` pair {}: {why}", number + 1)?;
        }
    }
    Ok(())
}

const PAGE: &str = "\
# Benchmarks

Aquifer and Apache Kafka, one node of each, on the same core of the same machine; the load has the other core. Both are up, and run in
turn, some seconds each, one directly behind the other, now this one first and now that; who is not measured has nothing to do meanwhile
(what that costs the other: `idle`, below). Every ratio is the median of pairs, with the least and the most of them. Before the first of a lane
counts Apache Kafka, whose JVM compiles what it has done often, writes and reads for the `--warm` seconds of the command (60 by
default), Aquifer for 5; in each case both go on for 5 seconds before the first pair, and before each one what was written until
then is on the disk. The page cache is kept full of clean pages, loopback is one of its own with `cubic`. Before and behind each pair a fixed
piece of work tells whether the machine is quiet. For that is waited, 15 seconds at most, and a pair of a busy machine is measured again, twice
at most in a case (no replay is, nor what has no load), all this while the `--again-minutes` of the command last; what is busy then, too, is
marked by `*`. *By the floor* is by what a bare loop took for the same bytes directly behind the pair. *Cores* is how much of its core a
broker used: with much less than all of it, something else was the limit. Where the load did not keep the rate
that it should, or sent later than it should, the row is marked by `+`.
Topics are not tiered unless the case says so, and then to a local folder, Kafka's by its own
`LocalTieredStorage`, which is published for tests and does not sync what it stores, as Aquifer does. After each case all is read back, and counted: as many records are
there as were acknowledged, and no offset is missing. Lanes are never mixed. *No sync* acknowledges what is in the page cache, which Kafka leaves to the kernel
to write back, for which nobody pays here; Aquifer writes a partition back by itself every 32 to 64 MiB, and pays. Some seconds of either are a burst into
memory, and no rate that this disk would keep up. *Sync before ack* has every record on disk before it is acknowledged: Kafka, whose
threads wait for the disk there, by `log.flush.interval.messages=1` and with twice as many of them for requests.
Kafka's settings are its defaults, but for the threads and the heap below, topics of its own with one replica, files of deleted topics that
go at once, and, for tiering, a task that looks for closed segments more often. All are in `xtask/src/bench/contender.rs`.

Where the load runs flat out, as many requests wait as it has in flight, and latencies say how long they do. Where it has a rate,
MB/s are that rate. The p99.9 of few requests is the slowest of them. `produce-10000` counts making its connections, too.

";

const HEADER: &str = "\
| case | Aquifer MB/s | Kafka MB/s | ratio: more is better | Aquifer CPU s/GB | Kafka CPU s/GB | ratio: less is better | by the floor | cores: Aquifer / Kafka | Aquifer p50 / p99 / p99.9 ms | Kafka |
|---|---|---|---|---|---|---|---|---|---|---|
";

const STANDING_HEADER: &str = "
Without a load: the median, with the least and the most.

| case | what | Aquifer | Kafka |
|---|---|---|---|
";

const REPLAY_HEADER: &str = "
A history that is in MinIO alone, read by one consumer that looks at nothing but headers of batches (`aquifer bench replay`), beside plain
GETs of the same objects, 16 in flight, which look at nothing; and by kcat, to whose records this machine's two cores must stretch as
well: the median, with the least and the most. Apache Kafka ships no plugin for S3.

| case | plain GETs MB/s | one consumer, cold MB/s | of plain GETs | CPU s/GB | once more MB/s | one kcat, cold | ten kcats, cold, MB/s of all |
|---|---|---|---|---|---|---|---|
";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replay::Pass;

    fn figures(mb_per_s: f64, cpu_s_per_gb: f64) -> Figures {
        Figures { mb_per_s, cpu_s_per_gb, ..Figures::default() }
    }

    #[test]
    fn ratios_are_of_pairs() {
        let pair =
            |ours, theirs| Pair { aquifer: figures(ours, 1.0), kafka: figures(theirs, 2.0), contended: None };
        let case = CaseResult {
            name: "produce".to_owned(),
            what: "records".to_owned(),
            lane: "no sync".to_owned(),
            command: "bench produce".to_owned(),
            pairs: vec![pair(300.0, 100.0), pair(100.0, 100.0), pair(400.0, 200.0)],
            floors_cpu_s_per_gb: vec![0.5, 0.25, 1.0],
        };
        let ratio = case.ratio(|it| it.mb_per_s).expect("three pairs");
        assert_eq!((ratio.median, ratio.least, ratio.most), (2.0, 1.0, 3.0));
        let idle = ProbeResult {
            name: "idle".to_owned(),
            what: "nothing".to_owned(),
            measures: vec![("memory".to_owned(), "MB".to_owned())],
            pairs: vec![Pair { aquifer: vec![20.0], kafka: vec![400.0], contended: None }],
        };
        let (command, machine) = ("xtask bench".to_owned(), BTreeMap::new());
        let pass = |mb_per_s| Pass { mb_per_s, cpu_s_per_gb: 0.5, gets: Some(300) };
        let (cold, again) = (pass(900.0), pass(1500.0));
        let (kcat, kcats) = (pass(800.0), pass(2000.0));
        let found = Replayed { plain: [900.0, 1100.0], bytes: 2_000_000_000, cold, again, kcat, kcats };
        let runs = vec![ReplayRun { found, contended: None }];
        let replays = vec![ReplayResult { name: "replay".to_owned(), what: "a history".to_owned(), runs }];
        let report =
            Report { machine, command, cases: vec![case], probes: vec![idle], replays, failed: Vec::new() };
        let page = report.page().expect("it can be written");
        let row = "| produce | 300 | 100 | **2.00** (1.00-3.00) | 1.00 | 2.00 | **0.50** (0.50-0.50) | 2.0 |";
        assert!(page.contains(row), "{page}");
        let row = "| idle | memory, MB | 20.00 (20.00-20.00) | 400.00 (400.00-400.00) |";
        assert!(page.contains(row), "{page}");
        let row = "| replay | 1000 (1000-1000) | 900 (900-900) | 0.90 (0.90-0.90) | 0.50 (0.50-0.50) | 1500 (1500-1500) | 800 (800-800) | 2000 (2000-2000) |";
        assert!(page.contains(row), "{page}");
        assert!(!page.contains("pair 1:"), "{page}");
        let mut busy = report;
        busy.cases[0].pairs[1].contended = Some("core 1".to_owned());
        let page = busy.page().expect("it can be written");
        assert!(page.contains("| produce* |") && page.contains("`*` pair 2: core 1"), "{page}");
        assert!(!page.contains("Not measured"), "{page}");
        busy.failed.push("idle: why".to_owned());
        let page = busy.page().expect("it can be written");
        assert!(page.contains("## Not measured\n\n- idle: why\n"), "{page}");
        let plot = busy.plot("MB/s", |it| it.mb_per_s).expect("it can be drawn");
        assert_eq!(plot.matches("<rect").count(), 3, "{plot}");
    }
}
