//! What all targets have in common: where they start from.

use std::path::PathBuf;

/// Writes the seeds of a target into the folder that `AQUIFER_FUZZ_SEEDS` names, before libFuzzer reads it.
///
/// # Panics
/// If they cannot be written.
pub fn write_seeds(target: &str) {
    let Some(folder) = std::env::var_os("AQUIFER_FUZZ_SEEDS").map(PathBuf::from) else { return };
    std::fs::create_dir_all(&folder).expect("the folder of seeds can be made");
    for (number, seed) in (aquifer::fuzzing::target(target).seeds)().into_iter().enumerate() {
        std::fs::write(folder.join(format!("seed-{number}")), seed).expect("a seed can be written");
    }
}
