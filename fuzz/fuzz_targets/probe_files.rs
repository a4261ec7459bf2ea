//! Fuzzes the reader of the files in answers of hosts; the body is shared with the test command.
#![no_main]
#[path = "../bodies.rs"]
mod bodies;

libfuzzer_sys::fuzz_target!(|data: &[u8]| bodies::probe_files(data));
