use std::collections::BTreeMap;

use aquifer_model::{BrokerId, Timestamp, TopicName};
use uuid::Uuid;

use super::*;
use crate::metadata::apply::apply;
use crate::metadata::command::{
    BrokerRef, CreatePartitions, CreateTopic, DeleteTopic, FormatCluster, KnownConfigs, RegisterBroker,
    Remains, SetGroupConfigs,
};
use crate::metadata::image::{Configs, Endpoint, SecurityProtocol};
use crate::metadata::{
    BrokerEpoch, BrokerIncarnation, ClusterId, Command, DirectoryId, Incarnation, RaftNodeId,
};

/// A cluster of one broker, whose topics come and go.
#[derive(Debug, Clone)]
pub(in crate::groups) struct Cluster {
    image: Image,
    topics_made: u128,
}

impl Cluster {
    pub(in crate::groups) fn new() -> Cluster {
        let mut cluster = Cluster { image: Image::default(), topics_made: 0 };
        cluster.apply(Command::FormatCluster(FormatCluster {
            cluster: ClusterId::new(Uuid::from_u128(1)),
            incarnation: Incarnation(1),
            features: BTreeMap::new(),
        }));
        let endpoint = Endpoint {
            listener: "PLAINTEXT".to_owned(),
            host: "localhost".to_owned(),
            port: 9092,
            security: SecurityProtocol::Plaintext,
        };
        cluster.apply(Command::RegisterBroker(RegisterBroker {
            broker: BrokerId(1),
            incarnation: BrokerIncarnation(Uuid::from_u128(1)),
            node: RaftNodeId(1),
            endpoints: vec![endpoint],
            rack: None,
            directories: vec![DirectoryId(Uuid::from_u128(1))],
            time: Timestamp(0),
        }));
        cluster.apply(Command::UnfenceBroker(BrokerRef { broker: BrokerId(1), epoch: BrokerEpoch(0) }));
        cluster
    }

    fn apply(&mut self, command: Command) {
        apply(&mut self.image, &command).expect("a sound command");
    }

    pub(in crate::groups) fn image(&self) -> Arc<Image> {
        Arc::new(self.image.clone())
    }

    pub(in crate::groups) fn id(&self, topic: &str) -> TopicId {
        self.image.topic_named(topic).expect("it was made").id
    }

    pub(in crate::groups) fn create(&mut self, topic: &str, partitions: usize) {
        self.topics_made += 1;
        self.apply(Command::CreateTopic(CreateTopic {
            id: TopicId::new(Uuid::from_u128(1_000 + self.topics_made)),
            name: TopicName::new(topic).expect("a name"),
            partitions: vec![vec![BrokerId(1)]; partitions],
            configs: Configs::new(),
        }));
    }

    pub(in crate::groups) fn grow(&mut self, topic: &str, by: usize) {
        let (topic, existing) = {
            let topic = self.image.topic_named(topic).expect("it was made");
            (topic.id, topic.partitions.len())
        };
        let added = vec![vec![BrokerId(1)]; by];
        self.apply(Command::CreatePartitions(CreatePartitions { topic, existing, added }));
    }

    /// Sets something for a group.
    pub(in crate::groups) fn configure(&mut self, group: &str, key: &str, value: &str) {
        let changes = [(key.to_owned(), Some(value.to_owned()))].into();
        let set = SetGroupConfigs { group: group.to_owned(), changes, known: KnownConfigs::new() };
        self.apply(Command::SetGroupConfigs(set));
    }

    pub(in crate::groups) fn delete(&mut self, topic: &str) {
        let topic = self.id(topic);
        let (remains, time) = (Remains::Nothing, Timestamp(0));
        self.apply(Command::DeleteTopic(DeleteTopic { topic, remains, time }));
    }
}

fn strs(names: &[&str]) -> Vec<Str> {
    names.iter().map(|name| Str::from(*name)).collect()
}

#[test]
fn a_version_tells_when_topics_come_go_and_grow() {
    let mut cluster = Cluster::new();
    let mut topics = Topics::default();
    topics.see(cluster.image());
    let mut before = (topics.version(), topics.hash(&strs(&["a", "b"])));
    assert_eq!(before.1, 0, "there are none");
    let mut seen = vec![before.1];
    let steps: [fn(&mut Cluster); 4] = [
        |cluster| cluster.create("a", 1),
        |cluster| cluster.grow("a", 1),
        |cluster| cluster.delete("a"),
        |cluster| cluster.create("a", 2),
    ];
    for step in steps {
        step(&mut cluster);
        topics.see(cluster.image());
        let now = (topics.version(), topics.hash(&strs(&["a", "b"])));
        assert!(now.0 > before.0 && now.1 != before.1, "{before:?} and then {now:?}");
        seen.push(now.1);
        before = now;
    }
    assert_ne!(seen[2], seen[4], "as many partitions, and yet another topic");
    cluster.create("c", 1);
    topics.see(cluster.image());
    assert_eq!(topics.hash(&strs(&["a", "b"])), before.1, "it is of these topics alone");
}

/// It is stored: another number for the same topics would have every group assign anew.
#[test]
fn the_number_of_topics_is_for_ever() {
    let mut cluster = Cluster::new();
    cluster.create("a", 1);
    let mut topics = Topics::default();
    topics.see(cluster.image());
    assert_eq!(topics.hash(&strs(&["a"])), 0x8764_8a88_0bdc_e5ae_u64.cast_signed());
}

#[test]
fn a_topics_whole_name_has_to_match() {
    let mut cluster = Cluster::new();
    for topic in ["foo", "foo-1", "foo-2", "bar", "xfoo"] {
        cluster.create(topic, 1);
    }
    let image = cluster.image();
    let check = |pattern: &str, expected: &[&str]| {
        let found = matching(pattern, &image).unwrap_or_else(|error| panic!("{pattern}: {error}"));
        assert_eq!(found, strs(expected), "{pattern}");
    };
    check("foo", &["foo"]);
    check("foo.*", &["foo", "foo-1", "foo-2"]);
    check("foo|foo-1", &["foo", "foo-1"]);
    check("(?i)FOO-[12]", &["foo-1", "foo-2"]);
    check(r"foo-\d", &["foo-1", "foo-2"]);
    check("nothing", &[]);
    for wrong in ["(", "foo)|(bar", "[", r"(a)\1", "(a{1000}){1000}", &"a".repeat(9_000)] {
        assert!(matching(wrong, &image).is_err(), "{wrong}");
    }
}
