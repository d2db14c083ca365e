//! The program itself, for what only a process shows: exit codes, signals, kills, memory.
//!
//! What it says goes to files, which are read while it runs. A process ends with its handle, at the latest.

use std::net::SocketAddr;
use std::os::fd::AsFd as _;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};

use aquifer_runtime::World;

use crate::client::{Client, eventually};
use crate::node::Home;

/// A running process.
pub(crate) struct Process {
    child: Child,
    stdout: PathBuf,
    stderr: PathBuf,
}

/// What a process left when it ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Process {
    /// Runs the program, with nothing of this process's environment.
    pub(crate) fn run(home: &Home, args: &[&str], environment: &[(&str, &str)]) -> Process {
        Process::run_on(home, args, environment, b"")
    }

    /// Runs the program with this on its standard input.
    pub(crate) fn run_on(home: &Home, args: &[&str], environment: &[(&str, &str)], input: &[u8]) -> Process {
        let world = World::system();
        let path = home.path().join(format!("stdin-{}", world.rng.uuid()));
        world.disk.write_atomic(&path, input).expect("a file of its own");
        let stdin = world.disk.open_read(&path).expect("the file just written");
        let stdin = stdin.as_fd().try_clone_to_owned().expect("a descriptor to hand on");
        let open = |name: &str| {
            let path = home.path().join(format!("{name}-{}", world.rng.uuid()));
            let file = world.disk.create_new(&path).expect("a file of its own");
            let file = file.as_fd().try_clone_to_owned().expect("a descriptor to hand on");
            (path, Stdio::from(file))
        };
        let ((stdout, stdout_file), (stderr, stderr_file)) = (open("stdout"), open("stderr"));
        let mut command = Command::new(env!("CARGO_BIN_EXE_aquifer"));
        command.args(args).env_clear().envs(environment.iter().copied()).current_dir(home.path());
        command.stdin(stdin).stdout(stdout_file).stderr(stderr_file);
        Process { child: command.spawn().expect("the program runs"), stdout, stderr }
    }

    /// What it has said so far, on standard error.
    pub(crate) fn log(&self) -> String {
        text_of(&self.stderr)
    }

    /// Waits until it says so, on standard error; gives the line.
    pub(crate) async fn says(&mut self, what: &str) -> String {
        eventually(what, async || {
            let log = self.log();
            let line = log.lines().find(|line| line.contains(what)).map(str::to_owned);
            assert!(line.is_some() || self.child.try_wait().expect("its state").is_none(), "it ended: {log}");
            line
        })
        .await
    }

    /// Waits until it ends by itself.
    pub(crate) async fn ended(mut self, what: &str) -> Ended {
        let status: ExitStatus = eventually(what, async || self.child.try_wait().expect("its state")).await;
        Ended { code: status.code(), stdout: text_of(&self.stdout), stderr: text_of(&self.stderr) }
    }

    /// Sends a signal by its name.
    pub(crate) fn signal(&self, name: &str) {
        let id = self.child.id().to_string();
        let sent = Command::new("kill").args(["-s", name, &id]).status().expect("kill can be run");
        assert!(sent.success(), "kill -s {name} {id}: {sent}");
    }

    /// Memory that it holds, in bytes.
    pub(crate) fn resident_bytes(&self) -> u64 {
        let path = PathBuf::from(format!("/proc/{}/status", self.child.id()));
        let status = text_of(&path);
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("Linux tells it");
        let kib: u64 = line.trim().trim_end_matches(" kB").parse().expect("a number");
        kib << 10
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended long ago.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn text_of(path: &std::path::Path) -> String {
    String::from_utf8_lossy(&World::system().disk.read(path).expect("a file that is there")).into_owned()
}

/// A broker as a process.
pub(crate) struct BrokerProcess {
    pub(crate) process: Process,
    pub(crate) address: SocketAddr,
}

impl BrokerProcess {
    /// Starts it and waits until it serves.
    pub(crate) async fn start(home: &Home) -> BrokerProcess {
        let mut process = Process::run(home, &broker_args(home, &[]), &[]);
        // The one line of the log that is an interface: with port 0, how else should one know?
        let line = process.says("serving Kafka clients").await;
        let address = line.rsplit_once("address=").expect("where").1.trim().parse().expect("an address");
        BrokerProcess { process, address }
    }

    pub(crate) async fn client(&self) -> Client {
        Client::connect(self.address).await
    }

    /// As a power cut that spares the page cache.
    pub(crate) fn kill(self) {
        drop(self);
    }
}

/// `aquifer broker` over this home.
pub(crate) fn broker_args<'a>(home: &'a Home, more: &[&'a str]) -> Vec<&'a str> {
    let mut args = vec!["broker"];
    for set in home.sets() {
        args.extend(["--set", set]);
    }
    args.extend(more);
    args
}
