//! The culvert binary: where it is, and running it.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

/// The culvert binary: the one that `CULVERT_BIN` names, else one built here with the cargo that runs the tests; without
/// DPDK where its libraries are not installed.
///
/// # Panics
/// Where it cannot be built.
pub fn culvert() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| match std::env::var_os("CULVERT_BIN") {
        Some(path) => PathBuf::from(path),
        None => build(),
    })
}

fn build() -> PathBuf {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(["build", "-p", "control", "--bin", "culvert", "--message-format=json-render-diagnostics"]);
    if !succeeds("pkg-config", ["--exists", "libdpdk"]) {
        command.arg("--no-default-features");
    }
    let output = command.current_dir(root()).output().expect("cargo starts");
    assert!(output.status.success(), "culvert does not build:\n{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .filter_map(|message| message.get("executable")?.as_str().map(PathBuf::from))
        .next_back()
        .expect("cargo says where the binary is")
}

/// The root of the tree.
///
/// # Panics
/// Never: this package is a folder of it.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// Runs culvert to its end.
///
/// # Panics
/// Where it cannot be started.
pub fn run<I: AsRef<OsStr>>(args: impl IntoIterator<Item = I>) -> Output {
    Command::new(culvert()).args(args).output().expect("culvert starts")
}

/// Whether a program is there and exits 0.
pub fn succeeds<I: AsRef<OsStr>>(program: &str, args: impl IntoIterator<Item = I>) -> bool {
    Command::new(program).args(args).output().is_ok_and(|output| output.status.success())
}
