//! Network namespaces, and culvert in one of them.
//!
//! Everything made here is unmade when its value goes out of scope, so a failing test leaves nothing behind. Names carry
//! the process id, so that two runs do not meet.

use crate::binary;
use serde_json::Value;
use std::fs;
use std::os::unix::net::UnixDatagram;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// Longest wait for anything that the machine does by itself.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Why tests with namespaces cannot run here; `None` where they can.
pub fn obstacle() -> Option<&'static str> {
    if std::env::var_os("CULVERT_NO_NAMESPACES").is_some() {
        return Some("left out of the quick part");
    }
    let root = fs::read_to_string("/proc/self/status")
        .is_ok_and(|status| status.lines().any(|line| line.starts_with("Uid:\t0\t")));
    if !root {
        return Some("needs root");
    }
    if !std::path::Path::new("/dev/net/tun").exists() {
        return Some("needs /dev/net/tun");
    }
    if !binary::succeeds("unshare", ["-n", "true"]) {
        return Some("needs leave to make network namespaces");
    }
    if !binary::succeeds("ip", ["netns", "list"]) || !binary::succeeds("tc", ["-Version"]) {
        return Some("needs ip and tc (iproute2)");
    }
    if !binary::succeeds("pkg-config", ["--exists", "libdpdk"]) {
        return Some("needs DPDK");
    }
    None
}

/// Runs a command line to its end.
///
/// # Panics
/// Where it fails, with its words.
pub fn sh(line: &str) -> String {
    let output = Command::new("sh").args(["-euc", line]).stdin(Stdio::null()).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{line}\n{text}{}", String::from_utf8_lossy(&output.stderr));
    text
}

/// Waits until `met` says so.
///
/// # Panics
/// Where it does not within [`PATIENCE`].
pub fn until(what: &str, mut met: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !met() {
        assert!(Instant::now() < deadline, "{what}: not within {PATIENCE:?}");
        std::thread::yield_now();
        std::thread::park_timeout(Duration::from_millis(20));
    }
}

/// A network namespace of this process's.
#[derive(Debug)]
pub struct Namespace {
    /// Its name for `ip netns`.
    pub name: String,
}

impl Namespace {
    /// An empty one, its loopback up, without addresses that Linux makes up by itself.
    pub fn new(role: &str) -> Namespace {
        let namespace = Namespace { name: format!("cv{}-{role}", std::process::id()) };
        sh(&format!("ip netns add {}", namespace.name));
        namespace.sh("ip link set lo up
             echo 0 > /proc/sys/net/ipv6/conf/default/accept_dad
             echo 1 > /proc/sys/net/ipv6/conf/default/addr_gen_mode");
        namespace
    }

    /// Runs a command line in it to its end.
    pub fn sh(&self, line: &str) -> String {
        sh(&format!("ip netns exec {} sh -euc '{line}'", self.name))
    }

    /// A command in it.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name, program]);
        command
    }

    /// An end of a wire, at work: this namespace's interface `name` with this Ethernet address.
    pub fn address(&self, interface: &str, mac: &str, addresses: &[&str]) {
        self.sh(&format!("ip link set {interface} address {mac} up"));
        for address in addresses {
            self.sh(&format!("ip address add {address} dev {interface}"));
        }
    }

    /// A static neighbour.
    pub fn neighbor(&self, interface: &str, address: &str, mac: &str) {
        self.sh(&format!("ip neighbor replace {address} lladdr {mac} dev {interface} nud permanent"));
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "del", &self.name]).status();
    }
}

/// Joins two namespaces by a pair of virtual Ethernet devices that leave nothing to offloads: packets cross them as they
/// would cross a wire.
pub fn wire(left: (&Namespace, &str), right: (&Namespace, &str)) {
    sh(&format!(
        "ip link add {} netns {} type veth peer name {} netns {}",
        left.1, left.0.name, right.1, right.0.name
    ));
    for (namespace, interface) in [left, right] {
        namespace.sh(&format!(
            "ethtool -K {interface} tx off rx off tso off gso off gro off >/dev/null 2>&1
             ip link set {interface} up"
        ));
    }
}

/// A culvert in a namespace, its TAP ports tied to wires.
#[derive(Debug)]
pub struct Gateway<'a> {
    namespace: &'a Namespace,
    folder: tempfile::TempDir,
    child: Option<Child>,
}

impl<'a> Gateway<'a> {
    /// Starts culvert with `config` and waits for its READY. Each of `ports` is a TAP device that the configuration makes
    /// and the wire's end that it is to be tied to. The socket and idleness are given here.
    pub fn start(namespace: &'a Namespace, config: &str, ports: &[(&str, &str)]) -> Gateway<'a> {
        let folder = tempfile::tempdir().unwrap();
        let mut gateway = Gateway { namespace, folder, child: None };
        gateway.write(config);
        let notified = UnixDatagram::bind(gateway.path("notify")).unwrap();
        notified.set_read_timeout(Some(PATIENCE)).unwrap();
        let log = fs::File::create(gateway.path("log")).unwrap();
        let binary = binary::culvert().to_str().unwrap();
        let mut command = namespace.command(binary);
        command.args(["run", "--config", &gateway.path("config.toml")]);
        command.env("NOTIFY_SOCKET", gateway.path("notify"));
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        gateway.child = Some(command.spawn().unwrap());
        let mut message = [0; 256];
        loop {
            let length = notified.recv(&mut message).unwrap_or_else(|error| {
                panic!("culvert said no READY: {error}\n{}", gateway.log());
            });
            if String::from_utf8_lossy(&message[..length]).lines().any(|line| line == "READY=1") {
                break;
            }
        }
        for (tap, end) in ports {
            gateway.tie(tap, end);
        }
        gateway
    }

    /// What comes in by one device leaves by the other, both ways. The wire may have been tied to a TAP that is gone.
    fn tie(&self, tap: &str, end: &str) {
        for (from, to) in [(tap, end), (end, tap)] {
            self.namespace.sh(&format!(
                "ip link set {from} up
                 tc qdisc show dev {from} ingress | grep -q ingress || tc qdisc add dev {from} ingress
                 tc filter del dev {from} parent ffff: prio 1 2>/dev/null || true
                 tc filter add dev {from} parent ffff: protocol all prio 1 u32 match u8 0 0 action mirred egress redirect dev {to}"
            ));
        }
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().unwrap().to_owned()
    }

    /// Replaces the configuration file; nothing is told to culvert.
    pub fn write(&self, config: &str) {
        let head = format!(
            "[system]\nworker_cores = [1]\ncontrol_core = 0\nidle = \"sleep\"\n\n[control]\nsocket = \"{}\"\n\n",
            self.path("socket")
        );
        // Renamed into place, so that a reload never reads half a file.
        fs::write(self.path("next.toml"), head + config).unwrap();
        fs::rename(self.path("next.toml"), self.path("config.toml")).unwrap();
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.child.as_ref().unwrap().id()
    }

    /// Everything that it wrote.
    pub fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    /// Runs a client command against it.
    pub fn client(&self, args: &[&str]) -> std::process::Output {
        let mut command = Command::new(binary::culvert());
        command.args(args).arg("--socket").arg(self.path("socket")).output().unwrap()
    }

    /// `culvert show WHAT --json`.
    pub fn show(&self, what: &str) -> Value {
        let output = self.client(&["show", what, "--json"]);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        serde_json::from_str(&text).unwrap_or_else(|error| {
            panic!("show {what}: {error}\n{text}{}\n{}", String::from_utf8_lossy(&output.stderr), self.log())
        })
    }

    /// `culvert reload` of the file that it was started with.
    pub fn reload(&self) -> std::process::Output {
        self.client(&["reload"])
    }

    /// Sends a signal by its name.
    pub fn signal(&self, name: &str) {
        sh(&format!("kill -{name} {}", self.pid()));
    }

    /// Waits for it to end by itself.
    pub fn wait(mut self) -> (ExitStatus, String) {
        let mut child = self.child.take().unwrap();
        let mut status = None;
        until("culvert ends", || {
            status = child.try_wait().unwrap();
            status.is_some()
        });
        (status.unwrap(), self.log())
    }
}

impl Drop for Gateway<'_> {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
            if std::thread::panicking() {
                eprintln!("--- culvert in {} said:\n{}", self.namespace.name, self.log());
            }
        }
    }
}
