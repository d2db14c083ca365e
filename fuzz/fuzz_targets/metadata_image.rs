//! What it does is in `aquifer::fuzzing`.
#![no_main]

libfuzzer_sys::fuzz_target!(
    init: aquifer_fuzz::write_seeds("metadata_image"),
    |bytes: &[u8]| (aquifer::fuzzing::target("metadata_image").run)(bytes)
);
