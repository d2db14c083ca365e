//! What a bad disk, a bad controller or a bad copy does to a file.

use super::dice::Dice;
use anyhow::{Context, Result, bail};
use std::ops::Range;
use std::path::Path;

/// The length of what is written to a wrong place, and of what is lost as zeros.
const BLOCKS: [u64; 3] = [64, 512, 4096];
/// How often to try for a change that is one.
const THROWS: usize = 200;

/// One way to be harmed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Harm {
    /// One bit is another.
    Flip,
    /// The file ends early.
    Truncate,
    /// A block is that of another place, or of another file.
    Misdirect,
    /// A block reads as zeros.
    Zero,
}

/// As often as they come: bits flip more often than files end.
const HARMS: [Harm; 6] = [Harm::Flip, Harm::Flip, Harm::Flip, Harm::Truncate, Harm::Misdirect, Harm::Zero];

/// Harms a file somewhere in `region`, and says how. `other` is a file of the same kind.
pub(super) fn harm(dice: &mut Dice, file: &Path, region: Range<u64>, other: &Path) -> Result<String> {
    let before = std::fs::read(file).with_context(|| format!("reading {}", file.display()))?;
    let other = std::fs::read(other).with_context(|| format!("reading {}", other.display()))?;
    let region = region.start..region.end.min(before.len() as u64);
    for _ in 0..THROWS {
        let harm = *dice.pick(&HARMS).unwrap_or(&Harm::Flip);
        let (after, what) = changed(dice, harm, &before, region.clone(), &other);
        if after != before {
            std::fs::write(file, after).with_context(|| format!("writing {}", file.display()))?;
            return Ok(what);
        }
    }
    bail!("nothing can be changed in {} {region:?}", file.display())
}

/// Flips a bit of a byte that is not zero: a database is mostly room that nothing lies in.
pub(super) fn flip_used(dice: &mut Dice, file: &Path) -> Result<String> {
    let mut bytes = std::fs::read(file).with_context(|| format!("reading {}", file.display()))?;
    let used: Vec<usize> = (0..bytes.len()).filter(|at| bytes[*at] != 0).collect();
    let at = *dice.pick(&used).with_context(|| format!("{} is empty", file.display()))?;
    bytes[at] ^= 1 << dice.below(8);
    std::fs::write(file, bytes)?;
    Ok(format!("flip at {at}"))
}

fn changed(
    dice: &mut Dice,
    harm: Harm,
    before: &[u8],
    region: Range<u64>,
    other: &[u8],
) -> (Vec<u8>, String) {
    let mut after = before.to_vec();
    let at = region.start + dice.below(region.end.saturating_sub(region.start));
    let place = usize::try_from(at).unwrap_or(usize::MAX);
    let block = *dice.pick(&BLOCKS).unwrap_or(&64);
    let end = usize::try_from((at + block).min(region.end)).unwrap_or(usize::MAX).min(after.len());
    match harm {
        Harm::Flip => {
            if let Some(byte) = after.get_mut(place) {
                *byte ^= 1 << dice.below(8);
            }
        }
        Harm::Truncate => after.truncate(place),
        Harm::Misdirect => {
            let source = if dice.below(2) == 0 { before } else { other };
            let from = usize::try_from(dice.below(source.len() as u64)).unwrap_or(0);
            if let (Some(to), Some(from)) = (after.get_mut(place..end), source.get(from..)) {
                let count = to.len().min(from.len());
                to[..count].copy_from_slice(&from[..count]);
            }
        }
        Harm::Zero => {
            if let Some(to) = after.get_mut(place..end) {
                to.fill(0);
            }
        }
    }
    (after, format!("{harm:?} at {at}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_one_and_stays_in_its_region() {
        let folder = crate::places::emptied(crate::places::data().unwrap().join("harm")).unwrap();
        let (file, other) = (folder.join("file"), folder.join("other"));
        let bytes: Vec<u8> = (0..20_000u32).map(|number| (number * 7 % 251) as u8).collect();
        std::fs::write(&other, vec![9; 5_000]).unwrap();
        let mut dice = Dice::new(1);
        for _ in 0..100 {
            std::fs::write(&file, &bytes).unwrap();
            let what = harm(&mut dice, &file, 5_000..15_000, &other).unwrap();
            let after = std::fs::read(&file).unwrap();
            assert_ne!(after, bytes, "{what}");
            assert_eq!(after[..5_000], bytes[..5_000], "{what}");
            if after.len() == bytes.len() {
                assert_eq!(after[15_000..], bytes[15_000..], "{what}");
            }
        }
        std::fs::write(&file, []).unwrap();
        assert!(harm(&mut dice, &file, 0..10, &file).is_err(), "an empty file cannot be changed by itself");
    }
}
