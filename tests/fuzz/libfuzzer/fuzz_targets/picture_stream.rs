#![no_main]
libfuzzer_sys::fuzz_target!(|input: &[u8]| veche_fuzz::run("picture_stream", input));
