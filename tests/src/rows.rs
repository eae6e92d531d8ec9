//! Where the golden rows are.

use std::path::{Path, PathBuf};

/// The UDP ports that carry tunnels where a row says nothing else.
pub const TUNNEL_PORTS: [u16; 4] = [5555, 5556, 6080, 4754];

/// The folder of all rows.
pub fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("golden")
}

/// The folders of the rows: those of `golden/` and of `golden/linux/`.
///
/// # Panics
/// Where the tree cannot be read.
pub fn rows() -> Vec<PathBuf> {
    let mut folders: Vec<PathBuf> = [golden(), golden().join("linux")]
        .iter()
        .flat_map(|parent| std::fs::read_dir(parent).into_iter().flatten())
        .map(|entry| entry.unwrap().path())
        .filter(|folder| folder.join("config.toml").is_file())
        .collect();
    folders.sort();
    folders
}

/// A row's name: its path below `golden/`.
///
/// # Panics
/// Where `folder` is no row.
pub fn name_of(folder: &Path) -> String {
    folder.strip_prefix(golden()).unwrap().to_string_lossy().into_owned()
}
