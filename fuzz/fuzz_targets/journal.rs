//! What it does is in `aquifer::fuzzing`.
#![no_main]

libfuzzer_sys::fuzz_target!(
    init: aquifer_fuzz::write_seeds("journal"),
    |bytes: &[u8]| (aquifer::fuzzing::target("journal").run)(bytes)
);
