//! The templates and the SDK are folders in the binary; a file that is new in one of them is noticed only here.

fn main() {
    for folder in ["templates", "../../plugins/sdk", "../../plugins/testkit", "../../wit"] {
        println!("cargo::rerun-if-changed={folder}");
    }
}
