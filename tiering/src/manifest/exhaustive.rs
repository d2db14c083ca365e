//! Claim, commit, collection, late writes and thawed zombies: every interleaving of a few writers, looked at.
//!
//! Three processes write one partition's manifest: one leads in epoch 1, two rivals in epoch 2. Each takes one step at a time, in
//! any order, and may stand still for ever in between: that is a crash, or a freezer. A create that was sent lands whenever it
//! likes, also after its sender has stopped waiting, and its answer may be lost. Time is a number that passes the grace when it rises.
//!
//! What a step decides is decided by the very functions that the program uses: `after`, the changes, `pins`, the invariants, the
//! rank of claims. What is modelled is the store and the order of steps in `commit.rs` and `gc/mod.rs`. After each step the
//! invariants of the tier must hold (the numbers are those of the tests' names):
//!
//! - *closed*: the newest version is sound, and every object that it names is there;
//! - *fenced*: versions follow by the step rules, no claim is outranked, and no commit lands in the past;
//! - *proven*: what a writer holds a proof of is in the newest version or before its log start.
//!
//! Each safeguard can be taken away, and then a violation must be found: a model that finds nothing proves nothing.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};

use super::commit::{ClaimError, after};
use super::invariants::{check, check_step};
use super::tests::partition;
use super::*;
use crate::path::{self, DataName};
use aquifer_model::EpochStart;

/// The epochs in which the processes lead.
const EPOCHS: [i32; 3] = [1, 2, 2];
/// Segments that each may upload.
const UPLOADS_MAX: u8 = 2;
/// How often each may look for the newest version in order to claim.
const LOOKS_MAX: u8 = 2;
/// How far time goes.
const NOW_MAX: u8 = 2;
/// What is removed goes this much later.
const GRACE: u8 = 1;

/// What keeps the manifest safe.
#[derive(Debug, Clone, Copy)]
struct Safeguards {
    /// Versions next to a claim stay.
    pinned: bool,
    /// A claim counts only if it is the newest on a second look.
    second_look: bool,
    /// Orphans of claims that outrank one's own stay.
    ranked_orphans: bool,
    /// What is removed waits out its grace on the manifest before its object goes.
    manifest_first: bool,
}

const ALL: Safeguards =
    Safeguards { pinned: true, second_look: true, ranked_orphans: true, manifest_first: true };

/// A manifest by its number in the world's table.
type Id = u16;
/// An object: who wrote it, and the how-manieth of theirs.
type Object = (u8, u8);

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct State {
    /// By number: which, and since when.
    versions: BTreeMap<u64, (Id, u8)>,
    /// Of these, the claims that came when there were higher ones: they filled a hole, and nobody believes them.
    late: BTreeSet<u64>,
    objects: BTreeMap<Object, u8>,
    /// Creates on their way: whose, which, and whether a claim.
    flying: BTreeSet<(u8, Id, bool)>,
    writers: [Writer; 3],
    now: u8,
    /// The highest version that there ever was.
    highest: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Writer {
    step: Step,
    uploads: u8,
    looks: u8,
    expired: bool,
}

/// Where a writer stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Step {
    Idle,
    /// Has sent its claim and waits.
    Claiming(Id),
    /// Knows that its claim is there.
    Claimed(Id),
    Holding(Id),
    /// Has put an object that no version names yet.
    Stored(Id, Object),
    /// Has sent a change of the first and waits.
    Committing(Id, Id),
    Stopped,
}

/// What was found in a sweep of all states.
struct Found {
    states: usize,
    violation: Option<(String, Vec<String>)>,
}

struct World {
    safeguards: Safeguards,
    manifests: Vec<Manifest>,
    ids: HashMap<Vec<u8>, Id>,
}

fn claim_of(writer: u8) -> Claim {
    Claim {
        incarnation: Incarnation::FIRST,
        epoch: LeaderEpoch::new(EPOCHS[usize::from(writer)]).unwrap(),
        broker: BrokerId(i32::from(writer)),
        process: Uuid::from_u128(u128::from(writer) + 1),
    }
}

fn key_of((writer, number): Object) -> Key {
    let unique = Uuid::from_u128(u128::from(writer) * 100 + u128::from(number) + 1);
    let epoch = claim_of(writer).epoch;
    path::data_object(partition(), &DataName { base: Offset::ZERO, incarnation: 1, epoch, unique })
}

impl World {
    fn id(&mut self, manifest: Manifest) -> Id {
        let next = Id::try_from(self.manifests.len()).expect("few manifests");
        let id = *self.ids.entry(manifest.encode()).or_insert(next);
        if id == next {
            self.manifests.push(manifest);
        }
        id
    }

    fn get(&self, id: Id) -> &Manifest {
        &self.manifests[usize::from(id)]
    }

    /// A version with a write id of its own: nobody else's draft is the same, and the same draft is the same write.
    fn signed(&mut self, writer: u8, draft: Manifest) -> Id {
        let write = Uuid::from_u128(u128::from(writer) * 1_000 + u128::from(draft.version.0));
        self.id(Manifest { write, claim: claim_of(writer), ..draft })
    }

    fn newest(&self, state: &State) -> Option<Id> {
        state.versions.values().next_back().map(|(id, _)| *id)
    }

    /// Every step that can be taken, by what it is and what it leads to; an error is a step that must not be possible.
    fn steps(&mut self, state: &State) -> Vec<(String, Result<State, String>)> {
        let mut steps = Vec::new();
        if state.now < NOW_MAX {
            let mut next = state.clone();
            next.now += 1;
            steps.push(("time passes".to_owned(), Ok(next)));
        }
        for flight in &state.flying {
            self.landings(state, *flight, &mut steps);
        }
        for writer in 0..3 {
            self.steps_of(state, writer, &mut steps);
        }
        steps
    }

    /// A create arrives: it is told or not, and what was sent once may arrive once.
    fn landings(
        &mut self,
        state: &State,
        (writer, id, is_claim): (u8, Id, bool),
        steps: &mut Vec<(String, Result<State, String>)>,
    ) {
        let version = self.get(id).version.0;
        let mut next = state.clone();
        next.flying.remove(&(writer, id, is_claim));
        let (mut created, is_past) = (false, version <= state.highest);
        if let std::collections::btree_map::Entry::Vacant(vacant) = next.versions.entry(version) {
            vacant.insert((id, state.now));
            created = true;
            if is_past {
                next.late.insert(version);
            }
        }
        next.highest = next.highest.max(version);
        let what = format!("version {version} of writer {writer} arrives");
        if created && is_past && !is_claim {
            return steps.push((what, Err(format!("a commit lands at version {version}, in the past"))));
        }
        let waits = matches!(state.writers[usize::from(writer)].step,
            Step::Claiming(draft) | Step::Committing(_, draft) if draft == id);
        if created && waits {
            let mut told = next.clone();
            self.told_mine(&mut told, writer, id);
            steps.push((format!("{what}, and is told"), Ok(told)));
        }
        steps.push((what, Ok(next)));
    }

    fn told_mine(&self, state: &mut State, writer: u8, id: Id) {
        let writer = &mut state.writers[usize::from(writer)];
        writer.step = match writer.step {
            Step::Claiming(_) if self.safeguards.second_look => Step::Claimed(id),
            _ => Step::Holding(id),
        };
    }

    fn steps_of(&mut self, state: &State, number: u8, steps: &mut Vec<(String, Result<State, String>)>) {
        let writer = state.writers[usize::from(number)];
        let mut go = |what: &str, change: &mut dyn FnMut(&mut State)| {
            let mut next = state.clone();
            change(&mut next);
            steps.push((format!("writer {number} {what}"), Ok(next)));
        };
        let me = usize::from(number);
        match writer.step {
            Step::Idle if writer.looks < LOOKS_MAX => {
                let draft = match self.newest(state).map(|id| self.get(id).clone()) {
                    None => Some(Manifest::first_of(partition(), claim_of(number))),
                    Some(newest) => match after(&newest, claim_of(number)) {
                        Ok(Some(draft)) => Some(draft),
                        Ok(None) => {
                            return go("finds its claim", &mut |next| next.writers[me].step = Step::Stopped);
                        }
                        Err(ClaimError::Fenced(_)) => None,
                        Err(error) => panic!("{error}"),
                    },
                };
                match draft {
                    None => go("is outranked", &mut |next| next.writers[me].step = Step::Stopped),
                    Some(draft) => {
                        let id = self.signed(number, draft);
                        go("sends its claim", &mut |next| {
                            next.writers[me].step = Step::Claiming(id);
                            next.writers[me].looks += 1;
                            next.flying.insert((number, id, true));
                        });
                    }
                }
            }
            Step::Idle | Step::Stopped => {}
            Step::Claiming(id) | Step::Committing(_, id) => {
                let is_claim = matches!(writer.step, Step::Claiming(_));
                let (version, write) = (self.get(id).version.0, self.get(id).write);
                let there = state.versions.get(&version).map(|(found, _)| *found);
                match there {
                    None => go("sends again", &mut |next| {
                        next.flying.insert((number, id, is_claim));
                    }),
                    Some(found) if self.get(found).write == write => {
                        let mut next = state.clone();
                        self.told_mine(&mut next, number, id);
                        steps.push((
                            format!("writer {number} reads that version {version} is its own"),
                            Ok(next),
                        ));
                    }
                    // A claim looks again whether it outranks what is newest; a commit is fenced.
                    Some(_) => go("reads that another was first", &mut |next| {
                        next.writers[me].step = if is_claim { Step::Idle } else { Step::Stopped };
                    }),
                }
            }
            Step::Claimed(id) => {
                let stands = self.newest(state) == Some(id);
                go("looks a second time", &mut |next| {
                    next.writers[me].step = if stands { Step::Holding(id) } else { Step::Idle };
                });
            }
            Step::Stored(id, object) => {
                let newest = self.get(id).clone();
                let base = newest.end.unwrap_or(Offset::ZERO);
                let next = newest.with_entry(entry_of(base, number, object)).expect("it is the next");
                self.commit(state, number, id, next, "names its object", steps);
            }
            Step::Holding(id) => self.steps_of_holder(state, number, id, steps),
        }
    }

    fn steps_of_holder(
        &mut self,
        state: &State,
        number: u8,
        id: Id,
        steps: &mut Vec<(String, Result<State, String>)>,
    ) {
        let me = usize::from(number);
        let writer = state.writers[me];
        let newest = self.get(id).clone();
        if writer.uploads < UPLOADS_MAX {
            let mut next = state.clone();
            let object = (number, writer.uploads);
            next.objects.insert(object, state.now);
            next.writers[me].uploads += 1;
            next.writers[me].step = Step::Stored(id, object);
            steps.push((format!("writer {number} stores object {object:?}"), Ok(next)));
        }
        if !writer.expired && !newest.entries.is_empty() {
            let mut with = state.clone();
            with.writers[me].expired = true;
            if !self.safeguards.manifest_first {
                with.objects.retain(|object, _| key_of(*object) != newest.entries[0].object);
            }
            let next = newest.without_oldest(1, Timestamp(i64::from(state.now)));
            self.commit(&with, number, id, next, "expires its oldest segment", steps);
        }
        let is_over = |since: u8| state.now >= since + GRACE;
        // Removed objects: first they go, then their names.
        let due: Vec<Key> = newest.removed.iter().map(|removed| removed.object.clone()).collect();
        let due: Vec<Key> = due
            .into_iter()
            .zip(&newest.removed)
            .filter(|(_, removed)| i64::from(state.now) >= removed.at.0 + i64::from(GRACE))
            .map(|(key, _)| key)
            .collect();
        if !due.is_empty() {
            let mut with = state.clone();
            with.objects.retain(|object, _| !due.contains(&key_of(*object)));
            self.commit(&with, number, id, newest.without_removed(&due), "lets go what was removed", steps);
        }
        let mut swept = state.clone();
        swept.versions.retain(|version, (_, since)| {
            let pinned = self.safeguards.pinned && newest.pins(ManifestVersion(*version));
            *version >= newest.version.0 || pinned || !is_over(*since)
        });
        if swept != *state {
            let State { late, versions, .. } = &mut swept;
            late.retain(|version| versions.contains_key(version));
            steps.push((format!("writer {number} sweeps superseded versions"), Ok(swept)));
        }
        let rank = (claim_of(number).incarnation, claim_of(number).epoch);
        let mut swept = state.clone();
        swept.objects.retain(|object, since| {
            let key = key_of(*object);
            let theirs = claim_of(object.0);
            let named = newest.entries.iter().any(|entry| entry.object == key)
                || newest.removed.iter().any(|removed| removed.object == key);
            let outranks = self.safeguards.ranked_orphans && (theirs.incarnation, theirs.epoch) > rank;
            named || outranks || !is_over(*since)
        });
        if swept != *state {
            steps.push((format!("writer {number} sweeps orphans"), Ok(swept)));
        }
    }

    /// As `ManifestWriter::commit`: refused, or sent.
    fn commit(
        &mut self,
        state: &State,
        number: u8,
        id: Id,
        draft: Manifest,
        what: &str,
        steps: &mut Vec<(String, Result<State, String>)>,
    ) {
        let newest = self.get(id).clone();
        let draft = self.signed(number, draft.next_version(Uuid::nil()));
        let checked = check(self.get(draft)).and_then(|()| check_step(&newest, self.get(draft)));
        let what = format!("writer {number} {what}");
        if let Err(breach) = checked {
            return steps.push((what, Err(format!("a draft breaks the rules: {breach}"))));
        }
        let mut next = state.clone();
        next.writers[usize::from(number)].step = Step::Committing(id, draft);
        next.flying.insert((number, draft, false));
        steps.push((what, Ok(next)));
    }

    fn violation(&self, state: &State) -> Option<String> {
        let newest = self.get(self.newest(state)?);
        if let Err(breach) = check(newest) {
            return Some(format!("not closed: {breach}"));
        }
        let there: BTreeSet<String> =
            state.objects.keys().map(|object| key_of(*object).as_str().to_owned()).collect();
        if let Some(missing) = newest.entries.iter().find(|entry| !there.contains(entry.object.as_str())) {
            return Some(format!("not closed: {} is named and gone", missing.object.as_str()));
        }
        let believed = state.versions.iter().filter(|(version, _)| !state.late.contains(version));
        let believed: Vec<&Manifest> = believed.map(|(_, (id, _))| self.get(*id)).collect();
        for pair in believed.windows(2).filter(|pair| pair[0].version.0 + 1 == pair[1].version.0) {
            if let Err(breach) = check_step(pair[0], pair[1]) {
                return Some(format!("not fenced: version {}: {breach}", pair[1].version));
            }
        }
        for (number, writer) in state.writers.iter().enumerate() {
            if let Step::Holding(id) = writer.step
                && state.late.contains(&self.get(id).version.0)
            {
                return Some(format!("not fenced: writer {number} believes a claim in the past"));
            }
            let (Step::Holding(id) | Step::Stored(id, _) | Step::Committing(id, _)) = writer.step else {
                continue;
            };
            let proven = self.get(id);
            let (end, start) = (proven.end.unwrap_or(Offset::ZERO), newest.log_start);
            if newest.end.unwrap_or(Offset::ZERO) < end {
                return Some(format!(
                    "not proven: writer {number} holds {end}, the newest ends at {:?}",
                    newest.end
                ));
            }
            let covers = |offset: Offset| newest.entries.iter().any(|entry| entry.range().base <= offset);
            if end > start && !covers(start) {
                return Some(format!(
                    "not proven: nothing covers {start}, of which writer {number} has a proof"
                ));
            }
        }
        None
    }
}

fn entry_of(base: Offset, writer: u8, object: Object) -> Entry {
    let next = Offset::new(base.get() + 10).unwrap();
    let epoch = claim_of(writer).epoch;
    let segment = SealedSegment {
        range: OffsetRange { base, next },
        log_bytes: ByteCount(1_000),
        timestamp_max: Timestamp(1),
        sealed_at: Timestamp(1),
        epochs: LeaderEpochs::from_entries(vec![EpochStart { epoch, start: base }]).unwrap(),
    };
    Entry::new(segment, key_of(object), ByteCount(1_500), 0xdead_beef)
}

/// Breadth first, so that the first violation is one of the shortest.
fn look_everywhere(safeguards: Safeguards, states_max: usize) -> Found {
    let mut world = World { safeguards, manifests: Vec::new(), ids: HashMap::new() };
    let writer = Writer { step: Step::Idle, uploads: 0, looks: 0, expired: false };
    let start = State {
        versions: BTreeMap::new(),
        late: BTreeSet::new(),
        objects: BTreeMap::new(),
        flying: BTreeSet::new(),
        writers: [writer; 3],
        now: 0,
        highest: 0,
    };
    // Where each state was first come to from, and by what.
    let mut trail: Vec<(usize, String)> = vec![(0, "the beginning".to_owned())];
    let mut seen = HashSet::from([start.clone()]);
    let mut queue = VecDeque::from([(0, start)]);
    let told = |trail: &[(usize, String)], mut at: usize| {
        let mut steps = Vec::new();
        while at != 0 {
            steps.push(trail[at].1.clone());
            at = trail[at].0;
        }
        steps.reverse();
        steps
    };
    while let Some((at, state)) = queue.pop_front() {
        for (what, next) in world.steps(&state) {
            let violation = match &next {
                Err(violation) => Some(violation.clone()),
                Ok(next) => world.violation(next),
            };
            if let Some(violation) = violation {
                let mut steps = told(&trail, at);
                steps.push(what);
                return Found { states: seen.len(), violation: Some((violation, steps)) };
            }
            let next = next.expect("it was just looked at");
            if seen.len() < states_max && seen.insert(next.clone()) {
                trail.push((at, what));
                queue.push_back((trail.len() - 1, next));
            }
        }
    }
    Found { states: seen.len(), violation: None }
}

/// States looked at in a run of the tests.
const STATES_MAX: usize = 60_000;

#[test]
fn no_interleaving_breaks_a_manifest() {
    let found = look_everywhere(ALL, STATES_MAX);
    println!("{} states", found.states);
    assert_eq!(found.violation, None);
}

#[test]
fn without_any_one_safeguard_something_breaks() {
    for (name, without) in [
        ("pinned", Safeguards { pinned: false, ..ALL }),
        ("second look", Safeguards { second_look: false, ..ALL }),
        ("ranked orphans", Safeguards { ranked_orphans: false, ..ALL }),
        ("manifest first", Safeguards { manifest_first: false, ..ALL }),
    ] {
        let found = look_everywhere(without, 4 * STATES_MAX);
        let (violation, steps) = found.violation.unwrap_or_else(|| panic!("{name}: {} states", found.states));
        println!("without {name}: {violation}, after {} steps and {} states", steps.len(), found.states);
        for step in steps {
            println!("   {step}");
        }
    }
}
