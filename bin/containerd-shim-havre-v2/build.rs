//! Links the shim at a fixed address. A position-independent program writes all its pointer tables anew in each
//! process, about 300 KiB that no two shims share; there is one shim for every container. The shim parses no bytes
//! of the network, so the lost randomisation of its own image is a fair price.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let linux = std::env::var("CARGO_CFG_TARGET_OS").is_ok_and(|os| os == "linux");
    let is_static = std::env::var("CARGO_CFG_TARGET_FEATURE")
        .is_ok_and(|features| features.split(',').any(|feature| feature == "crt-static"));
    if linux && is_static {
        for argument in ["-no-pie", "-static"] {
            println!("cargo::rustc-link-arg-bins={argument}");
        }
    }
}
