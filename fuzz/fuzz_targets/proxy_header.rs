//! Fuzzes PROXY headers of both versions. What must hold: see `checks/proxy_header.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| fairway_fuzz::proxy_header::check(input));
