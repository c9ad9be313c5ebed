#![no_main]

#[path = "../../../policies/tests/it/oracle.rs"]
mod oracle;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| oracle::resource_files(bytes));
