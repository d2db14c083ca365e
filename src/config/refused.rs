//! Kafka's keys that this version does not honour.
//!
//! A key that is accepted and then ignored is a promise broken in silence, so each of these is refused with its reason, unless
//! its value is the one that Aquifer behaves by anyway.

/// Keys that are refused for one reason.
struct Group {
    /// Completes "not supported: ".
    why: &'static str,
    /// Names with the value that is accepted, if any. A name that ends in a dot stands for all keys that begin with it.
    keys: &'static [(&'static str, Option<&'static str>)],
}

const GROUPS: &[Group] = &[
    Group {
        why: "TLS, SASL and ACLs are not there yet",
        keys: &[
            ("ssl.", None),
            ("sasl.", None),
            ("security.", None),
            ("security.inter.broker.protocol", Some("PLAINTEXT")),
            ("listener.name.", None),
            ("authorizer.class.name", Some("")),
            ("super.users", Some("")),
            ("allow.everyone.if.no.acl.found", None),
            ("principal.builder.class", None),
            ("delegation.token.", None),
            ("connections.max.reauth.ms", Some("0")),
            ("connection.failed.authentication.delay.ms", None),
        ],
    },
    Group {
        why: "clusters of several brokers are not there yet",
        keys: &[
            ("process.roles", Some("broker,controller")),
            ("controller.", None),
            ("inter.broker.listener.name", None),
            ("early.start.listeners", Some("")),
            ("replica.", None),
            ("follower.", None),
            ("leader.", None),
            ("num.replica.fetchers", Some("1")),
            ("num.replica.alter.log.dirs.threads", None),
            ("auto.leader.rebalance.enable", Some("true")),
            ("broker.heartbeat.interval.ms", Some("2000")),
            ("broker.session.timeout.ms", Some("9000")),
            ("initial.broker.registration.timeout.ms", Some("60000")),
            ("controlled.shutdown.enable", Some("true")),
            ("request.timeout.ms", Some("30000")),
            ("log.dir.failure.timeout.ms", Some("30000")),
            ("alter.log.dirs.replication.", None),
            ("replication.quota.", None),
        ],
    },
    Group {
        why: "regular expressions are matched again whenever there are new topics",
        keys: &[("group.consumer.regex.refresh.interval.ms", Some("600000"))],
    },
    Group {
        why: "share groups and streams groups are not there yet",
        keys: &[
            ("group.coordinator.", None),
            ("group.share.", None),
            ("group.streams.", None),
            ("offsets.load.buffer.size", Some("5242880")),
            ("offsets.topic.compression.codec", Some("0")),
            ("offsets.commit.required.acks", Some("-1")),
            ("share.", None),
        ],
    },
    Group {
        why: "transactions are not there yet",
        keys: &[("transaction.", None), ("transactional.id.expiration.ms", Some("604800000"))],
    },
    Group {
        why: "how fast connections come is limited by address, with the quota connection_creation_rate",
        keys: &[("max.connection.creation.rate", Some("2147483647"))],
    },
    Group {
        why: "max.connections.per.ip is the same for all addresses",
        keys: &[("max.connections.per.ip.overrides", Some(""))],
    },
    Group {
        why: "a broker has one cleaner, which is never off and moves a mebibyte at a time",
        keys: &[
            ("log.cleaner.", None),
            ("log.cleaner.enable", Some("true")),
            ("log.cleaner.threads", Some("1")),
            ("log.cleaner.io.buffer.size", Some("524288")),
        ],
    },
    Group {
        why: "Aquifer sizes its threads and socket buffers by the machine, and its queues in bytes by queued.max.request.bytes",
        keys: &[
            ("num.io.threads", Some("8")),
            ("num.network.threads", Some("3")),
            ("background.threads", Some("10")),
            ("queued.max.requests", Some("500")),
            ("socket.send.buffer.bytes", Some("102400")),
            ("socket.receive.buffer.bytes", Some("102400")),
            ("socket.listen.backlog.size", Some("50")),
        ],
    },
    Group {
        why: "the bucket is set by tier.object.store, and all that concerns it under tier.",
        keys: &[("remote.log.", None), ("rsm.config.", None)],
    },
    Group {
        why: "when records are synced is set by log.durability, and checkpoints follow from it",
        keys: &[("log.flush.", None), ("log.initial.task.delay.ms", Some("30000"))],
    },
    Group {
        why: "metrics are served at admin.listen under /metrics",
        keys: &[
            ("metric.reporters", Some("")),
            ("metrics.", None),
            ("auto.include.jmx.reporter", None),
            ("kafka.metrics.", None),
            ("telemetry.", None),
        ],
    },
    Group {
        why: "there are no plug-ins",
        keys: &[
            ("create.topic.policy.class.name", None),
            ("alter.config.policy.class.name", None),
            ("config.providers", Some("")),
            ("client.quota.callback.class", None),
        ],
    },
    Group { why: "metadata is Raft's, under raft.", keys: &[("metadata.", None)] },
    Group {
        why: "expired producers are forgotten as they are met",
        keys: &[("producer.id.expiration.check.interval.ms", Some("600000"))],
    },
    Group { why: "use node.id", keys: &[("broker.id", None), ("broker.id.generation.enable", None)] },
    Group {
        why: "use listeners and advertised.listeners",
        keys: &[
            ("port", None),
            ("host.name", None),
            ("advertised.host.name", None),
            ("advertised.port", None),
        ],
    },
    Group {
        why: "Kafka 4 has it no more",
        keys: &[
            ("zookeeper.", None),
            ("inter.broker.protocol.version", None),
            ("log.message.format.version", None),
            ("message.format.version", None),
            ("log.message.downconversion.enable", None),
            ("message.downconversion.enable", None),
            ("log.message.timestamp.difference.max.ms", None),
            ("message.timestamp.difference.max.ms", None),
            ("quota.producer.default", None),
            ("quota.consumer.default", None),
        ],
    },
    Group { why: "what is unstable is not there", keys: &[("unstable.", None)] },
];

/// Keys of a group. None has a value that is accepted.
const KEYS_OF_A_GROUP: &[Group] = &[
    Group {
        why: "members are assigned anew by the next heartbeat, on the spot",
        keys: &[("consumer.assignment.interval.ms", None), ("consumer.assignor.offload.enable", None)],
    },
    Group {
        why: "a group is no share group and no streams group: there are none yet",
        keys: &[("share.", None), ("streams.", None)],
    },
];

/// Why `key` is refused to a group, if it is among these.
pub(super) fn of_a_group(key: &str) -> Option<String> {
    let is_meant = |name: &str| key == name || (name.ends_with('.') && key.starts_with(name));
    let group = KEYS_OF_A_GROUP.iter().find(|group| group.keys.iter().any(|(name, _)| is_meant(name)))?;
    Some(format!("not supported: {}", group.why))
}

/// What to say of `key` with `value`: `None` if the key is not among these, else whether the value is accepted.
pub(super) fn judge(key: &str, value: &str) -> Option<Result<(), String>> {
    let keys = GROUPS
        .iter()
        .flat_map(|group| group.keys.iter().map(move |(name, accepted)| (group, *name, *accepted)));
    let matching = keys.filter(|(_, name, _)| key == *name || (name.ends_with('.') && key.starts_with(name)));
    // The most exact entry knows best.
    let (group, _, accepted) = matching.max_by_key(|(_, name, _)| name.len())?;
    Some(match accepted {
        Some(accepted) if accepted == value.trim() => Ok(()),
        Some(accepted) => Err(format!("not supported: {}; only {accepted:?} is accepted", group.why)),
        None => Err(format!("not supported: {}", group.why)),
    })
}

/// For the reference: each reason, and its keys with the value that is accepted.
pub(super) fn reference()
-> impl Iterator<Item = (&'static str, &'static [(&'static str, Option<&'static str>)])> {
    GROUPS.iter().chain(KEYS_OF_A_GROUP).map(|group| (group.why, group.keys))
}
