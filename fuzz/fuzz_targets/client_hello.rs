//! Fuzzes the first message of a client over TLS. What must hold: see `checks/client_hello.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| fairway_fuzz::client_hello::check(input));
