//! Without nasm the encoder of H264 is built without its assembly, silently, and takes twice the time.

use std::process::{Command, Stdio};

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=PATH");
    let is_x86 = std::env::var("CARGO_CFG_TARGET_ARCH").is_ok_and(|arch| arch.starts_with("x86"));
    let has_nasm = || {
        let version = Command::new("nasm").arg("-v").stdout(Stdio::null()).stderr(Stdio::null()).status();
        version.is_ok_and(|status| status.success())
    };
    assert!(!is_x86 || has_nasm(), "nasm is missing: install it (apt-get install nasm), then build again");
}
