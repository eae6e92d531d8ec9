//! The scripts that an operator starts by hand: what they say to wrong words, before they touch anything.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // A test may fail.

use std::path::Path;
use std::process::Command;

/// Runs `scripts/nic` and returns its exit code, what it printed and what it complained of.
fn nic(args: &[&str]) -> (i32, String, String) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/nic");
    let output = Command::new(script).args(args).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
}

#[test]
fn nic_without_words_or_with_wrong_ones_shows_its_usage() {
    for args in [&[][..], &["remove"], &["bind"], &["unbind"], &["hugepages", "many"]] {
        let (code, _, complaint) = nic(args);
        assert_eq!(code, 2, "{args:?}: {complaint}");
        assert!(complaint.contains("scripts/nic bind"), "{complaint}");
    }
}

#[test]
fn nic_names_what_is_no_device() {
    for (address, words) in
        [("3b:00.0", "expected a PCI address"), ("ffff:ff:1f.7", "no PCI device ffff:ff:1f.7")]
    {
        for command in ["bind", "unbind"] {
            let (code, _, complaint) = nic(&[command, address]);
            assert_eq!(code, 1, "{complaint}");
            let is_told = complaint.contains(words) || complaint.contains("needs root");
            assert!(is_told, "{complaint}");
        }
    }
}

#[test]
fn nic_lists_every_network_device_with_its_driver() {
    let (code, list, complaint) = nic(&["list"]);
    assert_eq!(code, 0, "{complaint}");
    let is_network = |folder: &std::fs::DirEntry| {
        let class = std::fs::read_to_string(folder.path().join("class")).unwrap_or_default();
        class.starts_with("0x02")
    };
    let Ok(devices) = std::fs::read_dir("/sys/bus/pci/devices") else { return };
    for device in devices.flatten().filter(is_network) {
        let address = device.file_name().into_string().unwrap();
        assert!(list.lines().any(|line| line.starts_with(&address)), "{address} is not in\n{list}");
    }
    assert!(list.starts_with("PCI "), "{list}");
}
