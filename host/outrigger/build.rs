//! Where the binary finds llama.cpp's libraries: `host/llama/build.rs` lays them out, and says why there.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-link-arg=-Wl,--disable-new-dtags");
    for path in ["$ORIGIN/../lib/outrigger", "$ORIGIN/lib/outrigger"] {
        println!("cargo::rustc-link-arg=-Wl,-rpath,{path}");
    }
}
