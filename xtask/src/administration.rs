//! Admin clients: each makes a topic with a setting, looks at it, alters another setting, gives it more partitions and deletes it.
//! After each step it says what the broker tells of the topic, which must be what is known here.

use crate::broker::Broker;
use crate::clients::Client;
use crate::stages::Stages;
use anyhow::{Result, ensure};
use std::path::Path;

/// One that resets what it was not told to alter shows it here: `retention.ms` would be gone.
const ALTERED: &str = "altered partitions=2 retention.ms=3600000 segment.bytes=2097152";

/// Runs all of it against a broker of its own.
pub(crate) fn run_on(stages: &mut Stages, binary: &Path, url: &str, clients: &[Client]) -> Result<()> {
    let broker = Broker::start(binary, "administration", url, &[])?;
    run_against(stages, &broker.bootstrap, clients)?;
    broker.end()
}

/// The same against a broker that runs already.
pub(crate) fn run_against(stages: &mut Stages, bootstrap: &str, clients: &[Client]) -> Result<()> {
    for (number, client) in clients.iter().enumerate().filter(|(_, client)| client.administers()) {
        let said =
            client.administer(bootstrap, &format!("administration-{}-{number}", std::process::id()))?;
        ensure!(said == expected(client.alters()), "{} said:\n{said}", client.name());
        let altered = if client.alters() { "altered, " } else { "" };
        stages.pass(&format!("{} made, described, {altered}grew and deleted a topic", client.name()));
    }
    Ok(())
}

fn expected(alters: bool) -> String {
    let created = Some("created partitions=2 retention.ms=3600000");
    let steps =
        [created, alters.then_some(ALTERED), Some("grown partitions=4"), Some("deleted partitions=0")];
    steps.into_iter().flatten().flat_map(|step| [step, "\n"]).collect()
}
