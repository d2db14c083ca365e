//! What all commands that talk to a cluster take.

use aquifer_model::TopicName;
use aquifer_runtime::tasks::TaskGroup;
use aquifer_runtime::world::World;
use clap::Args;

use crate::cli::cluster::Cluster;
use crate::config::Endpoint;
use crate::net::PeerOptions;

/// Kafka's port.
const PORT: u16 = 9092;

/// How to find the cluster.
#[derive(Debug, Clone, Args)]
pub struct ClientArgs {
    /// Brokers to find the cluster by: host:port, between commas
    #[arg(
        long,
        global = true,
        env = "AQUIFER_BOOTSTRAP",
        default_value = "127.0.0.1:9092",
        value_delimiter = ',',
        value_parser = parse_address,
        value_name = "HOST:PORT"
    )]
    pub bootstrap: Vec<Endpoint>,
}

impl ClientArgs {
    /// The cluster.
    pub fn cluster(&self, world: &World, tasks: &TaskGroup) -> Cluster {
        Cluster::new(world, tasks, self.bootstrap.clone(), PeerOptions::default())
    }
}

/// Reads `host`, `host:port` or `[address]:port`.
fn parse_address(text: &str) -> Result<Endpoint, String> {
    let text = text.trim();
    let is_host_alone = !text.contains(':') || text.ends_with(']');
    let endpoint = match is_host_alone {
        true => Endpoint::parse(&format!("{text}:{PORT}"))?,
        false => Endpoint::parse(text)?,
    };
    if endpoint.host.is_empty() || endpoint.port == 0 {
        return Err(format!("{text:?} is no host:port"));
    }
    Ok(endpoint)
}

/// Reads a topic's name.
pub fn parse_topic(text: &str) -> Result<TopicName, String> {
    TopicName::new(text).map_err(|error| error.to_string())
}

/// Reads `key=value`.
pub fn parse_pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err(format!("{text:?} is no key=value")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_may_leave_out_kafkas_port() {
        for (text, expected) in [
            ("localhost", Some("localhost:9092")),
            (" a:1 ", Some("a:1")),
            ("[::1]", Some("[::1]:9092")),
            ("[::1]:2", Some("[::1]:2")),
            ("", None),
            (":9092", None),
            ("a:b", None),
            ("a:0", None),
            ("::1", None),
        ] {
            let parsed = parse_address(text).ok().map(|endpoint| endpoint.to_string());
            assert_eq!(parsed.as_deref(), expected, "{text}");
        }
    }
}
