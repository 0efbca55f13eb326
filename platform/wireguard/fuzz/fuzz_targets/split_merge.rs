//! `cargo fuzz run split_merge`: hostile frames and packets through splitting and merging.
#![no_main]

#[path = "../exercise.rs"]
mod exercise;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    exercise::exercise(data);
});
