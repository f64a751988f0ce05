//! Fuzzes what clients send that speak HTTP/2. What must hold: see `checks/http2.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| fairway_fuzz::http2::check(input));
