//! Every target over its seeds and over changes of them, which are the same in each run.

use super::*;

/// Changed inputs for each target.
const INPUTS: usize = 4_000;

struct Choices(u64);

impl Choices {
    /// Below `bound`. A linear congruence; its high bits are good enough to choose by.
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % bound.max(1)
    }
}

fn changed(choices: &mut Choices, seeds: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = seeds[choices.below(seeds.len())].clone();
    for _ in 0..=choices.below(3) {
        let at = choices.below(bytes.len() + 1);
        match choices.below(5) {
            0 => bytes.truncate(at),
            1 => bytes.insert(at, choices.below(256) as u8),
            2 => bytes.extend_from_slice(&seeds[choices.below(seeds.len())]),
            3 => bytes[at..].iter_mut().take(8).for_each(|byte| *byte = [0, 0x7f, 0xff][at % 3]),
            _ => bytes[at..].iter_mut().take(1).for_each(|byte| *byte ^= 1 << choices.below(8)),
        }
    }
    bytes
}

fn check(name: &str, inputs: usize) {
    let Target { run, seeds, .. } = target(name);
    let seeds = seeds();
    assert!(!seeds.is_empty(), "{name} starts from nothing");
    seeds.iter().for_each(|seed| run(seed));
    let mut choices = Choices(7);
    for _ in 0..inputs {
        run(&changed(&mut choices, &seeds));
    }
}

#[test]
fn every_target_has_a_file_of_its_name() {
    let manifest = include_str!("../../fuzz/Cargo.toml");
    for Target { name, .. } in TARGETS {
        assert!(manifest.contains(&format!("path = \"fuzz_targets/{name}.rs\"")), "{name} is not in fuzz/");
    }
    assert_eq!(manifest.matches("[[bin]]").count(), TARGETS.len(), "fuzz/ has a target that is not here");
}

#[test]
fn frames_come_to_an_end() {
    check("frames", INPUTS);
}

#[test]
fn messages_come_to_an_end() {
    check("messages", INPUTS);
}

#[test]
fn group_records_come_to_an_end() {
    check("group_records", INPUTS);
}

#[test]
fn batches_come_to_an_end() {
    check("batches", INPUTS);
}

#[test]
fn indexes_come_to_an_end() {
    check("indexes", INPUTS);
}

#[test]
fn log_files_come_to_an_end() {
    check("log_files", INPUTS);
}

#[test]
fn recovery_come_to_an_end() {
    check("recovery", 200);
}

#[test]
fn object_tail_come_to_an_end() {
    check("object_tail", INPUTS);
}

#[test]
fn bucket_records_come_to_an_end() {
    check("bucket_records", INPUTS);
}

#[test]
fn metadata_come_to_an_end() {
    check("metadata", INPUTS);
}

#[test]
fn metadata_image_come_to_an_end() {
    check("metadata_image", INPUTS);
}

#[test]
fn config_come_to_an_end() {
    check("config", 500);
}
