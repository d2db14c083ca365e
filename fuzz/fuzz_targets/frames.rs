//! What it does is in `aquifer::fuzzing`.
#![no_main]

libfuzzer_sys::fuzz_target!(
    init: aquifer_fuzz::write_seeds("frames"),
    |bytes: &[u8]| (aquifer::fuzzing::target("frames").run)(bytes)
);
