//! The reference of all keys, `docs/configuration.md`, made from their declarations.

use super::broker;
use super::reader::{Entry, Reader};
use super::refused;

const HEAD: &str = "\
# Configuration

<!-- Made from the tables in src/config. To refresh: UPDATE_EXPECT=1 cargo test -p aquifer --lib config::reference -->

A broker's configuration is one TOML file, given by `aquifer broker --config FILE`. Settings that Kafka has bear Kafka's name and
mean the same; Aquifer's own begin with `tier.`, `raft.`, `admin.` or `logging.`, or stand beside Kafka's where they belong.

```toml
node.id = 1
listeners = \"PLAINTEXT://:9092\"
log.dirs = \"/var/lib/aquifer\"
tier.object.store = \"s3://bucket/prefix?region=eu-central-1\"
\"max.connections.per.ip\" = 100   # quoted: max.connections is a key itself, which TOML cannot make a table of
```

A value may be given in several places. Each goes before those above it:

1. the default, or that of the command (`aquifer dev` has a bucket of its own);
2. the file;
3. the environment: `log.segment.bytes` is `AQUIFER_LOG_SEGMENT_BYTES`;
4. a flag that stands for a key, such as `--listen`;
5. `--set key=value`;
6. what was set at run time, by `kafka-configs` or any client: for all brokers, then for one. Only keys marked *dynamic*;
7. for a topic or a group, its own configuration.

`--print-config` shows each value and where it came from, in the form of a configuration file. A key that does not exist, a value
that is not allowed, and a setting of Kafka's that Aquifer does not honour (at the end of this page) are errors; all of them are
told at once.
";

/// The page `docs/configuration.md`: every key, and every key of Kafka's that is refused. Markdown.
pub fn reference() -> String {
    let mut reader = Reader::of_broker(&[]);
    broker::read(&mut reader);
    let entries = reader.finish().entries;
    let mut out = HEAD.to_owned();
    out.push_str("\n## Keys of a broker\n");
    sections(&mut out, &entries, |entry| entry.topic.is_none(), broker_row, BROKER_COLUMNS);
    out.push_str("\n## Keys of a topic\n\n");
    out.push_str("Set when a topic is created, or later. The broker's key is the default of all topics, and is *dynamic*.\n");
    sections(&mut out, &entries, |entry| entry.topic.is_some(), topic_row, TOPIC_COLUMNS);
    out.push_str("\n## Keys of a group\n\n");
    out.push_str(
        "Set at any time, also before the group is there, with `kafka-configs.sh --entity-type groups`, and in force from the next heartbeats \
         of its members on. The broker's key is the default of all groups.\n\n",
    );
    out.push_str(GROUP_COLUMNS);
    for entry in entries.iter().filter(|entry| entry.group.is_some()) {
        out.push_str(&group_row(entry));
    }
    out.push_str("\n## Settings of Kafka's that are refused\n\n");
    out.push_str(
        "A name that ends in a dot stands for all that begin with it. A value in brackets is accepted.\n\n",
    );
    out.push_str("| Why | Keys |\n|---|---|\n");
    for (why, keys) in refused::reference() {
        let shown = keys.iter().map(|(name, accepted)| match accepted {
            Some("") => format!("`{name}` (empty)"),
            Some(value) => format!("`{name}` (`{value}`)"),
            None => format!("`{name}`"),
        });
        out.push_str(&format!("| {why} | {} |\n", shown.collect::<Vec<_>>().join(", ")));
    }
    out
}

const BROKER_COLUMNS: &str = "| Key | Default | Allowed | Meaning |\n|---|---|---|---|\n";
const TOPIC_COLUMNS: &str = "| Key | Broker's key | Default | Allowed | Meaning |\n|---|---|---|---|---|\n";

const GROUP_COLUMNS: &str = "| Key | Broker's key | Default |\n|---|---|---|\n";

fn sections(
    out: &mut String,
    entries: &[Entry],
    belongs: fn(&Entry) -> bool,
    row: fn(&Entry) -> String,
    columns: &str,
) {
    let mut section = "";
    for entry in entries.iter().filter(|entry| belongs(entry)) {
        if entry.section != section {
            section = entry.section;
            out.push_str(&format!("\n### {section}\n\n{columns}"));
        }
        out.push_str(&row(entry));
    }
}

fn broker_row(entry: &Entry) -> String {
    let name = entry.broker.expect("a key is a broker's, a topic's or both");
    let dynamic = if entry.dynamic { "*Dynamic.* " } else { "" };
    format!("| {} | {} | {} | {dynamic}{} |\n", names(name, entry), default(entry), allowed(entry), entry.doc)
}

fn topic_row(entry: &Entry) -> String {
    let topic = entry.topic.expect("only topics' keys get here");
    let broker = entry.broker.map_or_else(String::new, |name| names(name, entry));
    format!("| `{topic}` | {broker} | {} | {} | {} |\n", default(entry), allowed(entry), entry.doc)
}

/// What it means and what is allowed stands with the broker's.
fn group_row(entry: &Entry) -> String {
    let (group, broker) =
        (entry.group.expect("only groups' keys get here"), entry.broker.unwrap_or_default());
    format!("| `{group}` | `{broker}` | {} |\n", default(entry))
}

fn names(name: &str, entry: &Entry) -> String {
    let names = std::iter::once(name).chain(entry.aliases.iter().copied());
    names.map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

fn default(entry: &Entry) -> String {
    match (entry.default_note, entry.default.as_str()) {
        (Some(note), _) => note.to_owned(),
        (None, "") => "none".to_owned(),
        (None, "9223372036854775807") => "2^63 - 1".to_owned(),
        (None, value) => format!("`{value}`"),
    }
}

fn allowed(entry: &Entry) -> String {
    match entry.fixed {
        Some(why) => format!("only the default: {why}"),
        None => entry.allowed.clone(),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use aquifer_runtime::files::Disk;

    /// Set to write the page anew instead of comparing it.
    const UPDATE: &str = "UPDATE_EXPECT";

    #[test]
    fn the_page_in_docs_is_made_from_the_tables() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/configuration.md");
        let disk = Disk::host();
        let made = super::reference();
        if std::env::var_os(UPDATE).is_some() {
            disk.create_dir_all(path.parent().unwrap()).unwrap();
            disk.write_atomic(&path, made.as_bytes()).unwrap();
        }
        let stored = String::from_utf8(disk.read_if_exists(&path).unwrap().unwrap_or_default()).unwrap();
        // Not assert_eq: two pages side by side tell nobody what changed.
        let differs = made.lines().zip(stored.lines()).position(|(made, stored)| made != stored);
        let line = differs.unwrap_or_else(|| made.lines().count().min(stored.lines().count()));
        assert!(
            made == stored,
            "docs/configuration.md is not what the tables say, from line {} on: refresh it with {UPDATE}=1\n  made:   {:?}\n  stored: {:?}",
            line + 1,
            made.lines().nth(line),
            stored.lines().nth(line),
        );
    }
}
