//! Fuzzes chunked bodies, wherever they are split. What must hold: see `checks/chunked.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| fairway_fuzz::chunked::check(input));
