//! Fuzzes requests as clients send them, and as they go on to an instance. What must hold: see `checks/request.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| fairway_fuzz::request::check(input));
