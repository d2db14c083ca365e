//! MinIO and LocalStack, started by the same scripts that a user starts them with.

use crate::{places, run, server};
use anyhow::{Context, Result};
use server::Server;
use std::path::PathBuf;
use std::time::Duration;

/// The keys that the scripts give their servers, and that every client of them must have in its environment.
pub(crate) const KEYS: [(&str, &str); 2] =
    [("AWS_ACCESS_KEY_ID", "aquifer"), ("AWS_SECRET_ACCESS_KEY", "aquifer-secret")];
pub(crate) const BUCKET: &str = "aquifer";
const READY_DEADLINE: Duration = Duration::from_secs(90);

/// The URL of one prefix of the bucket at an address, the server's or a proxy's.
pub(crate) fn url(address: &str, prefix: &str) -> String {
    format!("s3://{BUCKET}/{prefix}?endpoint=http://{address}&region=us-east-1&allow_http=true")
}

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

    fn script(self) -> PathBuf {
        places::root().join("localstack").join(format!("{}.sh", self.name()))
    }

    /// Installs it, unless it is there.
    pub(crate) fn install(self) -> Result<()> {
        run::run(&mut run::command(self.script(), ["--install"]))
    }

    /// Starts it on a free port, with an empty folder and one bucket.
    pub(crate) fn start(self) -> Result<Store> {
        let folder = places::emptied(places::data()?.join(self.name()))?;
        let mut store = Store {
            kind: self,
            port: server::free_port()?,
            folder,
            log: places::log(self.name())?,
            server: None,
        };
        store.start()?;
        Ok(store)
    }
}

/// An S3 server with one bucket. It ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Store {
    kind: Kind,
    port: u16,
    folder: PathBuf,
    log: PathBuf,
    server: Option<Server>,
}

impl Store {
    /// Where it listens.
    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The URL of one prefix of its bucket, for `--object-store`.
    pub(crate) fn url(&self, prefix: &str) -> String {
        url(&self.address(), prefix)
    }

    /// Starts it, again on the same port with what it stored, if it was stopped.
    pub(crate) fn start(&mut self) -> Result<()> {
        let name = self.kind.name();
        // The script says so once the bucket is there.
        let ready = || -> Result<usize> {
            let said = std::fs::read_to_string(&self.log)
                .with_context(|| format!("reading {}", self.log.display()))?;
            Ok(said.matches("OBJECT_STORE_URL=").count())
        };
        let before = ready()?;
        let port = self.port.to_string();
        let mut command = run::command(self.kind.script(), ["--port", &port, "--bucket", BUCKET, "--folder"]);
        let mut server = Server::start(name, command.arg(&self.folder).envs(KEYS), &self.log)?;
        server.wait_for("ready", READY_DEADLINE, || Ok((ready()? > before).then_some(())))?;
        self.server = Some(server);
        println!("   {name} is ready on port {port}");
        Ok(())
    }

    /// Ends it; what it stored stays.
    pub(crate) fn stop(&mut self) -> Result<()> {
        if let Some(mut server) = self.server.take() {
            server.end()?;
        }
        Ok(())
    }
}
