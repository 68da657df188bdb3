//! Makes what messaging has of its `.proto` file: the Rust code, and the description that reflection gives out. They are
//! kept beside the source so that a build of the server needs no compiler of Protobuf. To be run after a change of the
//! `.proto` file: `cargo run -p veche-proto`.

use std::fs;
use std::path::{Path, PathBuf};

use prost_build::{Config, Module};
use protox::Compiler;

/// What is made of the `.proto` file.
struct Made {
    code: String,
    descriptors: Vec<u8>,
}

fn main() {
    let Made { code, descriptors } = make();
    fs::write(code_path(), code).expect("the folder is there and can be written");
    fs::write(descriptors_path(), descriptors).expect("the folder is there and can be written");
}

fn make() -> Made {
    let mut compiler = Compiler::new([messaging().join("proto")]).expect("the folder is there");
    compiler.include_imports(true).include_source_info(true);
    compiler.open_file("veche/v1/messaging.proto").unwrap_or_else(|error| panic!("{error:?}"));
    let files = compiler.file_descriptor_set();
    let modules =
        files.file.iter().map(|file| (Module::from_protobuf_package_name(file.package()), file.clone()));
    let mut config = Config::new();
    config.bytes(["."]);
    let code = config.generate(modules.collect()).expect("what was compiled can be written");
    compiler.include_source_info(false);
    Made { code: code.into_values().collect(), descriptors: compiler.encode_file_descriptor_set() }
}

fn messaging() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../messaging")
}

fn code_path() -> PathBuf {
    messaging().join("src/proto/generated.rs")
}

fn descriptors_path() -> PathBuf {
    messaging().join("proto/descriptors.bin")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_messaging_has_is_current() {
        let Made { code, descriptors } = make();
        let current = fs::read_to_string(code_path()).unwrap() == code
            && fs::read(descriptors_path()).unwrap() == descriptors;
        assert!(
            current,
            "messaging.proto has changed: run `cargo run -p veche-proto` and commit what it makes"
        );
    }
}
