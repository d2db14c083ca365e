//! Manifests against each other and against the listing of the bucket: a manifest's segments meet without gap and overlap, what
//! it names is there and stays for a grace, and what is there past its grace is named.

use std::collections::{BTreeMap, BTreeSet};

use crate::event::{Object, Offset, Partition, Segment};
use crate::report::{Kind, Report};

/// The newest manifest of a partition, and the newest listing of its objects.
#[derive(Debug, Default)]
pub(crate) struct Bucket {
    named: Option<Named>,
    /// When each object of a segment was last named.
    named_at: BTreeMap<String, u64>,
    listed: Option<Listed>,
}

#[derive(Debug)]
struct Named {
    /// Objects of segments, and how long they must be.
    segments: BTreeMap<String, u64>,
    others: BTreeSet<String>,
}

#[derive(Debug)]
struct Listed {
    objects: Vec<Object>,
    grace_ms: u64,
}

impl Bucket {
    pub(crate) fn manifest(
        &mut self,
        segments: &[Segment],
        (others, at_ms): (&[String], u64),
        partition: &Partition,
        report: &mut Report,
    ) {
        self.named_at.extend(segments.iter().map(|segment| (segment.object.clone(), at_ms)));
        for pair in segments.windows(2) {
            let [Segment { next, object, .. }, Segment { base, object: after, .. }] = pair else { continue };
            let kind = match base.cmp(next) {
                std::cmp::Ordering::Equal => continue,
                std::cmp::Ordering::Greater => Kind::ManifestGap,
                std::cmp::Ordering::Less => Kind::ManifestOverlap,
            };
            report.add(kind, partition, || {
                format!("{object} ends at offset {next}, {after} starts at offset {base}")
            });
        }
        for Segment { base: Offset(base), next: Offset(next), object, .. } in segments {
            if base >= next {
                report.add(Kind::Absurd, partition, || format!("{object} holds [{base}, {next})"));
            }
        }
        let segments = segments.iter().map(|segment| (segment.object.clone(), segment.bytes)).collect();
        self.named = Some(Named { segments, others: others.iter().cloned().collect() });
    }

    pub(crate) fn listing(
        &mut self,
        objects: &[Object],
        (grace_ms, at_ms): (u64, u64),
        partition: &Partition,
        report: &mut Report,
    ) {
        let there: BTreeSet<&String> = objects.iter().map(|object| &object.key).collect();
        // What is named still is missing, which is said at the end.
        let named =
            |object: &String| self.named.as_ref().is_some_and(|named| named.segments.contains_key(object));
        let is_gone = |object: &&String| !there.contains(object) && !named(object);
        let gone: Vec<String> = self.named_at.keys().filter(is_gone).cloned().collect();
        for object in gone {
            let named_at = self.named_at.remove(&object).unwrap_or_default();
            if at_ms < named_at + grace_ms {
                report.add(Kind::RemovedEarly, partition, || {
                    format!(
                        "{object} was named, and gone {} ms later; the grace is {grace_ms} ms",
                        at_ms - named_at
                    )
                });
            }
        }
        self.listed = Some(Listed { objects: objects.to_vec(), grace_ms });
    }

    pub(crate) fn finish(&self, partition: &Partition, report: &mut Report) {
        let Some(Listed { objects, grace_ms }) = &self.listed else {
            if self.named.is_some() {
                report.add(Kind::Unaudited, partition, || "its objects were never listed".to_owned());
            }
            return;
        };
        let none = Named { segments: BTreeMap::new(), others: BTreeSet::new() };
        let named = self.named.as_ref().unwrap_or(&none);
        let lengths: BTreeMap<&str, u64> =
            objects.iter().map(|object| (object.key.as_str(), object.bytes)).collect();
        for (object, bytes) in &named.segments {
            match lengths.get(object.as_str()) {
                Some(found) if found >= bytes => {}
                Some(found) => report.add(Kind::MissingObject, partition, || {
                    format!("{object} is {found} bytes long, not {bytes}")
                }),
                None => report.add(Kind::MissingObject, partition, || format!("{object} is not there")),
            }
        }
        let is_named = |key: &String| named.segments.contains_key(key) || named.others.contains(key);
        for Object { key, age_ms, .. } in
            objects.iter().filter(|object| object.age_ms > *grace_ms && !is_named(&object.key))
        {
            report.add(Kind::Orphan, partition, || {
                format!("nothing names {key}, {age_ms} ms old; the grace is {grace_ms} ms")
            });
        }
    }
}
