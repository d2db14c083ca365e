//! A file system of its own, in an image file: to cut the power of, to fill up, to break. Made, mounted and taken away by one
//! run, which touches nothing else; what is left when a run is killed shows in `losetup` and `mount` with a path below `target`.
//!
//! Needs root, loop devices and the file system's mkfs. A machine without them cannot run these proofs, and is told so.

use crate::places;
use crate::run::{command, output};
use anyhow::{Context, Result, bail, ensure};
use std::fs::File;
use std::io::{ErrorKind, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{JoinHandle, sleep, spawn};
use std::time::{Duration, Instant};

/// `EXT4_IOC_SHUTDOWN`, which is also XFS's `XFS_IOC_GOINGDOWN`: `_IOR('X', 125, __u32)`.
const SHUTDOWN: rustix::ioctl::Opcode = 0x8004_587d;
/// Shut down at once, flushing neither data nor journal: what a power cut leaves.
const WITHOUT_FLUSH: u32 = 2;
/// How long a file system may stay busy after the last process that used it.
const UNMOUNT_DEADLINE: Duration = Duration::from_secs(20);
const FILLER: &str = "filler";
const BLOCK_BYTES: usize = 4096;
const NOISE_BYTES: usize = 4 << 20;
const NOISE_BYTES_MAX: usize = 256 << 20;
/// How long a sync is to take under noise: on a disk so fast that hardly anything is ever unsynced, a power cut proves little.
const NOISY_SYNC: Duration = Duration::from_millis(60);
const POLL: Duration = Duration::from_millis(20);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Ext4,
    Xfs,
}

impl FromStr for Kind {
    type Err = &'static str;

    fn from_str(name: &str) -> Result<Kind, Self::Err> {
        match name {
            "ext4" => Ok(Kind::Ext4),
            "xfs" => Ok(Kind::Xfs),
            _ => Err("ext4 or xfs"),
        }
    }
}

impl Kind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Kind::Ext4 => "ext4",
            Kind::Xfs => "xfs",
        }
    }
}

/// What it takes on this machine; fails with the list of what is missing.
pub(crate) fn check_machine(kinds: &[Kind]) -> Result<()> {
    let mut missing = Vec::new();
    if output(&mut command("id", ["-u"]))?.trim() != "0" {
        missing.push("root (to mount file systems): run it with sudo".to_owned());
    }
    if !Path::new("/dev/loop-control").exists() {
        missing.push("loop devices (/dev/loop-control)".to_owned());
    }
    for kind in kinds {
        let mkfs = format!("mkfs.{}", kind.name());
        if output(&mut command(&mkfs, ["-V"])).is_err() {
            missing.push(format!("{mkfs} (Debian's packages: e2fsprogs, xfsprogs)"));
        }
    }
    ensure!(
        missing.is_empty(),
        "THIS PROOF CANNOT RUN HERE, and proves nothing. Missing: {}",
        missing.join("; ")
    );
    Ok(())
}

/// A tmpfs.
#[derive(Debug)]
pub(crate) struct Memory {
    point: PathBuf,
}

impl Memory {
    pub(crate) fn mount(name: &str, mb: u64) -> Result<Memory> {
        let point = place(name)?;
        output(command("mount", ["-t", "tmpfs", "-o", &format!("size={mb}m"), "tmpfs"]).arg(&point))?;
        Ok(Memory { point })
    }

    pub(crate) fn point(&self) -> &Path {
        &self.point
    }

    /// Fills it up to so many MB.
    pub(crate) fn fill(&self, room_mb: u64) -> Result<()> {
        fill(&self.point, room_mb)
    }

    /// Gives it room.
    pub(crate) fn resize(&self, mb: u64) -> Result<()> {
        output(command("mount", ["-o", &format!("remount,size={mb}m")]).arg(&self.point))?;
        Ok(())
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        if let Err(error) = unmount(&self.point).and_then(|()| Ok(std::fs::remove_dir(&self.point)?)) {
            eprintln!("{} stays mounted: {error:#}", self.point.display());
        }
    }
}

/// A mounted image.
#[derive(Debug)]
pub(crate) struct Mounted {
    kind: Kind,
    image: PathBuf,
    point: PathBuf,
    device: Option<String>,
    is_mounted: bool,
}

impl Mounted {
    /// Makes an image of so many MB in `folder`, with a new file system, and mounts it.
    pub(crate) fn make(name: &str, kind: Kind, folder: &Path, mb: u64) -> Result<Mounted> {
        let image = folder.join(format!("{name}.img"));
        let point = place(name)?;
        let mut mounted = Mounted { kind, image, point, device: None, is_mounted: false };
        File::create(&mounted.image)?.set_len(mb << 20)?;
        let mut mkfs = command(format!("mkfs.{}", kind.name()), ["-q"]);
        match kind {
            // All of its own blocks are written at once, so that later only data needs room in the image.
            Kind::Ext4 => mkfs.args([
                "-F",
                "-m",
                "0",
                "-J",
                "size=8",
                "-E",
                "lazy_itable_init=0,lazy_journal_init=0,nodiscard",
            ]),
            Kind::Xfs => mkfs.arg("-f"),
        };
        output(mkfs.arg(&mounted.image))?;
        mounted.mount()?;
        Ok(mounted)
    }

    pub(crate) fn point(&self) -> &Path {
        &self.point
    }

    /// Attaches the image to a loop device and mounts it, which replays the journal. The device is new, and with it its cache: all
    /// that is read from now on is read from the image.
    pub(crate) fn mount(&mut self) -> Result<()> {
        let device = output(command("losetup", ["-f", "--show"]).arg(&self.image))?;
        let device = self.device.insert(device.trim().to_owned());
        // A page a request: the loop driver takes a write for whole that the file below took in part, and a disk that lies so is
        // none that anything could be proved on.
        let name = device.trim_start_matches("/dev/");
        std::fs::write(format!("/sys/block/{name}/queue/max_sectors_kb"), "4")
            .with_context(|| format!("bounding the requests of {device}"))?;
        output(command("mount", ["-t", self.kind.name(), device]).arg(&self.point))?;
        self.is_mounted = true;
        Ok(())
    }

    /// Cuts the power: from now on nothing is written, and whatever was not synced is gone.
    pub(crate) fn cut(&self) -> Result<()> {
        let point = File::open(&self.point)?;
        // SAFETY: the operation takes a pointer to a u32, which `Setter` passes for the length of the call, and writes nothing.
        #[allow(unsafe_code)]
        let done = unsafe {
            rustix::ioctl::ioctl(point.as_fd(), rustix::ioctl::Setter::<SHUTDOWN, u32>::new(WITHOUT_FLUSH))
        };
        done.with_context(|| format!("shutting down {}", self.point.display()))
    }

    /// Fills it up to so many MB, with a file that [`Mounted::unfill`] removes.
    pub(crate) fn fill(&self, room_mb: u64) -> Result<()> {
        fill(&self.point, room_mb)
    }

    /// Fills it up to the last block.
    pub(crate) fn fill_up(&self) -> Result<()> {
        fill(&self.point, 1)?;
        let mut filler = File::options().append(true).open(self.point.join(FILLER))?;
        loop {
            match filler.write_all(&[7; BLOCK_BYTES]) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::StorageFull => return Ok(()),
                Err(error) => return Err(error).context("filling up a disk"),
            }
        }
    }

    pub(crate) fn unfill(&self) -> Result<()> {
        Ok(std::fs::remove_file(self.point.join(FILLER))?)
    }

    /// Unmounts it and lets go of the device.
    pub(crate) fn unmount(&mut self) -> Result<()> {
        if self.is_mounted {
            unmount(&self.point)?;
            self.is_mounted = false;
        }
        if let Some(device) = self.device.take() {
            output(&mut command("losetup", ["-d", &device]))?;
        }
        Ok(())
    }

    /// Unmounts and mounts it again: what was only in memory is gone.
    pub(crate) fn remount(&mut self) -> Result<()> {
        self.unmount()?;
        self.mount()
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let done = self.unmount().and_then(|()| {
            std::fs::remove_file(&self.image)?;
            Ok(std::fs::remove_dir(&self.point)?)
        });
        if let Err(error) = done {
            eprintln!("{} is left behind: {error:#}", self.image.display());
        }
    }
}

fn fill(point: &Path, room_mb: u64) -> Result<()> {
    let stat = rustix::fs::statvfs(point)?;
    let free = stat.f_bavail * stat.f_frsize;
    let size =
        free.checked_sub(room_mb << 20).filter(|size| *size > 0).context("there is less room already")?;
    let filler = File::create(point.join(FILLER))?;
    rustix::fs::fallocate(filler, rustix::fs::FallocateFlags::empty(), 0, size).context("filling up a disk")
}

/// Others who write to the same disk and wait for it, as much as makes a sync take its time whatever the machine: a cut hits more
/// that is under way.
#[derive(Debug)]
pub(crate) struct Noise {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Noise {
    pub(crate) fn on(disk: &Mounted) -> Noise {
        let (stop, path) = (Arc::new(AtomicBool::new(false)), disk.point.join("noise"));
        let stopping = stop.clone();
        let thread = spawn(move || {
            let block = vec![7; NOISE_BYTES];
            let mut blocks = 1;
            while !stopping.load(Ordering::Relaxed) {
                // It fails once the power is cut, and nobody needs what it writes.
                match written(&path, &block, blocks) {
                    Ok(took) if took < NOISY_SYNC => blocks = (blocks * 2).min(NOISE_BYTES_MAX / NOISE_BYTES),
                    Ok(took) if took > NOISY_SYNC * 4 => blocks = (blocks / 2).max(1),
                    Ok(_) => {}
                    Err(_) => sleep(POLL),
                }
            }
        });
        Noise { stop, thread: Some(thread) }
    }
}

impl Drop for Noise {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            eprintln!("the thread that makes noise on a disk panicked");
        }
    }
}

/// Writes a file anew, and says how long its sync took.
fn written(path: &Path, block: &[u8], blocks: usize) -> std::io::Result<Duration> {
    let mut file = File::create(path)?;
    for _ in 0..blocks {
        file.write_all(block)?;
    }
    let began = Instant::now();
    file.sync_all()?;
    Ok(began.elapsed())
}

fn place(name: &str) -> Result<PathBuf> {
    let point = places::data()?.join(format!("mount-{name}"));
    let mounts = std::fs::read_to_string("/proc/self/mounts")?;
    if mounts.contains(&format!(" {} ", point.display())) {
        bail!(
            "{} is mounted still, from a run that was killed: unmount it, and `losetup -d` its device",
            point.display()
        );
    }
    places::emptied(point)
}

/// A process that has ended may be letting go of its files still.
fn unmount(point: &Path) -> Result<()> {
    let deadline = Instant::now() + UNMOUNT_DEADLINE;
    loop {
        match output(command("umount", Vec::<String>::new()).arg(point)) {
            Ok(_) => return Ok(()),
            Err(error) if Instant::now() >= deadline => return Err(error),
            Err(_) => sleep(POLL),
        }
    }
}
