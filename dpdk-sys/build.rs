//! Finds DPDK, compiles the shim against its headers, and generates bindings to the functions on a short list.
//!
//! DPDK is linked from its shared libraries, as distributions package it. There drivers are plugins: EAL loads them at
//! start from the folder that was built into it, so a driver that is installed is a driver that works. With static
//! libraries every driver would have to be linked whole into the program, since nothing refers to them but their own
//! constructors, and a fix to one would mean a new culvert.

use std::env;
use std::path::PathBuf;
use std::process::Command;

/// The functions in use; what they take and return comes with them.
const FUNCTIONS: &[&str] = &[
    "culvert_.*",
    "rte_dev_probe",
    "rte_dev_remove",
    "rte_eal_cleanup",
    "rte_eal_init",
    "rte_epoll_wait",
    "rte_eth_dev_adjust_nb_rx_tx_desc",
    "rte_eth_dev_close",
    "rte_eth_dev_configure",
    "rte_eth_dev_default_mac_addr_set",
    "rte_eth_dev_get_port_by_name",
    "rte_eth_dev_info_get",
    "rte_eth_dev_rx_intr_ctl_q",
    "rte_eth_dev_rx_intr_ctl_q_get_fd",
    "rte_eth_dev_rx_intr_disable",
    "rte_eth_dev_rx_intr_enable",
    "rte_eth_dev_set_mtu",
    "rte_eth_dev_socket_id",
    "rte_eth_dev_start",
    "rte_eth_dev_stop",
    "rte_eth_macaddr_get",
    "rte_eth_promiscuous_disable",
    "rte_eth_rx_queue_setup",
    "rte_eth_stats_get",
    "rte_eth_tx_queue_setup",
    "rte_get_tsc_hz",
    "rte_mempool_free",
    "rte_mempool_in_use_count",
    "rte_pktmbuf_free_bulk",
    "rte_pktmbuf_pool_create",
    "rte_strerror",
    "rte_thread_register",
    "rte_thread_unregister",
    "rte_version",
];

/// Types that are only pointed to: their fields are reached through the shim, or not at all.
const OPAQUE: &[&str] = &["rte_mbuf", "rte_mempool", "rte_device", "rte_eth_dev", "rte_eth_fp_ops"];

fn main() {
    println!("cargo::rerun-if-changed=shim.h");
    println!("cargo::rerun-if-changed=shim.c");
    if let Err(message) = build() {
        println!("cargo::error={message}");
    }
}

fn build() -> Result<(), String> {
    let dpdk = pkg_config::Config::new().atleast_version("22.11").probe("libdpdk").map_err(|error| {
        let path = env::var("PKG_CONFIG_PATH").unwrap_or_default();
        format!(
            "DPDK 22.11 or newer is needed: pkg-config looked for libdpdk.pc in its own folders and in \
             PKG_CONFIG_PATH=\"{path}\"; on Debian and Ubuntu install libdpdk-dev and pkg-config ({})",
            first_line(&error)
        )
    })?;
    let flags = header_flags()?;

    let mut shim = cc::Build::new();
    shim.file("shim.c").flags(&flags).opt_level(2).warnings(false);
    shim.try_compile("culvert_shim").map_err(|error| format!("the shim does not compile: {error}"))?;
    // The linker takes libraries in order: the shim, above, then those it refers to.
    for folder in &dpdk.link_paths {
        println!("cargo::rustc-link-search=native={}", folder.display());
    }
    for library in &dpdk.libs {
        println!("cargo::rustc-link-lib=dylib={library}");
    }

    let mut bindings = bindgen::Builder::default().header("shim.h").clang_args(&flags);
    for function in FUNCTIONS {
        bindings = bindings.allowlist_function(function);
    }
    for opaque in OPAQUE {
        bindings = bindings.opaque_type(opaque);
    }
    let bindings = bindings
        .allowlist_var("CULVERT_.*")
        .blocklist_type("rte_mbuf__.*")
        .derive_default(true)
        .derive_debug(false)
        .generate_comments(false)
        .layout_tests(false)
        .generate()
        .map_err(|error| format!("bindgen cannot read DPDK's headers (it needs libclang-dev): {error}"))?;
    let out = PathBuf::from(env::var("OUT_DIR").map_err(|error| format!("OUT_DIR: {error}"))?);
    bindings.write_to_file(out.join("bindings.rs")).map_err(|error| format!("{}: {error}", out.display()))
}

/// The compiler flags that pkg-config names for DPDK's headers, all of them: `-march` and `-include rte_config.h` decide
/// the layout of structures, and the `pkg-config` crate keeps only folders and definitions.
fn header_flags() -> Result<Vec<String>, String> {
    let pkg_config = env::var("PKG_CONFIG").unwrap_or_else(|_| "pkg-config".to_owned());
    let output = Command::new(&pkg_config).args(["--cflags", "libdpdk"]).output().map_err(|error| {
        format!("{pkg_config} cannot be run: {error}; on Debian and Ubuntu install pkg-config")
    })?;
    let flags = String::from_utf8_lossy(&output.stdout);
    Ok(flags.split_whitespace().map(str::to_owned).collect())
}

fn first_line(error: &pkg_config::Error) -> String {
    error.to_string().lines().find(|line| !line.trim().is_empty()).unwrap_or_default().trim().to_owned()
}
