//! What it does is in `aquifer::fuzzing`.
#![no_main]

libfuzzer_sys::fuzz_target!(
    init: aquifer_fuzz::write_seeds("metadata"),
    |bytes: &[u8]| (aquifer::fuzzing::target("metadata").run)(bytes)
);
