//! MinIO and LocalStack, started by the same scripts that a user starts them with.

use crate::{places, run, server};
use anyhow::{Context, Result};
use server::Server;
use std::time::Duration;

/// The keys that the scripts give their servers, and that every client of them must have in its environment.
pub(crate) const KEYS: [(&str, &str); 2] =
    [("AWS_ACCESS_KEY_ID", "aquifer"), ("AWS_SECRET_ACCESS_KEY", "aquifer-secret")];
const BUCKET: &str = "aquifer";
const READY_DEADLINE: Duration = Duration::from_secs(90);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    MinIo,
    LocalStack,
}

impl Kind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Kind::MinIo => "minio",
            Kind::LocalStack => "localstack",
        }
    }

    fn script(self) -> std::path::PathBuf {
        places::root().join("localstack").join(format!("{}.sh", self.name()))
    }

    /// Installs it, unless it is there.
    pub(crate) fn install(self) -> Result<()> {
        run::run(&mut run::command(self.script(), ["--install"]))
    }

    /// Starts it on a free port, with an empty folder and one bucket.
    pub(crate) fn start(self) -> Result<Store> {
        let name = self.name();
        let port = server::free_port()?;
        let folder = places::emptied(places::data()?.join(name))?;
        let mut command =
            run::command(self.script(), ["--port", &port.to_string(), "--bucket", BUCKET, "--folder"]);
        command.arg(folder).envs(KEYS);
        let log = places::log(name)?;
        let mut server = Server::start(name, &mut command, &log)?;
        server.wait_for("ready", READY_DEADLINE, || {
            let said = std::fs::read_to_string(&log).with_context(|| format!("reading {}", log.display()))?;
            Ok(said.contains("OBJECT_STORE_URL=").then_some(()))
        })?;
        println!("   {name} is ready on port {port}");
        Ok(Store { _server: server, port })
    }
}

/// A running S3 server with one bucket.
#[derive(Debug)]
pub(crate) struct Store {
    _server: Server,
    port: u16,
}

impl Store {
    /// The URL of one prefix of its bucket, for `--object-store`.
    pub(crate) fn url(&self, prefix: &str) -> String {
        format!(
            "s3://{BUCKET}/{prefix}?endpoint=http://127.0.0.1:{}&region=us-east-1&allow_http=true",
            self.port
        )
    }
}
