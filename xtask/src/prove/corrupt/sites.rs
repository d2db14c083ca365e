//! What can be harmed: every kind of file and object, and what must come of it.

use super::dice::Dice;
use super::harm::{flip_used, harm};
use super::world::{AWAY, BOTH, HERE, Id, World, listed};
use anyhow::{Context, Result, ensure};
use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// A trailer's length: footer's and tail's lengths, and the magic.
const TRAILER_BYTES: u64 = 16;

/// A kind of file or object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    SegmentWithCopy,
    SegmentAlone,
    OpenSegment,
    Index,
    ProducerSnapshot,
    Checkpoint,
    PartitionFile,
    DirFormat,
    NodeFile,
    MetadataImage,
    RaftLog,
    Journal,
    ClusterMarker,
    ManifestLive,
    ManifestAtStart,
    ManifestFormer,
    ManifestPage,
    ObjectLogWithCopy,
    ObjectLogAlone,
    ObjectTailWithCopy,
    ObjectTailAlone,
}

/// What must come of harm besides that it is found and not served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// There is a good copy, or what it is made from: it is whole again, and everything can be read.
    Mended,
    /// There is none: what it held is refused, and nothing else.
    Refused,
    /// Nobody reads it but `tier verify`.
    Told,
    /// The broker does not start on it.
    NoStart,
    /// It does not start, or the byte means nothing.
    NoStartOrNothing,
    /// It is told, or the byte means nothing. Everything can be read.
    ToldOrNothing,
}

impl Kind {
    pub(super) fn name(self) -> &'static str {
        match self {
            Kind::SegmentWithCopy => "local segment, in the bucket too",
            Kind::SegmentAlone => "local segment, nowhere else",
            Kind::OpenSegment => "open segment, nowhere else",
            Kind::Index => "local index",
            Kind::ProducerSnapshot => "producer snapshot",
            Kind::Checkpoint => "checkpoint",
            Kind::PartitionFile => "partition file",
            Kind::DirFormat => "log dir format",
            Kind::NodeFile => "metadata node file",
            Kind::MetadataImage => "metadata image",
            Kind::RaftLog => "Raft log (redb)",
            Kind::Journal => "journal, of a broker that was killed",
            Kind::ClusterMarker => "cluster marker",
            Kind::ManifestLive => "newest manifest, while running",
            Kind::ManifestAtStart => "newest manifest, while stopped",
            Kind::ManifestFormer => "former manifest",
            Kind::ManifestPage => "manifest page",
            Kind::ObjectLogWithCopy => "object's log, here too",
            Kind::ObjectLogAlone => "object's log, nowhere else",
            Kind::ObjectTailWithCopy => "object's index and footer, here too",
            Kind::ObjectTailAlone => "object's index and footer, nowhere else",
        }
    }

    pub(super) fn fate(self) -> Fate {
        match self {
            Kind::SegmentWithCopy
            | Kind::Index
            | Kind::ProducerSnapshot
            | Kind::Checkpoint
            | Kind::PartitionFile
            | Kind::ManifestLive
            | Kind::MetadataImage
            | Kind::ObjectLogWithCopy
            | Kind::ObjectTailWithCopy => Fate::Mended,
            Kind::SegmentAlone | Kind::OpenSegment | Kind::ObjectLogAlone | Kind::ObjectTailAlone => {
                Fate::Refused
            }
            Kind::ManifestAtStart | Kind::ManifestFormer | Kind::ManifestPage => Fate::Told,
            Kind::DirFormat | Kind::NodeFile | Kind::ClusterMarker => Fate::NoStart,
            Kind::RaftLog => Fate::NoStartOrNothing,
            Kind::Journal => Fate::ToldOrNothing,
        }
    }

    /// Whether a harmed bucket shows it to `tier verify --deep`.
    pub(super) fn is_verified(self) -> bool {
        matches!(
            self,
            Kind::ManifestLive
                | Kind::ManifestAtStart
                | Kind::ManifestFormer
                | Kind::ManifestPage
                | Kind::ObjectLogWithCopy
                | Kind::ObjectLogAlone
                | Kind::ObjectTailWithCopy
                | Kind::ObjectTailAlone
        )
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.name().fmt(f)
    }
}

/// A file that may be harmed, and in which part.
#[derive(Debug, Clone)]
pub(super) struct Site {
    pub(super) kind: Kind,
    /// Whose, if it is a partition's.
    pub(super) of: Option<Id>,
    pub(super) file: PathBuf,
    region: Range<u64>,
    other: PathBuf,
}

/// A file that was harmed.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub(super) site: Site,
    pub(super) what: String,
}

impl Site {
    pub(super) fn harm(self, dice: &mut Dice) -> Result<Place> {
        let what = match self.kind {
            Kind::RaftLog => flip_used(dice, &self.file)?,
            _ => harm(dice, &self.file, self.region.clone(), &self.other)?,
        };
        Ok(Place { site: self, what })
    }

    /// The first offset in the segment's or object's name.
    pub(super) fn base(&self) -> Option<i64> {
        self.file.file_name()?.to_string_lossy().get(..20)?.parse().ok()
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} in {} ({})", self.what, self.site.file.display(), self.site.kind)
    }
}

/// The sites of one kind in one partition. Harm to each of them is seen by itself.
pub(super) fn of_partition(world: &World, kind: Kind, id: Id) -> Result<Vec<Site>> {
    let local = |ending: &str| -> Result<Vec<PathBuf>> {
        let mut files = listed(&world.folder(id)?)?;
        files.retain(|file| file.extension().is_some_and(|found| found == ending));
        Ok(files)
    };
    let bucket = |folder: &str| listed(&world.bucket_folder(id)?.join(folder));
    let files = match kind {
        Kind::SegmentWithCopy | Kind::SegmentAlone => all_but_last(local("log")?),
        Kind::OpenSegment => local("log")?.pop().into_iter().collect(),
        Kind::Index => all_but_last(local("index")?),
        // The first has nothing before it to be made from.
        Kind::ProducerSnapshot => local("snapshot")?.into_iter().skip(1).collect(),
        Kind::Checkpoint => vec![world.folder(id)?.join("checkpoint")],
        Kind::PartitionFile => vec![world.folder(id)?.join("partition")],
        Kind::ManifestLive | Kind::ManifestAtStart => bucket("manifest")?.pop().into_iter().collect(),
        Kind::ManifestFormer => all_but_last(bucket("manifest")?),
        Kind::ManifestPage => named_pages(world, id)?,
        Kind::ObjectLogWithCopy | Kind::ObjectLogAlone | Kind::ObjectTailWithCopy | Kind::ObjectTailAlone => {
            bucket("data")?
        }
        _ => Vec::new(),
    };
    sites(kind, Some(id), files)
}

/// The sites of a kind that is no partition's.
pub(super) fn of_node(world: &World, kind: Kind) -> Result<Vec<Site>> {
    let metadata = world.data().join("metadata");
    let files = match kind {
        Kind::DirFormat => vec![world.data().join("format")],
        Kind::NodeFile => vec![metadata.join("node")],
        Kind::RaftLog => vec![metadata.join("raft.redb")],
        Kind::Journal => listed(&world.data().join("journal"))?,
        Kind::MetadataImage => {
            let mut files = listed(&metadata)?;
            files.retain(|file| file.extension().is_some_and(|found| found == "snapshot"));
            // Older ones are read only where this is damaged.
            files.pop().into_iter().collect()
        }
        Kind::ClusterMarker => listed(&world.bucket().join("cluster"))?,
        _ => Vec::new(),
    };
    sites(kind, None, files)
}

/// Which partitions have sites of a kind.
pub(super) fn partitions_of(kind: Kind) -> Vec<Id> {
    let topics = match kind {
        Kind::SegmentWithCopy
        | Kind::ObjectLogWithCopy
        | Kind::ObjectTailWithCopy
        | Kind::ManifestPage
        | Kind::ManifestLive
        | Kind::ManifestAtStart => vec![BOTH],
        Kind::ManifestFormer => vec![BOTH, AWAY],
        Kind::SegmentAlone | Kind::OpenSegment => vec![HERE],
        Kind::Index | Kind::ProducerSnapshot | Kind::Checkpoint | Kind::PartitionFile => vec![BOTH, HERE],
        Kind::ObjectLogAlone | Kind::ObjectTailAlone => vec![AWAY],
        _ => Vec::new(),
    };
    topics.into_iter().flat_map(|topic| (0..topic.partitions).map(move |index| (topic.name, index))).collect()
}

fn sites(kind: Kind, of: Option<Id>, files: Vec<PathBuf>) -> Result<Vec<Site>> {
    let mut sites = Vec::new();
    for (number, file) in files.iter().enumerate() {
        let region = region(kind, file)?;
        if region.is_empty() {
            continue;
        }
        let other = files[(number + 1) % files.len()].clone();
        sites.push(Site { kind, of, file: file.clone(), region, other });
    }
    Ok(sites)
}

/// The part of a file that is of this kind.
fn region(kind: Kind, file: &Path) -> Result<Range<u64>> {
    let size = std::fs::metadata(file).with_context(|| format!("looking at {}", file.display()))?.len();
    match kind {
        Kind::ObjectLogWithCopy | Kind::ObjectLogAlone => Ok(0..log_end(file)?),
        Kind::ObjectTailWithCopy | Kind::ObjectTailAlone => Ok(log_end(file)?..size),
        _ => Ok(0..size),
    }
}

/// Where the log in an object ends: the trailer says how long the tail is.
fn log_end(object: &Path) -> Result<u64> {
    let bytes = std::fs::read(object)?;
    let size = bytes.len() as u64;
    ensure!(size > TRAILER_BYTES, "{} has no trailer", object.display());
    let trailer = &bytes[bytes.len() - TRAILER_BYTES as usize..];
    let tail = u32::from_be_bytes([trailer[4], trailer[5], trailer[6], trailer[7]]);
    size.checked_sub(tail.into()).with_context(|| format!("{} is shorter than its tail", object.display()))
}

/// Pages that the newest manifest names: its bytes hold their keys.
fn named_pages(world: &World, id: Id) -> Result<Vec<PathBuf>> {
    let folder = world.bucket_folder(id)?;
    let newest = listed(&folder.join("manifest"))?.pop().context("a manifest")?;
    let manifest = std::fs::read(newest)?;
    let mut pages = listed(&folder.join("pages"))?;
    pages.retain(|page| {
        let name = page.file_name().unwrap_or_default().to_string_lossy().into_owned();
        manifest.windows(name.len()).any(|window| window == name.as_bytes())
    });
    Ok(pages)
}

fn all_but_last(mut files: Vec<PathBuf>) -> Vec<PathBuf> {
    files.pop();
    files
}
