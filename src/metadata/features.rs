//! Features: what this program knows at which levels, and which changes of a cluster's finalized levels are allowed. Pure.
//!
//! A finalized level says what all nodes may write; a program that knows more keeps quiet until it is raised. What is listed here
//! is told to clients by ApiVersions, and nothing else can be finalized.

use std::collections::BTreeMap;

use super::command::SETTINGS_LEVEL;

/// The feature whose level says which commands and formats may be written.
pub const VERSION_FEATURE: &str = "aquifer.version";
/// The newest level of [`VERSION_FEATURE`] that this program knows.
pub const VERSION_LEVEL: i16 = SETTINGS_LEVEL;
/// The oldest level of [`VERSION_FEATURE`] at which this program can run.
const VERSION_LEVEL_MIN: i16 = 1;

/// Kafka's feature for groups whose coordinator assigns (KIP-848): off, or on. Their records are ones that programs before it
/// cannot read.
pub const GROUP_FEATURE: &str = "group.version";
/// The level of [`GROUP_FEATURE`] from which on there are such groups.
pub const GROUP_LEVEL: i16 = 1;

/// A feature, and the levels of it that this program knows, both ends included. A least level of 0: it may also be off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Feature {
    /// Its name.
    pub name: &'static str,
    /// The least level.
    pub level_min: i16,
    /// The newest level.
    pub level_max: i16,
    /// Whether it may be lowered once it was raised.
    pub lowering: Lowering,
}

/// Whether a feature's level may be lowered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lowering {
    /// Nothing is lost by it.
    Allowed,
    /// What was written at the level may lie in the metadata's log and images, and no older program can read it.
    Never,
}

/// Every feature that this program knows, by name.
pub const FEATURES: &[Feature] = &[
    Feature {
        name: VERSION_FEATURE,
        level_min: VERSION_LEVEL_MIN,
        level_max: VERSION_LEVEL,
        lowering: Lowering::Never,
    },
    Feature { name: GROUP_FEATURE, level_min: 0, level_max: GROUP_LEVEL, lowering: Lowering::Allowed },
];

/// The levels of a cluster that is made by this program: the newest.
pub fn newest() -> BTreeMap<String, i16> {
    FEATURES.iter().map(|feature| (feature.name.to_owned(), feature.level_max)).collect()
}

/// The finalized level of [`VERSION_FEATURE`].
pub fn version(finalized: &BTreeMap<String, i16>) -> i16 {
    finalized.get(VERSION_FEATURE).copied().unwrap_or(VERSION_LEVEL_MIN)
}

/// Whether this program can run in a cluster at these levels: at a level that it does not know others may write what it cannot
/// read, or hold to what it does not know of.
pub fn check(finalized: &BTreeMap<String, i16>) -> Result<(), FeatureError> {
    let unknown = finalized.iter().find_map(|(name, &level)| {
        match FEATURES.iter().find(|feature| feature.name == *name) {
            None => Some(FeatureError::Unknown(name.clone())),
            Some(feature) if level > feature.level_max => {
                Some(FeatureError::Level { feature: *feature, level })
            }
            Some(_) => None,
        }
    });
    unknown.map_or(Ok(()), Err)
}

/// Whether a cluster at these levels has groups whose coordinator assigns.
pub fn has_consumer_groups(finalized: &BTreeMap<String, i16>) -> bool {
    finalized.get(GROUP_FEATURE).is_some_and(|level| *level >= GROUP_LEVEL)
}

/// A change of one feature's finalized level.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FeatureUpdate {
    /// Of which.
    pub name: String,
    /// The new level; 0 removes it.
    pub level: i16,
    /// What the asker means to do.
    pub direction: Direction,
}

/// What whoever changes a level means to do, so that none is lowered by mistake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// Raise it.
    Upgrade,
    /// Lower it. Whether something would be lost by that is not asked: a feature of which something would is never lowered.
    Downgrade,
}

/// Why levels are not changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FeatureError {
    /// Nobody knows it.
    #[error("no feature is called {0:?}")]
    Unknown(String),
    /// This program does not know the level.
    #[error("{}: level {level} is not known here, only {} to {}", .feature.name, .feature.level_min, .feature.level_max)]
    Level {
        /// Of which.
        feature: Feature,
        /// The level that was asked for.
        level: i16,
    },
    /// Nobody lowers a level without saying so.
    #[error("{name}: level {level} is below the finalized {finalized}: say that it shall be downgraded")]
    Lower {
        /// Of which.
        name: String,
        /// The level that was asked for.
        level: i16,
        /// The level as it is.
        finalized: i16,
    },
    /// Whoever has raised it has given up the way back.
    #[error(
        "{name}: level {finalized} is final, and cannot be lowered to {level}: the metadata may hold what no program of that level can read"
    )]
    Final {
        /// Of which.
        name: String,
        /// The level that was asked for.
        level: i16,
        /// The level as it is.
        finalized: i16,
    },
    /// Nor raises it when a downgrade was meant.
    #[error("{name}: level {level} is above the finalized {finalized}: that is no downgrade")]
    Higher {
        /// Of which.
        name: String,
        /// The level that was asked for.
        level: i16,
        /// The level as it is.
        finalized: i16,
    },
}

/// The levels that `updates` come to, of features that change; all of the updates are allowed, or none is. Of several for one
/// feature the last counts, as in Kafka.
pub fn judge(
    finalized: &BTreeMap<String, i16>,
    updates: &[FeatureUpdate],
) -> Result<BTreeMap<String, i16>, FeatureError> {
    judge_by(FEATURES, finalized, updates)
}

fn judge_by(
    features: &[Feature],
    finalized: &BTreeMap<String, i16>,
    updates: &[FeatureUpdate],
) -> Result<BTreeMap<String, i16>, FeatureError> {
    let mut levels = BTreeMap::new();
    for update in updates {
        let FeatureUpdate { name, level, direction } = update.clone();
        let feature = features.iter().find(|feature| feature.name == name);
        let feature = *feature.ok_or_else(|| FeatureError::Unknown(name.clone()))?;
        if !(feature.level_min..=feature.level_max).contains(&level) {
            return Err(FeatureError::Level { feature, level });
        }
        let finalized = finalized.get(&name).copied().unwrap_or(0);
        match direction {
            Direction::Upgrade if level < finalized => {
                return Err(FeatureError::Lower { name, level, finalized });
            }
            Direction::Downgrade if level > finalized => {
                return Err(FeatureError::Higher { name, level, finalized });
            }
            Direction::Downgrade if level < finalized && feature.lowering == Lowering::Never => {
                return Err(FeatureError::Final { name, level, finalized });
            }
            Direction::Upgrade | Direction::Downgrade => levels.insert(name, level),
        };
    }
    levels.retain(|name, level| finalized.get(name).copied().unwrap_or(0) != *level);
    Ok(levels)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: &[Feature] = &[
        Feature { name: "always", level_min: 1, level_max: 3, lowering: Lowering::Allowed },
        Feature { name: "maybe", level_min: 0, level_max: 2, lowering: Lowering::Allowed },
        Feature { name: "onward", level_min: 1, level_max: 3, lowering: Lowering::Never },
    ];

    fn update(name: &str, level: i16, direction: Direction) -> FeatureUpdate {
        FeatureUpdate { name: name.to_owned(), level, direction }
    }

    #[test]
    fn levels_move_within_what_is_known_and_only_as_it_was_meant() {
        use Direction::{Downgrade, Upgrade};
        let level = |feature: usize, level| Err(FeatureError::Level { feature: KNOWN[feature], level });
        let finalized: BTreeMap<String, i16> = [("always".to_owned(), 2), ("onward".to_owned(), 2)].into();
        let (always, maybe, onward) = ("always".to_owned(), "maybe".to_owned(), "onward".to_owned());
        for (updates, expected) in [
            (vec![], Ok(vec![])),
            (vec![update("always", 3, Upgrade)], Ok(vec![(always.clone(), 3)])),
            (vec![update("always", 2, Upgrade)], Ok(vec![])),
            (vec![update("always", 1, Downgrade)], Ok(vec![(always.clone(), 1)])),
            (vec![update("always", 0, Downgrade)], level(0, 0)),
            (vec![update("always", 4, Upgrade)], level(0, 4)),
            (vec![update("maybe", -1, Downgrade)], level(1, -1)),
            (vec![update("maybe", 0, Downgrade)], Ok(vec![])),
            (
                vec![update("always", 1, Upgrade)],
                Err(FeatureError::Lower { name: always.clone(), level: 1, finalized: 2 }),
            ),
            (
                vec![update("always", 3, Downgrade)],
                Err(FeatureError::Higher { name: always.clone(), level: 3, finalized: 2 }),
            ),
            (vec![update("onward", 3, Upgrade)], Ok(vec![(onward.clone(), 3)])),
            (vec![update("onward", 2, Downgrade)], Ok(vec![])),
            (
                vec![update("onward", 1, Downgrade)],
                Err(FeatureError::Final { name: onward, level: 1, finalized: 2 }),
            ),
            (vec![update("other", 1, Upgrade)], Err(FeatureError::Unknown("other".to_owned()))),
            (
                vec![update("maybe", 2, Upgrade), update("always", 1, Downgrade)],
                Ok(vec![(always, 1), (maybe.clone(), 2)]),
            ),
            // One that is wrong spoils those that are right.
            (vec![update("maybe", 2, Upgrade), update("always", 9, Upgrade)], level(0, 9)),
            (vec![update("maybe", 2, Upgrade), update("maybe", 1, Upgrade)], Ok(vec![(maybe, 1)])),
        ] {
            let expected = expected.map(|levels| levels.into_iter().collect());
            assert_eq!(judge_by(KNOWN, &finalized, &updates), expected, "{updates:?}");
        }
    }

    #[test]
    fn a_cluster_that_is_ahead_of_this_program_is_told_from_one_that_is_not() {
        let level = |name: &str, level| [(name.to_owned(), level)].into();
        assert_eq!(check(&newest()), Ok(()));
        for (finalized, is_known) in [
            (BTreeMap::new(), true),
            (level(VERSION_FEATURE, VERSION_LEVEL_MIN), true),
            (level(VERSION_FEATURE, VERSION_LEVEL), true),
            (level(VERSION_FEATURE, VERSION_LEVEL + 1), false),
            (level(GROUP_FEATURE, GROUP_LEVEL + 1), false),
            (level("from.the.future", 1), false),
        ] {
            assert_eq!(check(&finalized).is_ok(), is_known, "{finalized:?}");
        }
        assert_eq!(version(&BTreeMap::new()), VERSION_LEVEL_MIN);
        assert_eq!(version(&newest()), VERSION_LEVEL);
    }

    #[test]
    fn what_this_program_writes_is_what_it_knows() {
        let own = FEATURES.iter().find(|feature| feature.name == VERSION_FEATURE).expect("it is listed");
        assert_eq!(own.level_max, VERSION_LEVEL);
        assert!(
            FEATURES.iter().all(|feature| 0 <= feature.level_min && feature.level_min <= feature.level_max)
        );
    }
}
