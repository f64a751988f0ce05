//! Fuzzes answers as instances send them, and as they go on to a client. What must hold: see `checks/response.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| fairway_fuzz::response::check(input));
