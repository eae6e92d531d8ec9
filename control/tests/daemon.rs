//! `culvert run` from outside: start and stop, the control socket, and reloads. Devices are DPDK's virtual ones, so no
//! packet leaves the process.

#![cfg(feature = "dpdk")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // A test may fail.

mod common;

use common::{Style, culvert, pcap, stderr, udp_frame, write};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Much longer than anything here takes; reached only by a failure.
const DEADLINE: Duration = Duration::from_secs(30);

/// The address that DPDK gives to the first `net_pcap` device.
const PCAP_MAC: [u8; 6] = [0x02, 0x70, 0x63, 0x61, 0x70, 0x00];

/// A running culvert in a folder of its own; killed when dropped.
struct Daemon {
    folder: tempfile::TempDir,
    child: Child,
    log: Arc<Mutex<String>>,
    notices: Receiver<String>,
}

impl Daemon {
    /// Starts one and waits until it says that it is ready; `None`, with the reason printed, where this user cannot
    /// start DPDK.
    fn start(body: &str) -> Option<Self> {
        Self::start_in(tempfile::tempdir().unwrap(), body)
    }

    fn start_in(folder: tempfile::TempDir, body: &str) -> Option<Self> {
        write(folder.path(), "culvert.toml", config(folder.path(), body));
        let mut daemon = Self::spawn(folder);
        let ready = daemon.notice("READY=1");
        if ready.is_none() {
            let log = daemon.log();
            assert_ne!(std::fs::metadata("/proc/self").unwrap().uid(), 0, "not ready, as root:\n{log}");
            println!("skipped: DPDK does not start for this user: {log}");
            return None;
        }
        Some(daemon)
    }

    fn spawn(folder: tempfile::TempDir) -> Self {
        let notify = folder.path().join("notify");
        let _ = std::fs::remove_file(&notify);
        let manager = UnixDatagram::bind(&notify).unwrap();
        let (notice, notices) = std::sync::mpsc::channel();
        // Reads all the time, as a service manager does: who sends to a full queue waits. Ends with the test.
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(count) = manager.recv(&mut bytes) {
                if notice.send(String::from_utf8_lossy(&bytes[..count]).into_owned()).is_err() {
                    return;
                }
            }
        });
        let mut child = culvert()
            .args(["run", "--config", "culvert.toml"])
            .current_dir(folder.path())
            .env("NOTIFY_SOCKET", notify)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log = Arc::new(Mutex::new(String::new()));
        let (stderr, sink) = (child.stderr.take().unwrap(), log.clone());
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                sink.lock().unwrap().push_str(&(line + "\n"));
            }
        });
        Daemon { folder, child, log, notices }
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn socket(&self) -> PathBuf {
        socket(self.path())
    }

    fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    /// Waits for a notice with this line and returns it whole; `None` where the process ends first.
    fn notice(&mut self, line: &str) -> Option<String> {
        until(&format!("the notice {line}"), || {
            if let Ok(notice) = self.notices.try_recv() {
                return notice.lines().any(|other| other == line).then_some(Some(notice));
            }
            self.child.try_wait().unwrap().map(|_| None)
        })
    }

    /// Waits until the log has this text.
    fn logged(&self, text: &str) {
        until(&format!("{text:?} in the log"), || self.log().contains(text).then_some(()));
    }

    fn signal(&self, name: &str) {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args(["-s", name, &id]).status().unwrap().success());
    }

    fn ended(&mut self) -> ExitStatus {
        until("the end of the daemon", || self.child.try_wait().unwrap())
    }

    /// Runs a command that talks to this daemon.
    fn ask(&self, args: &[&str]) -> Output {
        culvert().args(args).arg("--socket").arg(self.socket()).current_dir(self.path()).output().unwrap()
    }

    fn show(&self, what: &str) -> Value {
        let output = self.ask(&["show", what, "--json"]);
        assert!(output.status.success(), "{}", stderr(&output));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    fn generation(&self) -> u64 {
        self.show("workers")[0]["generation"].as_u64().unwrap()
    }

    /// Bytes that it has in memory.
    fn resident(&self) -> usize {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() * 1024
    }

    /// Replaces the configuration file.
    fn configure(&self, body: &str) {
        write(self.path(), "culvert.toml", config(self.path(), body));
    }

    fn reload(&self) -> Output {
        self.ask(&["reload"])
    }

    /// Sends bytes as a client that then says no more, and returns the answer.
    fn send(&self, bytes: &[u8]) -> Value {
        let mut stream = UnixStream::connect(self.socket()).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream.write_all(bytes).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        answer(stream)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn socket(folder: &Path) -> PathBuf {
    folder.join("run/control.sock")
}

/// A whole configuration: one worker on the last core, which sleeps while there is nothing to do.
fn config(folder: &Path, body: &str) -> String {
    let last = std::thread::available_parallelism().unwrap().get() - 1;
    format!(
        "[system]\nworker_cores = [{last}]\nhugepages = \"off\"\nidle = \"sleep\"\n\n\
         [control]\nsocket = \"{}\"\n\n{body}",
        socket(folder).display()
    )
}

/// Two ports without packets.
const QUIET: &str = r#"
[[port]]
name = "lan"
device = "net_ring0"
addresses = ["192.0.2.1/24"]

[[port]]
name = "wan"
device = "net_ring1"
addresses = ["198.51.100.1/24"]

[[neighbor]]
interface = "wan"
address = "198.51.100.7"
mac = "02:00:00:00:ff:07"
"#;

/// A GRE tunnel, and a route for `prefix` into it.
fn tunnel(name: &str, remote: &str, prefix: &str) -> String {
    format!(
        "\n[[tunnel]]\nname = \"{name}\"\nencap = \"gre\"\nlocal = \"198.51.100.1\"\nremote = \"{remote}\"\n\
         \n[[route]]\nprefix = \"{prefix}\"\ntunnel = \"{name}\"\n"
    )
}

/// So many tunnels by way of the neighbour that all bodies have.
fn tunnels(count: usize) -> String {
    let tunnels = (0..count).map(|at| {
        let (high, low) = (at / 250, at % 250);
        tunnel(&format!("t{at}"), &format!("198.51.{high}.{low}"), &format!("11.{high}.{low}.0/24"))
    });
    let way = "\n[[route]]\nprefix = \"198.51.0.0/16\"\ngateway = \"198.51.100.7\"\n";
    std::iter::once(way.to_owned()).chain(tunnels).collect()
}

/// Polls `ready` until it gives a value.
fn until<T>(what: &str, mut ready: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + DEADLINE;
    loop {
        if let Some(value) = ready() {
            return value;
        }
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn answer(mut stream: UnixStream) -> Value {
    let mut line = String::new();
    stream.read_to_string(&mut line).unwrap();
    serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line:?}"))
}

fn error(answer: &Value) -> String {
    answer["error"]["message"].as_str().unwrap_or_else(|| panic!("no error in {answer}")).to_owned()
}

#[test]
fn ready_is_told_once_every_worker_forwards() {
    let Some(daemon) = Daemon::start(QUIET) else { return };
    assert_eq!(daemon.generation(), 1);
    let ports = daemon.show("ports");
    assert_eq!((&ports[0]["name"], &ports[1]["name"]), (&json!("lan"), &json!("wan")));
    let log = daemon.log();
    for line in ["version", "port lan", "port wan", "worker on core", "control socket", "forwarding"] {
        assert!(log.contains(line), "{line} in {log}");
    }
}

#[test]
fn a_pipe_in_place_of_a_file_is_refused_and_holds_nothing_up() {
    let Some(daemon) = Daemon::start(QUIET) else { return };
    let pipe = daemon.socket().with_file_name("pipe.toml");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    for command in ["reload", "plan"] {
        let answer = daemon.ask(&[command, pipe.to_str().unwrap()]);
        assert_eq!(answer.status.code(), Some(1), "{command}");
        assert!(String::from_utf8_lossy(&answer.stderr).contains("no regular file"), "{answer:?}");
    }
    assert_eq!(daemon.generation(), 1);
}

#[test]
fn term_and_int_end_it_well() {
    for signal in ["TERM", "INT"] {
        let Some(mut daemon) = Daemon::start(QUIET) else { return };
        daemon.signal(signal);
        assert!(daemon.notice("STOPPING=1").is_some());
        assert_eq!(daemon.ended().code(), Some(0), "{}", daemon.log());
        assert!(!daemon.socket().exists());
        daemon.logged("\"unaccounted\":0");
    }
}

#[test]
fn a_signal_during_start_up_is_not_lost() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "culvert.toml", config(folder.path(), QUIET));
    let mut daemon = Daemon::spawn(folder);
    daemon.logged("culvert: version");
    daemon.signal("TERM");
    assert_eq!(daemon.ended().code(), Some(0), "{}", daemon.log());
    assert!(!daemon.socket().exists());
}

#[test]
fn the_socket_and_its_folder_are_the_owners_alone() {
    let Some(daemon) = Daemon::start(QUIET) else { return };
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&daemon.socket()), 0o600);
    assert_eq!(mode(daemon.socket().parent().unwrap()), 0o700);
}

#[test]
fn the_socket_of_a_dead_daemon_is_replaced() {
    let Some(mut daemon) = Daemon::start(QUIET) else { return };
    daemon.signal("KILL");
    daemon.ended();
    assert!(daemon.socket().exists());
    let folder = std::mem::replace(&mut daemon.folder, tempfile::tempdir().unwrap());
    let daemon = Daemon::start_in(folder, QUIET).unwrap();
    assert_eq!(daemon.generation(), 1);
}

#[test]
fn the_socket_of_a_live_daemon_is_left_to_it() {
    let Some(daemon) = Daemon::start(QUIET) else { return };
    let second =
        culvert().args(["run", "--config", "culvert.toml"]).current_dir(daemon.path()).output().unwrap();
    assert_eq!(second.status.code(), Some(1));
    let expected = format!("another culvert answers on {}", daemon.socket().display());
    assert!(stderr(&second).contains(&expected), "{}", stderr(&second));
    assert_eq!(daemon.generation(), 1);
}

#[test]
fn what_is_no_socket_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("run")).unwrap();
    write(&folder.path().join("run"), "control.sock", "somebody's");
    write(folder.path(), "culvert.toml", config(folder.path(), QUIET));
    let output =
        culvert().args(["run", "--config", "culvert.toml"]).current_dir(folder.path()).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("control.sock: there is a file already"), "{}", stderr(&output));
    assert_eq!(std::fs::read_to_string(socket(folder.path())).unwrap(), "somebody's");
}

#[test]
fn a_path_too_long_for_a_socket_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let long = folder.path().join("x".repeat(120));
    let text =
        config(folder.path(), QUIET).replace(socket(folder.path()).to_str().unwrap(), long.to_str().unwrap());
    write(folder.path(), "culvert.toml", text);
    let output =
        culvert().args(["run", "--config", "culvert.toml"]).current_dir(folder.path()).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("107"), "{}", stderr(&output));
}

#[test]
fn requests_that_make_no_sense_are_answered_with_an_error() {
    let Some(daemon) = Daemon::start(QUIET) else { return };
    for garbage in [
        &b"\n"[..],
        b"nonsense\n",
        b"\xff\xfe\x00\n",
        b"{\"command\":\"show\",\"what\":\"nothing\"}\n",
        b"[]\n",
    ] {
        assert!(error(&daemon.send(garbage)).contains("not a request"), "{garbage:?}");
    }
    let deep = [b"[".repeat(100_000), b"\n".to_vec()].concat();
    assert!(error(&daemon.send(&deep)).contains("not a request"));
    assert!(error(&daemon.send(b"{\"command\":\"show\"")).contains("ended before its line did"));
    assert!(error(&daemon.send(&vec![b'x'; 2 << 20])).contains("longer than 1048576 bytes"));
    assert_eq!(daemon.generation(), 1);
}

#[test]
fn silent_clients_keep_nobody_waiting_and_are_sent_away() {
    let Some(daemon) = Daemon::start(QUIET) else { return };
    let silent: Vec<UnixStream> = (0..8)
        .map(|at| {
            let mut stream = UnixStream::connect(daemon.socket()).unwrap();
            stream.set_read_timeout(Some(DEADLINE)).unwrap();
            stream.write_all(&b"{\"command\":"[..at]).unwrap();
            stream
        })
        .collect();
    let before = Instant::now();
    assert_eq!(daemon.generation(), 1);
    assert!(before.elapsed() < Duration::from_secs(3), "{:?}", before.elapsed());
    for stream in silent {
        assert!(error(&answer(stream)).contains("no whole request within"));
    }
}

#[test]
fn clients_that_leave_without_a_word_leave_nothing_behind() {
    let Some(daemon) = Daemon::start(QUIET) else { return };
    let descriptors = || std::fs::read_dir(format!("/proc/{}/fd", daemon.child.id())).unwrap().count();
    let before = descriptors();
    for _ in 0..500 {
        let mut stream = UnixStream::connect(daemon.socket()).unwrap();
        let _ = stream.write_all(b"{\"command\":\"show\",\"what\":\"tunnels\"}\n");
    }
    until("descriptors to be closed", || (descriptors() <= before).then_some(()));
    assert_eq!(daemon.generation(), 1);
}

#[test]
fn a_reload_publishes_a_generation_and_says_what_changed() {
    let Some(daemon) = Daemon::start(QUIET) else { return };
    let with_tunnel = format!("{QUIET}{}", tunnel("acme", "198.51.100.7", "10.7.0.0/16"));
    let next = write(daemon.path(), "next.toml", config(daemon.path(), &with_tunnel));
    let plan = daemon.ask(&["plan", "next.toml"]);
    assert!(plan.status.success(), "{}", stderr(&plan));
    assert!(String::from_utf8_lossy(&plan.stdout).contains("acme"));
    assert_eq!(daemon.generation(), 1);
    let reload = daemon.ask(&["reload", "next.toml"]);
    assert!(reload.status.success(), "{}", stderr(&reload));
    let text = String::from_utf8_lossy(&reload.stdout).into_owned();
    assert!(text.contains("acme") && text.contains("generation 2"), "{text}");
    assert_eq!(daemon.generation(), 2);
    assert_eq!(daemon.show("tunnels")[0]["name"], "acme");
    assert_eq!(daemon.show("config")["file"], next.canonicalize().unwrap().to_str().unwrap());
    // From here on this file is the one that SIGHUP reads.
    write(daemon.path(), "next.toml", config(daemon.path(), &with_tunnel.replace("acme", "other")));
    daemon.signal("HUP");
    until("generation 3", || (daemon.generation() == 3).then_some(()));
    assert_eq!(daemon.show("tunnels")[0]["name"], "other");
}

#[test]
fn a_reload_is_told_to_the_service_manager() {
    let Some(mut daemon) = Daemon::start(QUIET) else { return };
    daemon.signal("HUP");
    let notice = daemon.notice("RELOADING=1").unwrap();
    assert!(notice.contains("MONOTONIC_USEC="), "{notice}");
    assert!(daemon.notice("READY=1").is_some());
}

#[test]
fn a_bad_file_changes_nothing_and_packets_go_on() {
    // A port that receives for ever.
    let busy = QUIET.replace("net_ring0", "net_null0");
    let Some(daemon) = Daemon::start(&busy) else { return };
    daemon.configure(&busy.replace("address = \"198.51.100.7\"", "adress = 7"));
    let refused = daemon.reload();
    assert_eq!(refused.status.code(), Some(1));
    let text = stderr(&refused);
    assert!(
        text.contains("culvert.toml:") && text.contains("error: ") && text.contains("nothing was changed"),
        "{text}"
    );
    daemon.signal("HUP");
    daemon.logged("reload refused");
    assert_eq!(daemon.generation(), 1);
    assert_eq!(daemon.show("neighbors")[0]["address"], "198.51.100.7");
    let received = || daemon.show("drops")["received"].as_u64().unwrap();
    let before = received();
    until("more packets", || (received() > before).then_some(()));
    let missing = daemon.ask(&["reload", "missing.toml"]);
    assert_eq!(missing.status.code(), Some(1));
    assert!(stderr(&missing).contains("missing.toml"), "{}", stderr(&missing));
}

#[test]
fn what_only_a_restart_can_change_is_refused_by_name() {
    let Some(daemon) = Daemon::start(QUIET) else { return };
    let cases = [
        (QUIET.replace("device = \"net_ring1\"", "device = \"net_ring1\"\nmtu = 9000"), "mtu"),
        (QUIET.replace("net_ring1", "net_ring2"), "device"),
        (
            QUIET
                .replace("name = \"wan\"", "name = \"uplink\"")
                .replace("interface = \"wan\"", "interface = \"uplink\""),
            "uplink",
        ),
    ];
    for (body, named) in cases {
        daemon.configure(&body);
        let refused = daemon.reload();
        assert_eq!(refused.status.code(), Some(1), "{named}");
        let text = stderr(&refused);
        assert!(text.contains("restart") && text.contains(named), "{text}");
        let plan = daemon.ask(&["plan", "culvert.toml"]);
        assert!(plan.status.success());
        let text = stderr(&plan);
        assert!(text.contains("only a restart can change") && text.contains(named), "{text}");
    }
    let text = config(daemon.path(), QUIET).replace("idle = \"sleep\"", "idle = \"poll\"");
    write(daemon.path(), "culvert.toml", text);
    let text = stderr(&daemon.reload());
    assert!(text.contains("restart") && text.contains("idle"), "{text}");
    assert_eq!(daemon.generation(), 1);
}

/// How many packets of [`endless`] went into the tunnel and out, and what was dropped of them.
fn progress(daemon: &Daemon) -> (u64, Value) {
    let drops = daemon.show("drops");
    (drops["transmitted"].as_u64().unwrap(), drops["tunnels"]["acme"]["dropped"].clone())
}

#[test]
fn workers_forward_while_a_large_file_is_read() {
    // What is sent into a ring comes back.
    let Some(daemon) = endless("net_null0,no-rx=1") else { return };
    // As fast as it goes here without a reload, over as many packets as say it well.
    let (began, (first, _)) = (Instant::now(), progress(&daemon));
    let quiet = until("100,000 packets", || {
        let count = progress(&daemon).0 - first;
        (count >= 100_000).then(|| count as f64 / began.elapsed().as_secs_f64())
    });
    let before = std::fs::read_to_string(daemon.path().join("culvert.toml")).unwrap();
    write(daemon.path(), "large.toml", before + &tunnels(5000));
    let (first, _) = progress(&daemon);
    let reload = daemon.ask(&["reload", "large.toml", "--json"]);
    let (last, dropped) = progress(&daemon);
    assert!(reload.status.success(), "{}", stderr(&reload));
    let answer: Value = serde_json::from_slice(&reload.stdout).unwrap();
    let stages = answer["seconds"].as_object().unwrap();
    assert_eq!(stages.keys().collect::<Vec<_>>(), ["read", "compile", "compare", "publish"]);
    let seconds: f64 = stages.values().map(|stage| stage.as_f64().unwrap()).sum();
    // A worker that waited for the control thread would have sent what it does in the moments around the reload only. The
    // control thread may take its core half of the time, and other tests the rest of the machine.
    let expected = quiet * seconds / 10.0;
    assert!(
        (last - first) as f64 > expected,
        "{} packets in {seconds} s, {quiet} a second else",
        last - first
    );
    assert_eq!(dropped, json!({}));
}

#[test]
fn a_tunnel_takes_a_kibibyte_at_most_and_reloads_keep_nothing() {
    let Some(daemon) = Daemon::start(QUIET) else { return };
    let (empty, count) = (daemon.resident(), 8_000);
    daemon.configure(&format!("{QUIET}{}", tunnels(count)));
    for _ in 0..=10 {
        let reload = daemon.reload();
        assert!(reload.status.success(), "{}", stderr(&reload));
    }
    let each = (daemon.resident() - empty) / count;
    assert!(each <= 1024, "{each} bytes");
    // What was packed to be small is there all the same.
    let file = std::fs::read_to_string(daemon.path().join("culvert.toml")).unwrap();
    assert_eq!(daemon.show("config")["text"], file);
    assert_eq!(daemon.show("tunnels").as_array().unwrap().len(), count);
}

#[test]
fn a_hundred_reloads_end_in_the_hundred_and_first_generation() {
    let Some(daemon) = Daemon::start(QUIET) else { return };
    for number in 1..=100 {
        daemon.configure(&format!("{QUIET}{}", tunnel(&format!("t{number}"), "198.51.100.7", "10.7.0.0/16")));
        let reload = daemon.reload();
        assert!(reload.status.success(), "{}", stderr(&reload));
    }
    assert_eq!(daemon.generation(), 101);
    assert_eq!(daemon.show("tunnels").as_array().unwrap().len(), 1);
    assert_eq!(daemon.show("drops")["unaccounted"], 0);
}

/// `count` packets that the port of a capture receives and that a route for 10.7.0.0/16 takes into a tunnel.
fn traffic(folder: &Path, count: u16) {
    let packets: Vec<_> = (0..count)
        .map(|_| {
            let mut frame = udp_frame(1, [192, 0, 2, 9], [10, 7, 0, 1], 1);
            frame[..6].copy_from_slice(&PCAP_MAC);
            (0, frame)
        })
        .collect();
    write(folder, "in.pcap", pcap(Style::USUAL, 1, &packets));
}

#[test]
fn counters_and_latency_stay_with_their_tunnel_over_reloads() {
    let folder = tempfile::tempdir().unwrap();
    traffic(folder.path(), 1_000);
    let quiet = QUIET.replace("net_ring0", "net_pcap0,rx_pcap=in.pcap,tx_pcap=out.pcap");
    let first = format!("{quiet}{}", tunnel("first", "198.51.100.7", "10.7.0.0/16"));
    let Some(daemon) = Daemon::start_in(folder, &first) else { return };
    let packets = |name: &str| {
        let tunnels = daemon.show("tunnels");
        let tunnel = tunnels.as_array().unwrap().iter().find(|tunnel| tunnel["name"] == name).cloned();
        tunnel.unwrap()["tx_packets"].as_u64().unwrap()
    };
    until("a thousand packets", || (packets("first") == 1_000).then_some(()));
    // A ring gives back what was sent into it, and that is for the neighbour, not for the port.
    let drops = until("all packets to be accounted for", || {
        let drops = daemon.show("drops");
        (drops["received"] == 2_000 && drops["unaccounted"] == 0).then_some(drops)
    });
    assert_eq!(
        (&drops["transmitted"], &drops["dropped"]["ethernet_address"]),
        (&json!(1_000), &json!(1_000))
    );
    let count = |scope: &str| {
        let latency = daemon.show("latency");
        let entry = latency.as_array().unwrap().iter().find(|entry| entry["scope"] == scope).cloned();
        entry.map_or(0, |entry| entry["count"].as_u64().unwrap())
    };
    until("latency of a thousand packets", || (count("tunnel:first:encap") == 1_000).then_some(()));
    let hgrm = daemon.ask(&["show", "latency", "--hgrm"]);
    let text = String::from_utf8_lossy(&hgrm.stdout).into_owned();
    assert!(text.contains("1/(1-Percentile)") && text.contains("Total count    =         1000"), "{text}");

    daemon.configure(&format!("{first}{}", tunnel("second", "198.51.100.8", "10.8.0.0/16")));
    assert!(daemon.reload().status.success());
    assert_eq!((packets("first"), packets("second")), (1_000, 0));
    assert_eq!(count("tunnel:first:encap"), 1_000);
    // Two reloads, because a slot is free only when no worker counts in it any more.
    daemon.configure(&quiet);
    assert!(daemon.reload().status.success());
    daemon.configure(&format!("{quiet}{}", tunnel("third", "198.51.100.7", "10.7.0.0/16")));
    assert!(daemon.reload().status.success());
    assert_eq!(packets("third"), 0);
    assert_eq!(count("tunnel:third:encap"), 0);
}

#[test]
fn tables_for_people_name_what_they_show() {
    let Some(daemon) = Daemon::start(&format!("{QUIET}{}", tunnel("acme", "198.51.100.7", "10.7.0.0/16")))
    else {
        return;
    };
    let cases = [
        ("ports", "RX PACKETS"),
        ("tunnels", "acme"),
        ("routes", "tunnel acme"),
        ("neighbors", "02:00:00:00:ff:07"),
        ("workers", "CYCLES/PACKET"),
        ("drops", "unaccounted"),
        ("latency", "tunnel:acme:decap"),
        ("config", "name = \"acme\""),
    ];
    for (what, expected) in cases {
        let output = daemon.ask(&["show", what]);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success() && text.contains(expected), "{what}: {text}{}", stderr(&output));
    }
    let all = daemon.ask(&["show", "drops", "--all"]);
    assert!(String::from_utf8_lossy(&all.stdout).contains("No route has this destination."));
}

#[test]
fn a_reader_that_has_seen_enough_is_no_failure() {
    let Some(daemon) = Daemon::start(QUIET) else { return };
    let mut child = culvert()
        .args(["show", "workers", "--watch", "0.1", "--socket"])
        .arg(daemon.socket())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut reader = BufReader::new(child.stdout.take().unwrap());
    reader.read_line(&mut String::new()).unwrap();
    drop(reader);
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), stderr(&output).as_str()), (Some(0), ""));
    // A disk that is full is one, for a command that shows something again and again, too.
    let full = std::fs::File::create("/dev/full").unwrap();
    let mut watch = culvert();
    watch.args(["show", "workers", "--watch", "0.1", "--socket"]).arg(daemon.socket()).stdout(full);
    let output = watch.stderr(Stdio::piped()).spawn().unwrap().wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    assert!(stderr(&output).contains("cannot write to stdout"), "{}", stderr(&output));
}

#[test]
fn without_a_daemon_commands_say_where_they_looked_and_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("nobody.sock");
    write(folder.path(), "culvert.toml", config(folder.path(), QUIET));
    let check = |path: &Path| {
        for args in
            [&["show", "ports"][..], &["show", "latency", "--hgrm"], &["reload"], &["plan", "culvert.toml"]]
        {
            let output =
                culvert().args(args).arg("--socket").arg(path).current_dir(folder.path()).output().unwrap();
            assert_eq!(output.status.code(), Some(1), "{args:?}");
            let text = stderr(&output);
            assert!(
                text.contains(path.to_str().unwrap()) && text.contains("culvert run --config"),
                "{args:?}: {text}"
            );
        }
    };
    check(&path);
    // A socket that nobody listens on any more.
    drop(UnixListener::bind(&path).unwrap());
    check(&path);
}

/// Starts a daemon whose configuration has `to` in place of `from`, and whether it got ready; `None` where DPDK does
/// not start for this user.
fn changed(body: &str, from: &str, to: &str) -> Option<(Daemon, bool)> {
    drop(Daemon::start(QUIET)?);
    let folder = tempfile::tempdir().unwrap();
    let text = config(folder.path(), body);
    assert!(text.contains(from), "{from} in {text}");
    write(folder.path(), "culvert.toml", text.replace(from, to));
    let mut daemon = Daemon::spawn(folder);
    let ready = daemon.notice("READY=1").is_some();
    Some((daemon, ready))
}

/// What `/proc` says under `key` of the daemon's thread with this name.
fn of_thread(daemon: &Daemon, name: &str, key: &str) -> String {
    let tasks = std::fs::read_dir(format!("/proc/{}/task", daemon.child.id())).unwrap();
    let field = |text: &str, key: &str| {
        let value = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(":\t"));
        value.unwrap_or_default().to_owned()
    };
    let texts: Vec<String> =
        tasks.filter_map(|task| std::fs::read_to_string(task.unwrap().path().join("status")).ok()).collect();
    let found = texts.iter().find(|text| field(text, "Name") == name);
    field(found.unwrap_or_else(|| panic!("no thread {name}: {texts:?}")), key)
}

/// How long the daemon's thread with this name has been on a core.
fn time_of_thread(daemon: &Daemon, name: &str) -> Duration {
    let mut tasks = std::fs::read_dir(format!("/proc/{}/task", daemon.child.id())).unwrap();
    let read = |task: &Path, file: &str| std::fs::read_to_string(task.join(file)).unwrap_or_default();
    let task =
        tasks.find_map(|task| Some(task.unwrap().path()).filter(|task| read(task, "comm").trim() == name));
    let text = read(&task.unwrap(), "schedstat");
    Duration::from_nanos(text.split(' ').next().unwrap().parse().unwrap())
}

#[test]
fn each_thread_runs_on_the_core_that_is_configured_for_it() {
    let last = std::thread::available_parallelism().unwrap().get() - 1;
    if last == 0 {
        return println!("skipped: this machine has one core");
    }
    let swapped = format!("worker_cores = [0]\ncontrol_core = {last}");
    for (system, worker, control) in [(format!("worker_cores = [{last}]"), last, 0), (swapped, 0, last)] {
        let from = format!("worker_cores = [{last}]");
        let Some((daemon, ready)) = changed(QUIET, &from, &system) else { return };
        assert!(ready, "{}", daemon.log());
        assert_eq!(daemon.show("workers")[0]["core"], worker);
        let cores = |name: &str| of_thread(&daemon, name, "Cpus_allowed_list");
        assert_eq!(cores(&format!("worker-{worker}")), worker.to_string());
        assert_eq!(cores("culvert"), control.to_string());
        // What the machine is warned of is logged and does no more.
        let warned = daemon.log().contains("culvert: warning: a worker is on core 0");
        assert_eq!(warned, worker == 0, "{}", daemon.log());
    }
}

#[test]
fn a_worker_without_packets_sleeps_only_where_it_may() {
    let last = std::thread::available_parallelism().unwrap().get() - 1;
    if last == 0 {
        return println!("skipped: this machine has one core");
    }
    let pauses = |daemon: &Daemon| {
        let pauses = of_thread(daemon, &format!("worker-{last}"), "voluntary_ctxt_switches");
        pauses.parse::<u64>().unwrap()
    };
    let Some(sleepy) = Daemon::start(QUIET) else { return };
    let before = pauses(&sleepy);
    until("a hundred pauses", || (pauses(&sleepy) >= before + 100).then_some(()));
    drop(sleepy);
    let Some((busy, ready)) = changed(QUIET, "idle = \"sleep\"", "idle = \"poll\"") else { return };
    assert!(ready, "{}", busy.log());
    let before = pauses(&busy);
    let requests = (0..20).map(|_| busy.generation()).sum::<u64>();
    let paused = pauses(&busy) - before;
    assert!(requests == 20 && paused < 20, "{paused} pauses of a worker that polls");
}

#[test]
fn a_sleeping_worker_takes_a_small_part_of_what_a_polling_one_takes() {
    let last = std::thread::available_parallelism().unwrap().get() - 1;
    if last == 0 {
        return println!("skipped: this machine has one core");
    }
    // On one core, and so from the same time.
    let body = QUIET.replace("net_ring0", "net_null0,no-rx=1").replace("net_ring1", "net_null1,no-rx=1");
    let Some(sleepy) = Daemon::start(&body) else { return };
    let Some((busy, ready)) = changed(&body, "idle = \"sleep\"", "idle = \"poll\"") else { return };
    assert!(ready, "{}", busy.log());
    let taken = |daemon: &Daemon| time_of_thread(daemon, &format!("worker-{last}"));
    let before = [taken(&sleepy), taken(&busy)];
    until("a second's work of the worker that polls", || {
        (taken(&busy) >= before[1] + Duration::from_secs(1)).then_some(())
    });
    let [slept, polled] = [taken(&sleepy) - before[0], taken(&busy) - before[1]];
    assert!(slept * 5 < polled, "{slept:?} of the worker that sleeps, {polled:?} of the one that polls");
}

#[test]
fn eal_args_are_handed_to_dpdk() {
    let Some((daemon, ready)) = changed(QUIET, "[control]", "eal_args = [\"--no-such-option\"]\n[control]")
    else {
        return;
    };
    assert!(!ready);
    daemon.logged("no-such-option");
}

#[test]
fn receive_queues_and_their_spreading_are_those_configured() {
    let device = "device = \"net_null0,no-rx=1\"";
    let body = QUIET.replace("device = \"net_ring0\"", device);
    let Some((daemon, ready)) = changed(&body, device, &format!("{device}\nrx_queues = 2")) else { return };
    assert!(ready, "{}", daemon.log());
    assert_eq!(daemon.show("ports")[0]["rx_queues"], 2);
    assert_eq!(daemon.show("ports")[1]["rx_queues"], 1);
    drop(daemon);
    let inner = format!("{device}\nrx_queues = 2\nrss = \"inner\"");
    let Some((daemon, ready)) = changed(&body, device, &inner) else { return };
    assert!(!ready);
    daemon.logged("cannot spread packets by inner headers");
}

#[test]
fn workers_share_one_receive_queue_and_say_why() {
    let last = std::thread::available_parallelism().unwrap().get() - 1;
    if last == 0 {
        println!("skipped: two workers need two cores");
        return;
    }
    let packets: Vec<_> = (0..64u8)
        .map(|flow| {
            let mut frame = udp_frame(1, [192, 0, 2, flow], [10, 7, 0, 1], 1);
            frame[..6].copy_from_slice(&PCAP_MAC);
            (0, frame)
        })
        .collect();
    let start = |rss: &str| {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), "in.pcap", pcap(Style::USUAL, 1, &packets));
        // Of two receive queues one is used, so that there are two transmit queues.
        let device = "net_pcap0,rx_pcap=in.pcap,rx_pcap=in.pcap,infinite_rx=1\"\nrx_queues = 1";
        let quiet = QUIET.replace("net_ring0\"", &format!("{device}\nrss = \"{rss}\""));
        let quiet = quiet.replace("net_ring1\"", "net_null1,no-rx=1\"\nrss = \"off\"");
        let body = quiet + &tunnel("acme", "198.51.100.7", "10.7.0.0/16");
        let one = format!("worker_cores = [{last}]");
        let text = config(folder.path(), &body).replace(&one, &format!("worker_cores = [{last}, 0]"));
        write(folder.path(), "culvert.toml", text);
        let mut daemon = Daemon::spawn(folder);
        let ready = daemon.notice("READY=1").is_some();
        (daemon, ready)
    };
    drop(match Daemon::start(QUIET) {
        Some(daemon) => daemon,
        None => return,
    });

    let (mut daemon, ready) = start("auto");
    assert!(ready, "{}", daemon.log());
    let workers = until("packets on both workers", || {
        let workers = daemon.show("workers");
        let worked = |worker: &Value| {
            worker["packets"].as_u64() > Some(10_000)
                && ["cycles_per_packet", "waited_percent"].iter().all(|key| worker[key].is_number())
        };
        (worked(&workers[0]) && worked(&workers[1])).then_some(workers)
    });
    let by = json!({"by": "software", "why": "1 receive queue for 2 workers"});
    for worker in workers.as_array().unwrap() {
        assert_eq!(worker["spreading"]["lan"], by);
        assert_eq!(worker["spreading"]["wan"]["by"], "off");
    }
    let text = daemon.ask(&["show", "workers"]).stdout;
    let text = String::from_utf8(text).unwrap();
    assert!(text.contains("Port lan: spreading software, 1 receive queue for 2 workers.\n"), "{text}");
    assert_eq!(daemon.show("ports")[0]["spreading"], "software");
    daemon.signal("TERM");
    assert!(daemon.ended().success());
    // All that was received was counted by the time it ended.
    daemon.logged("\"unaccounted\":0");
    drop(daemon);

    let (daemon, ready) = start("off");
    assert!(ready, "{}", daemon.log());
    let packets = until("packets", || {
        let workers = daemon.show("workers");
        (workers[0]["packets"].as_u64() > Some(10_000)).then_some(workers)
    });
    assert_eq!(packets[0]["spreading"]["lan"], json!({"by": "off", "why": "the configuration says off"}));
    assert_eq!(packets[1]["packets"], 0);
}

#[test]
fn ordinary_pages_hold_the_buffers_of_many_queues() {
    // No buffer crosses the end of a page, so each takes one: 200 MiB, and 130 if bytes alone were counted.
    let port = |number: u8| {
        let name = format!("name = \"many{number}\"\ndevice = \"net_null{number},no-rx=1\"");
        format!("\n[[port]]\n{name}\nrx_queues = 16\n")
    };
    let body: String = (0..3).map(port).collect();
    let Some(daemon) = Daemon::start(&body) else { return };
    assert!(daemon.log().contains("packet memory in ordinary pages"));
    for port in daemon.show("ports").as_array().unwrap() {
        assert_eq!(port["rx_queues"], 16);
    }
}

#[test]
fn a_tunnel_has_a_histogram_only_where_it_is_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    traffic(folder.path(), 100);
    let quiet = QUIET.replace("net_ring0", "net_pcap0,rx_pcap=in.pcap,tx_pcap=out.pcap");
    let without = tunnel("without", "198.51.100.7", "10.7.0.0/16")
        .replace("encap = \"gre\"", "encap = \"gre\"\nlatency = false");
    let Some(daemon) = Daemon::start_in(folder, &format!("{quiet}{without}")) else { return };
    until("a hundred packets", || (daemon.show("tunnels")[0]["tx_packets"] == 100).then_some(()));
    let scopes = until("the worker's histogram", || {
        let latency = daemon.show("latency");
        let entries = latency.as_array().unwrap();
        let counted = |entry: &&Value| entry["count"].as_u64().unwrap() >= 100;
        entries.iter().find(counted)?;
        Some(entries.iter().map(|entry| entry["scope"].as_str().unwrap().to_owned()).collect::<Vec<_>>())
    });
    assert!(!scopes.iter().any(|scope| scope.starts_with("tunnel:without")), "{scopes:?}");
}

/// Packets without end: every other one has no route, the others go into the tunnel "acme" and out of the device `wan`.
fn endless(wan: &str) -> Option<Daemon> {
    let folder = tempfile::tempdir().unwrap();
    let packets: Vec<_> = [[10, 7, 0, 1], [10, 99, 0, 1]]
        .map(|destination| {
            let mut frame = udp_frame(1, [192, 0, 2, 9], destination, 1);
            frame[..6].copy_from_slice(&PCAP_MAC);
            (0, frame)
        })
        .to_vec();
    write(folder.path(), "in.pcap", pcap(Style::USUAL, 1, &packets));
    let quiet = QUIET.replace("net_ring0", "net_pcap0,rx_pcap=in.pcap,infinite_rx=1");
    let quiet = quiet.replace("net_ring1", wan);
    Daemon::start_in(folder, &format!("{quiet}{}", tunnel("acme", "198.51.100.7", "10.7.0.0/16")))
}

/// A report with the type of each value in its place; of neighbouring entries that are alike, one.
fn shape(value: &Value) -> Value {
    match value {
        Value::Object(object) => object.iter().map(|(name, value)| (name.clone(), shape(value))).collect(),
        Value::Array(entries) => {
            let mut shapes: Vec<Value> = entries.iter().map(shape).collect();
            shapes.dedup();
            shapes.into()
        }
        Value::Number(number) if number.is_f64() => "float".into(),
        Value::Number(_) => "integer".into(),
        Value::String(_) => "text".into(),
        Value::Bool(_) => "boolean".into(),
        Value::Null => "null".into(),
    }
}

/// Fails where a report lacks a name, has one that is not expected, or has a value of another type.
fn assert_shape(what: &str, value: &Value, expected: &Value) {
    assert_eq!(shape(value), *expected, "{what}: {value:#}");
}

#[test]
fn every_figure_of_a_report_has_its_name_and_type() {
    let folder = tempfile::tempdir().unwrap();
    traffic(folder.path(), 100);
    let quiet = QUIET.replace("net_ring0", "net_pcap0,rx_pcap=in.pcap,tx_pcap=out.pcap");
    let without = tunnel("unclamped", "198.51.100.8", "10.8.0.0/16")
        .replace("encap = \"gre\"", "encap = \"gre\"\nmss = \"off\"\nlatency = false");
    let others = "\n[[route]]\nprefix = \"10.9.0.0/16\"\ngateway = \"198.51.100.7\"\n\
                  \n[[route]]\nprefix = \"10.10.0.0/16\"\ninterface = \"wan\"\n";
    let body = format!("{quiet}{}{without}{others}", tunnel("acme", "198.51.100.7", "10.7.0.0/16"));
    let Some(daemon) = Daemon::start_in(folder, &body) else { return };
    // The ring gives back what was sent into it.
    until("all packets", || (daemon.show("drops")["received"] == 200).then_some(()));
    until("the latency of all packets", || (daemon.show("latency")[0]["count"] == 100).then_some(()));

    let tunnel = |mss: &str| {
        json!({"name": "text", "state": "text", "mtu": "integer", "mss_ipv4": mss, "mss_ipv6": mss,
               "rx_packets": "integer", "rx_bytes": "integer", "tx_packets": "integer", "tx_bytes": "integer",
               "dropped": {}, "mss_clamped": "integer"})
    };
    let tunnels = [tunnel("integer"), tunnel("null")];
    assert_shape("tunnels", &daemon.show("tunnels"), &json!(tunnels));
    assert_shape(
        "drops",
        &daemon.show("drops"),
        &json!({"received": "integer", "originated": "integer", "transmitted": "integer", "kernel": "integer",
                "consumed": "integer", "dropped": {"ethernet_address": "integer"}, "unaccounted": "integer",
                "tunnels": {"acme": tunnels[0], "unclamped": tunnels[1]}}),
    );

    let names = ["min_ns", "p50_ns", "p90_ns", "p99_ns", "p999_ns", "p9999_ns", "max_ns"];
    let latency = daemon.show("latency");
    let scopes: Vec<&str> =
        latency.as_array().unwrap().iter().map(|entry| entry["scope"].as_str().unwrap()).collect();
    let worker = format!("worker:{}", daemon.show("workers")[0]["core"]);
    assert_eq!(scopes, [worker.as_str(), "transit", "tunnel:acme:encap", "tunnel:acme:decap"]);
    for (entry, measured) in latency.as_array().unwrap().iter().zip([true, false, true, false]) {
        let mut entry = entry.clone();
        let interval = entry.as_object_mut().unwrap().remove("interval").unwrap();
        // What nobody measured has no least and no largest value.
        let mut expected = json!({"scope": "text", "count": "integer"});
        names.iter().for_each(|name| expected[name] = if measured { "integer" } else { "null" }.into());
        assert_shape("latency", &entry, &expected);
        entry.as_object_mut().unwrap().remove("scope");
        let of = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<BTreeSet<_>>();
        assert_eq!(of(&interval), of(&entry));
    }

    assert_shape(
        "ports",
        &daemon.show("ports"),
        &json!([{"name": "text", "device": "text", "description": "text", "mac": "text", "mtu": "integer",
                 "rx_queues": "integer", "spreading": "text", "link": "text", "mbps": "integer", "full_duplex": "boolean",
                 "rx_packets": "integer", "rx_bytes": "integer", "rx_missed": "integer", "rx_errors": "integer",
                 "rx_no_buffer": "integer", "tx_packets": "integer", "tx_bytes": "integer", "tx_errors": "integer"}]),
    );
    let route = |keys: &[&str]| {
        let mut route =
            json!({"prefix": "text", "priority": "integer", "weight": "integer", "origin": "text"});
        keys.iter().for_each(|key| route[key] = "text".into());
        route
    };
    let kinds =
        [route(&["interface"]), route(&["tunnel"]), route(&["gateway", "interface"]), route(&["interface"])];
    assert_shape("routes", &daemon.show("routes"), &json!(kinds));
    assert_shape(
        "neighbors",
        &daemon.show("neighbors"),
        &json!([{"interface": "text", "address": "text", "mac": "text", "state": "text"}]),
    );
    let mut config = daemon.show("config");
    assert_eq!(config["config"]["tunnel"][0]["name"], "acme");
    config["config"] = json!({});
    assert_shape(
        "config",
        &config,
        &json!({"file": "text", "generation": "integer", "text": "text", "config": {}}),
    );
}

#[test]
fn a_worker_says_how_busy_it_is() {
    let Some(quiet) = Daemon::start(QUIET) else { return };
    let idle = until("the end of an interval", || {
        let worker = quiet.show("workers")[0].clone();
        worker["interval"]["busy_percent"].is_number().then_some(worker)
    });
    let figures = json!({"packets": "integer", "cycles_per_packet": "null", "busy_percent": "float",
                         "waited_percent": "float", "packets_per_burst": "null"});
    let mut expected = figures.clone();
    for name in ["core", "generation", "drops"] {
        expected[name] = "integer".into();
    }
    let spreading = json!({"by": "text", "why": "text"});
    expected["spreading"] = json!({"lan": spreading, "wan": spreading});
    expected["interval"] = figures;
    assert_shape("an idle worker", &idle, &expected);
    assert_eq!(
        (&idle["packets"], &idle["busy_percent"], &idle["drops"]),
        (&json!(0), &json!(0.0), &json!(0))
    );
    drop(quiet);

    let Some(busy) = endless("net_ring1") else { return };
    let worker = until("an interval with packets", || {
        let worker = busy.show("workers")[0].clone();
        worker["interval"]["packets"].as_u64().is_some_and(|packets| packets > 0).then_some(worker)
    });
    for packets in ["cycles_per_packet", "packets_per_burst"] {
        expected[packets] = "float".into();
        expected["interval"][packets] = "float".into();
    }
    assert_shape("a busy worker", &worker, &expected);
    // The source is never empty, so each poll is busy and each burst of that port full.
    for figures in [&worker, &worker["interval"]] {
        let figure = |name: &str| figures[name].as_f64().unwrap();
        assert!((50.0..=100.0).contains(&figure("busy_percent")), "{worker:#}");
        let burst = forwarder::forward::BURST as f64;
        assert!((burst / 4.0..=burst).contains(&figure("packets_per_burst")), "{worker:#}");
        assert!(figure("cycles_per_packet") > 1.0, "{worker:#}");
    }
    let drops = worker["drops"].as_u64().unwrap();
    assert!(drops > 0 && drops <= 2 * worker["packets"].as_u64().unwrap(), "{worker:#}");
}

/// What `culvert trace --json` with these arguments prints.
fn traced(daemon: &Daemon, arguments: &[&str]) -> Vec<Value> {
    let output = daemon.ask(&[&["trace", "--json"], arguments].concat());
    assert!(output.status.success(), "{}", stderr(&output));
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn a_trace_tells_of_the_next_packets_that_are_asked_for() {
    let Some(daemon) = endless("net_ring1") else { return };
    let dropped = traced(&daemon, &["--reason", "no_route", "--count", "3"]);
    assert_eq!(dropped.len(), 3);
    for (packet, number) in dropped.iter().zip(1..) {
        assert_eq!((&packet["packet"], &packet["port"]), (&json!(number), &json!("lan")));
        let end = packet["steps"].as_array().unwrap().last().unwrap();
        assert!(end["text"].as_str().unwrap().contains("holds 10.99.0.1 is missing"), "{packet}");
        // The worker has long told as many as it may, which no copy shows.
        assert!(packet.to_string().contains("is told, unless the worker had told too many"), "{packet}");
    }
    let sent = traced(&daemon, &["--tunnel", "acme", "--address", "10.7.0.1", "--count", "2"]);
    assert_eq!(sent.len(), 2);
    assert!(
        sent.iter().all(|packet| packet["verdict"] == "transmitted" && packet["tunnels"] == json!(["acme"]))
    );
    // A port that receives nothing but its own packets: the wait for others ends by itself, and says so.
    let output = daemon.ask(&["trace", "--interface", "wan", "--reason", "no_route", "--within", "0.3"]);
    assert!(output.status.success() && stderr(&output).contains("no such packet within 0.3 s"), "{output:?}");
    // What no worker's tap sees is not waited for.
    for reason in ["tx_full", "multi_segment", "reassembly_timeout"] {
        let output = daemon.ask(&["trace", "--reason", reason]);
        assert!(stderr(&output).contains("no trace shows packets dropped as"), "{output:?}");
        assert_eq!(output.status.code(), Some(1));
    }
    let output = daemon.ask(&["trace", "--tunnel", "akme"]);
    assert!(stderr(&output).contains("the nearest is \"acme\""), "{output:?}");
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn a_trace_whose_reader_has_gone_ends_and_makes_way() {
    let Some(daemon) = endless("net_ring1") else { return };
    let mut trace = culvert()
        .args(["trace", "--count", "1000000", "--within", "600", "--socket"])
        .arg(daemon.socket())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut first = String::new();
    BufReader::new(trace.stdout.take().unwrap()).read_line(&mut first).unwrap();
    assert!(first.starts_with("packet 1: "), "{first}");
    let status = until("the end of the trace", || trace.try_wait().unwrap());
    assert!(status.success(), "{status}");
    assert!(daemon.send(b"{\"command\":\"trace_start\",\"question\":{}}\n")["ok"]["id"].is_u64());
}

#[test]
fn one_trace_runs_at_a_time_and_ends_with_its_client_or_the_tables() {
    let Some(daemon) = endless("net_ring1") else { return };
    let start = || daemon.send(b"{\"command\":\"trace_start\",\"question\":{}}\n");
    let next = |id: &Value| daemon.send(format!("{{\"command\":\"trace_next\",\"id\":{id}}}\n").as_bytes());
    let first = start()["ok"]["id"].clone();
    assert!(error(&start()).contains("another trace runs"));
    until("packets", || (!next(&first)["ok"].as_array().unwrap().is_empty()).then_some(()));
    // A reload gives names other numbers.
    assert!(daemon.reload().status.success());
    assert!(error(&next(&first)).contains("a reload gave the daemon other tables"));
    let second = start()["ok"]["id"].clone();
    assert_ne!(first, second);
    // Nobody asks for it: after a while another may begin.
    until("the trace to be forgotten", || start()["ok"]["id"].as_u64());
    assert!(error(&next(&second)).contains("no trace"));
}
