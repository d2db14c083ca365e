//! `aquifer group`: list, describe with lag, reset offsets, delete.

use std::collections::BTreeMap;

use anyhow::{bail, ensure};
use aquifer_model::{Offset, Timestamp, TopicName};
use aquifer_protocol::messages::list_offsets::ListOffsetsRequest;
use aquifer_protocol::{ErrorCode, Str};
use aquifer_runtime::tasks::TaskGroup;
use aquifer_runtime::world::World;
use clap::{ArgGroup, Args, Subcommand};
use serde_json::{Value, json};

use crate::cli::client::ClientArgs;
use crate::cli::cluster::{Cluster, LOCAL_SINCE, Topic};
use crate::cli::consumer::{EARLIEST, EARLIEST_LOCAL, LATEST, offsets, starts};
use crate::cli::coordinator::{self, Group, Member, Positions};
use crate::cli::output::{Output, Table};
use crate::cli::places::{Places, places};
use crate::cli::whence::Whence;

/// States of a group in which nobody is in it.
const WITHOUT_MEMBERS: [&str; 2] = ["Empty", "Dead"];

/// Consumer groups
#[derive(Debug, Args)]
pub struct GroupArgs {
    #[command(flatten)]
    client: ClientArgs,
    #[command(subcommand)]
    command: GroupCommand,
}

#[derive(Debug, Subcommand)]
enum GroupCommand {
    /// List all groups
    List(List),
    /// Show how far groups have read, how much is left to them, and who reads it
    Describe(Describe),
    /// Move where a group that has no members goes on reading
    ResetOffsets(Reset),
    /// Delete groups that have no members, with their positions
    Delete(Delete),
}

#[derive(Debug, Args)]
struct List {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct Describe {
    /// Their names
    #[arg(required = true)]
    groups: Vec<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
#[command(group(ArgGroup::new("scope").required(true).multiple(false)))]
#[command(group(ArgGroup::new("place").required(true).multiple(false)))]
struct Reset {
    /// Its name
    group: String,
    /// A topic, or some of its partitions; may be given several times
    #[arg(long, short, group = "scope", value_parser = parse_scope, value_name = "TOPIC[:PARTITION,...]")]
    topic: Vec<Scope>,
    /// All topics that the group has a position in
    #[arg(long, group = "scope")]
    all_topics: bool,
    /// Where to go: beginning, end, an offset, -N for N records before the end, @MILLISECONDS since 1970, or @-15m for a time
    /// ago (s, m, h, d); kept within what there is
    #[arg(long, group = "place", value_parser = Whence::parse, allow_hyphen_values = true, value_name = "WHERE")]
    to: Option<Whence>,
    /// How many records on, or back for -N, from where the group is; kept within what there is
    #[arg(long, group = "place", allow_hyphen_values = true, value_name = "NUMBER")]
    by: Option<i64>,
    /// Do it; without this it is only shown
    #[arg(long)]
    execute: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct Delete {
    /// Their names
    #[arg(required = true)]
    groups: Vec<String>,
    /// Be content with groups that are not there
    #[arg(long)]
    if_exists: bool,
}

/// A topic; no partitions stand for all.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Scope {
    topic: TopicName,
    partitions: Vec<i32>,
}

fn parse_scope(text: &str) -> Result<Scope, String> {
    let (topic, partitions) = match text.split_once(':') {
        None => (text, Vec::new()),
        Some((topic, list)) => {
            let index = |word: &str| word.parse().ok().filter(|index| *index >= 0);
            let indexes: Option<Vec<i32>> = list.split(',').map(index).collect();
            (topic, indexes.ok_or_else(|| format!("{list:?} is no list of partitions, as 0,1,2"))?)
        }
    };
    let topic = TopicName::new(topic).map_err(|error| error.to_string())?;
    Ok(Scope { topic, partitions })
}

impl GroupArgs {
    /// Runs the command.
    pub async fn run(self, world: &World, tasks: &TaskGroup) -> anyhow::Result<()> {
        let cluster = self.client.cluster(world, tasks);
        let mut out = Output::stdout();
        match self.command {
            GroupCommand::List(command) => list(&cluster, &command, &mut out).await?,
            GroupCommand::Describe(command) => describe(&cluster, &command, &mut out).await?,
            GroupCommand::ResetOffsets(command) => reset(&cluster, command, &mut out).await?,
            GroupCommand::Delete(command) => delete(&cluster, &command, &mut out).await?,
        }
        out.flush()?;
        Ok(())
    }
}

async fn list(cluster: &Cluster, command: &List, out: &mut Output) -> anyhow::Result<()> {
    let groups = coordinator::list(cluster).await?;
    if command.json {
        let shown = groups.iter().map(|group| {
            json!({
                "group": &*group.group_id,
                "state": &*group.group_state,
                "type": &*group.group_type,
                "protocol_type": &*group.protocol_type,
            })
        });
        out.json(&shown.collect())?;
        return Ok(());
    }
    let mut table = Table::new(&["GROUP", "STATE", "TYPE", "PROTOCOL-TYPE"]);
    for group in groups {
        let words = [group.group_id, group.group_state, group.group_type, group.protocol_type];
        table.row(words.map(|word| word.to_string()));
    }
    out.table(&table)?;
    Ok(())
}

/// How far a group is in a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Progress {
    topic: String,
    partition: i32,
    offset: Option<Offset>,
    start: Option<Offset>,
    /// Unknown from brokers that do not tell.
    local_start: Option<Offset>,
    end: Option<Offset>,
    /// Why start or end are not known, where they should be.
    unknown: Option<String>,
    /// Who reads it: a member's id.
    member: Option<String>,
}

impl Progress {
    /// How many offsets are left to read; without a position it cannot be said.
    fn lag(&self) -> Option<u64> {
        Some(self.end?.since(self.offset?))
    }

    /// Where the next record that the group reads lies.
    fn place(&self) -> &'static str {
        let Some(offset) = self.offset else { return "" };
        match (self.start, self.local_start) {
            // It goes on by its own rule for that, auto.offset.reset.
            (Some(start), _) if offset < start => "gone",
            (_, Some(local)) if offset < local => "bucket",
            (_, Some(_)) => "local",
            (_, None) => "",
        }
    }
}

async fn describe(cluster: &Cluster, command: &Describe, out: &mut Output) -> anyhow::Result<()> {
    let mut shown = Vec::new();
    for name in &command.groups {
        let Some(group) = coordinator::describe(cluster, name).await? else {
            bail!("group {name} does not exist");
        };
        let positions = coordinator::positions(cluster, name).await?;
        let progress = progress(cluster, positions, &group.members).await?;
        if command.json {
            shown.push(as_json(&group, &progress));
            continue;
        }
        if name != &command.groups[0] {
            out.line("")?;
        }
        print(&group, &progress, out)?;
    }
    if command.json {
        out.json(&Value::from(shown))?;
    }
    Ok(())
}

/// What the group has a position in, and what its members read though it has none yet.
async fn progress(
    cluster: &Cluster,
    positions: Positions,
    members: &[Member],
) -> anyhow::Result<Vec<Progress>> {
    let mut readers: BTreeMap<(String, i32), String> = BTreeMap::new();
    for member in members {
        for (topic, partitions) in member.assigned.iter().flatten() {
            for partition in partitions {
                readers.insert((topic.clone(), *partition), member.id.clone());
            }
        }
    }
    let mut all: BTreeMap<String, BTreeMap<i32, Option<Offset>>> = BTreeMap::new();
    for (topic, partition) in readers.keys() {
        all.entry(topic.clone()).or_default().insert(*partition, None);
    }
    for (topic, partitions) in positions {
        let stored = partitions.into_iter().map(|(index, stored)| (index, Some(stored)));
        all.entry(topic).or_default().extend(stored);
    }
    let names: Vec<&str> = all.keys().map(String::as_str).collect();
    let metadata = cluster.metadata(Some(&names), false).await?;
    let there =
        metadata.topics.iter().filter(|topic| topic.error_code != ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
    let there = there.map(|topic| Topic::of(&metadata, topic));
    let there: BTreeMap<Str, Topic> = there.map(|topic| (topic.name.clone(), topic)).collect();
    let tells_local = cluster.any().await?.version::<ListOffsetsRequest>()? >= LOCAL_SINCE;
    let mut progress = Vec::new();
    for (topic, partitions) in all {
        let indexes: Vec<i32> = partitions.keys().copied().collect();
        // Of a topic that was deleted meanwhile the positions are told, and no ends.
        let of = async |place: Timestamp, is_told: bool| match there.get(topic.as_str()) {
            Some(known) if is_told => places(cluster, known, &indexes, place).await,
            Some(_) | None => Places::new(),
        };
        let (starts, ends) = (of(EARLIEST, true).await, of(LATEST, true).await);
        let local_starts = of(EARLIEST_LOCAL, tells_local).await;
        let at = |places: &Places, index| {
            places.get(&index).and_then(|place| place.as_ref().ok().copied().flatten())
        };
        let why = |index| {
            [&ends, &starts].into_iter().find_map(|places| places.get(&index)?.as_ref().err().cloned())
        };
        progress.extend(partitions.into_iter().map(|(partition, offset)| Progress {
            partition,
            offset,
            start: at(&starts, partition),
            local_start: at(&local_starts, partition),
            end: at(&ends, partition),
            unknown: why(partition),
            member: readers.get(&(topic.clone(), partition)).cloned(),
            topic: topic.clone(),
        }));
    }
    Ok(progress)
}

/// The lags that are known, together.
fn lag(progress: &[Progress]) -> u64 {
    progress.iter().filter_map(Progress::lag).sum()
}

fn print(group: &Group, progress: &[Progress], out: &mut Output) -> anyhow::Result<()> {
    let Group { name, protocol, state, assignor, members } = group;
    let assignor = if assignor.is_empty() { String::new() } else { format!(", assignor {assignor}") };
    let (count, lag) = (members.len(), lag(progress));
    // A group may be on its way from one protocol to the other.
    let others = members.iter().filter(|member| member.protocol != *protocol).count();
    let others = if others == 0 { String::new() } else { format!(" ({others} of the classic protocol)") };
    let unknown = progress.iter().filter(|one| one.lag().is_none() && one.unknown.is_some()).count();
    let more = if unknown == 0 {
        String::new()
    } else {
        format!(", and unknown in {unknown} of {} partitions", progress.len())
    };
    out.line(format!(
        "group {name}, {state}, {protocol} protocol{assignor}, {count} members{others}, lag {lag}{more}"
    ))?;
    let by_id: BTreeMap<&str, &Member> = members.iter().map(|member| (member.id.as_str(), member)).collect();
    let number = |offset: Option<Offset>| offset.map_or_else(|| "-".to_owned(), |offset| offset.to_string());
    let mut table =
        Table::new(&["TOPIC", "PARTITION", "OFFSET", "END", "LAG", "NEXT-IN", "CLIENT", "HOST", "MEMBER"]);
    for one in progress {
        let reader = one.member.as_deref().and_then(|id| by_id.get(id));
        let of_reader =
            |word: fn(&Member) -> &str| reader.map_or(String::new(), |member| word(member).to_owned());
        table.row([
            one.topic.clone(),
            one.partition.to_string(),
            number(one.offset),
            number(one.end),
            match (one.lag(), &one.unknown) {
                (Some(lag), _) => lag.to_string(),
                (None, Some(_)) => "unknown".to_owned(),
                (None, None) => "-".to_owned(),
            },
            one.place().to_owned(),
            of_reader(|member| &member.client),
            of_reader(|member| &member.host),
            of_reader(|member| member.instance.as_deref().unwrap_or(&member.id)),
        ]);
    }
    out.table(&table)?;
    for one in progress {
        if let Some(why) = &one.unknown {
            out.line(format!(
                "where partition {} of {} begins and ends is unknown now: {why}",
                one.partition, one.topic
            ))?;
        }
    }
    for idle in
        members.iter().filter(|member| !progress.iter().any(|one| one.member.as_ref() == Some(&member.id)))
    {
        out.line(format!("member {} of {} at {} reads nothing", idle.id, idle.client, idle.host))?;
    }
    Ok(())
}

fn as_json(group: &Group, progress: &[Progress]) -> Value {
    let shown = progress.iter().map(|one| {
        json!({
            "topic": one.topic,
            "partition": one.partition,
            "offset": one.offset.map(Offset::get),
            "start": one.start.map(Offset::get),
            "local_start": one.local_start.map(Offset::get),
            "end": one.end.map(Offset::get),
            "lag": one.lag(),
            "unknown": one.unknown,
            "member": one.member,
        })
    });
    let of_members = group.members.iter().map(|member| {
        json!({
            "id": member.id,
            "instance": member.instance,
            "protocol": member.protocol,
            "client": member.client,
            "host": member.host,
            "assigned": member.assigned,
        })
    });
    json!({
        "group": group.name,
        "protocol": group.protocol,
        "state": group.state,
        "assignor": group.assignor,
        "members": of_members.collect::<Value>(),
        "lag": lag(progress),
        "partitions": shown.collect::<Value>(),
    })
}

/// Where a group goes on in a partition: so far, and from now on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Move {
    from: Option<Offset>,
    to: Offset,
}

async fn reset(cluster: &Cluster, command: Reset, out: &mut Output) -> anyhow::Result<()> {
    let group = &command.group;
    if let Some(described) = coordinator::describe(cluster, group).await? {
        ensure!(
            WITHOUT_MEMBERS.contains(&described.state.as_str()),
            "group {group} has members ({}): they would go on where they are; stop them first",
            described.state
        );
    }
    let positions = coordinator::positions(cluster, group).await?;
    let mut moves: BTreeMap<TopicName, BTreeMap<i32, Move>> = BTreeMap::new();
    for Scope { topic, partitions } in scopes(cluster, &command, &positions).await? {
        let before = |index: &i32| positions.get(topic.as_str())?.get(index).copied();
        let earliest = offsets(cluster, &topic, &partitions, EARLIEST).await?;
        let latest = offsets(cluster, &topic, &partitions, LATEST).await?;
        let wanted: BTreeMap<i32, i64> = match (command.to, command.by) {
            (Some(to), _) => {
                let found = starts(cluster, &topic, &partitions, to.at(cluster.world().clock.wall())).await?;
                found.into_iter().map(|(index, offset)| (index, offset.get())).collect()
            }
            (None, by) => {
                let by = by.unwrap_or(0);
                let known = partitions.iter().filter_map(|index| Some((*index, before(index)?)));
                known.map(|(index, offset)| (index, offset.get().saturating_add(by))).collect()
            }
        };
        for (index, wanted) in wanted {
            let (Some(Some(start)), Some(Some(end))) = (earliest.get(&index), latest.get(&index)) else {
                bail!("partition {index} of {topic} does not say where it begins and ends");
            };
            let to = Offset::new(wanted).unwrap_or(Offset::ZERO).clamp(*start, (*end).max(*start));
            moves.entry(topic.clone()).or_default().insert(index, Move { from: before(&index), to });
        }
    }
    ensure!(!moves.is_empty(), "group {group} has no position to move there");
    if command.execute {
        let targets = |partitions: &BTreeMap<i32, Move>| {
            partitions.iter().map(|(index, moved)| (*index, moved.to)).collect::<BTreeMap<_, _>>()
        };
        let positions =
            moves.iter().map(|(topic, partitions)| (topic.clone(), targets(partitions))).collect();
        coordinator::commit(cluster, group, &positions).await?;
    }
    show_moves(&moves, &command, out)
}

/// The partitions meant, topic by topic.
async fn scopes(cluster: &Cluster, command: &Reset, positions: &Positions) -> anyhow::Result<Vec<Scope>> {
    if command.all_topics {
        let all = positions.iter().map(|(topic, partitions)| {
            Ok(Scope { topic: TopicName::new(topic)?, partitions: partitions.keys().copied().collect() })
        });
        return all.collect();
    }
    let mut scopes = Vec::new();
    for scope in &command.topic {
        let topic = cluster.topic(&scope.topic, false).await?;
        let mut partitions = scope.partitions.clone();
        if partitions.is_empty() {
            partitions = topic.partitions.iter().map(|partition| partition.index).collect();
        }
        for index in &partitions {
            topic.partition(*index)?;
        }
        scopes.push(Scope { topic: scope.topic.clone(), partitions });
    }
    Ok(scopes)
}

fn show_moves(
    moves: &BTreeMap<TopicName, BTreeMap<i32, Move>>,
    command: &Reset,
    out: &mut Output,
) -> anyhow::Result<()> {
    let all = moves
        .iter()
        .flat_map(|(topic, partitions)| partitions.iter().map(move |(index, moved)| (topic, *index, *moved)));
    if command.json {
        let shown = all.map(|(topic, partition, Move { from, to })| {
            json!({
                "topic": topic.as_str(),
                "partition": partition,
                "from": from.map(Offset::get),
                "to": to.get(),
            })
        });
        out.json(&json!({
            "group": command.group,
            "done": command.execute,
            "partitions": shown.collect::<Value>(),
        }))?;
        return Ok(());
    }
    let mut table = Table::new(&["TOPIC", "PARTITION", "FROM", "TO"]);
    for (topic, partition, Move { from, to }) in all {
        let from = from.map_or_else(|| "-".to_owned(), |offset| offset.to_string());
        table.row([topic.to_string(), partition.to_string(), from, to.to_string()]);
    }
    out.table(&table)?;
    if !command.execute {
        out.line("nothing was changed: --execute does it")?;
    }
    Ok(())
}

async fn delete(cluster: &Cluster, command: &Delete, out: &mut Output) -> anyhow::Result<()> {
    let mut failures = Vec::new();
    for group in &command.groups {
        match coordinator::delete(cluster, group).await {
            Ok(true) => out.line(format!("deleted {group}"))?,
            Ok(false) if command.if_exists => out.line(format!("{group} is not there"))?,
            Ok(false) => failures.push(format!("group {group} does not exist")),
            Err(error) => failures.push(format!("cannot delete {group}: {}", error.root_cause())),
        }
    }
    if failures.is_empty() { Ok(()) } else { bail!("{}", failures.join("; ")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_are_read_as_typed() {
        let scope = |topic: &str, partitions: &[i32]| {
            Some(Scope { topic: TopicName::new(topic).unwrap(), partitions: partitions.to_vec() })
        };
        for (text, expected) in [
            ("t", scope("t", &[])),
            ("t:0", scope("t", &[0])),
            ("t:0,2", scope("t", &[0, 2])),
            ("t:", None),
            ("t:-1", None),
            ("t:a", None),
            (":1", None),
            ("a b", None),
        ] {
            assert_eq!(parse_scope(text).ok(), expected, "{text}");
        }
    }

    #[test]
    fn it_is_said_where_the_next_record_lies() {
        let at = Offset::new;
        for (offset, start, local_start, expected) in [
            (at(5), at(0), at(10), "bucket"),
            (at(10), at(0), at(10), "local"),
            (at(5), at(6), at(10), "gone"),
            (at(5), at(0), None, ""),
            (None, at(0), at(10), ""),
        ] {
            let topic = "t".to_owned();
            let end = at(12);
            let (unknown, member) = (None, None);
            let one = Progress { topic, partition: 0, offset, start, local_start, end, unknown, member };
            assert_eq!(one.place(), expected, "{one:?}");
            assert_eq!(one.lag(), offset.map(|offset| 12 - offset.get() as u64));
        }
    }
}
