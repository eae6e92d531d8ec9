//! Configurations as operators get them wrong: `culvert check` says where, and in words that lead to the remedy.
//!
//! In the texts below a `@` stands in front of the place that an error must name; it is taken out before the file is
//! written.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use serde_json::Value;
use std::path::PathBuf;
use tests::binary;

/// A good beginning, to which each test adds what is wrong.
const GOOD: &str = r#"[[port]]
name = "lan"
device = "net_null0"
addresses = ["10.1.0.1/24"]

[[port]]
name = "wan"
device = "net_null1"
addresses = ["192.0.2.2/24", "2001:db8::2/64"]

[[neighbor]]
interface = "wan"
address = "192.0.2.1"
mac = "02:00:00:00:0b:01"

"#;

/// A tunnel's head; the rest is added.
const TUNNEL: &str = "[[tunnel]]\nname = \"t\"\nencap = \"gre\"\nlocal = \"192.0.2.2\"\n";

struct Checked {
    folder: tempfile::TempDir,
    marks: Vec<(usize, usize)>,
}

impl Checked {
    fn new(text: &str) -> Checked {
        let (mut clean, mut marks, mut line, mut column) = (String::new(), Vec::new(), 1, 1);
        for character in text.chars() {
            match character {
                '@' => {
                    marks.push((line, column));
                    continue;
                }
                '\n' => (line, column) = (line + 1, 1),
                _ => column += 1,
            }
            clean.push(character);
        }
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("culvert.toml"), clean).unwrap();
        Checked { folder, marks }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("culvert.toml")
    }

    /// Runs both forms and returns the errors' texts and places after making sure that both say the same.
    fn errors(&self) -> Vec<(usize, usize, String)> {
        let path = self.path();
        let people = binary::run(["check".as_ref(), path.as_os_str()]);
        let machine = binary::run(["check".as_ref(), path.as_os_str(), "--json".as_ref()]);
        let text = String::from_utf8_lossy(&people.stderr).into_owned();
        let findings: Vec<Value> = serde_json::from_slice(&machine.stdout).unwrap();
        let errors: Vec<_> = findings
            .iter()
            .filter(|finding| finding["severity"] == "error")
            .map(|finding| {
                let place = |key: &str| finding[key].as_u64().unwrap() as usize;
                (place("line"), place("column"), finding["message"].as_str().unwrap().to_owned())
            })
            .collect();
        for (line, column, message) in &errors {
            let expected = format!("{}:{line}:{column}: error: {message}", path.display());
            assert!(text.contains(&expected), "{expected}\nis not in\n{text}");
        }
        assert_eq!(text.matches(": error: ").count(), errors.len(), "{text}");
        for output in [&people, &machine] {
            assert_eq!(output.status.code(), Some(i32::from(!errors.is_empty())), "{text}");
        }
        assert!(people.stdout.is_empty(), "people's text goes to stderr");
        errors
    }
}

/// Checks `GOOD` with `wrong` behind it: an error at each `@`, the words of `words` in them in order.
fn refused(wrong: &str, words: &[&[&str]]) {
    let checked = Checked::new(&(GOOD.to_owned() + wrong));
    let errors = checked.errors();
    let places: Vec<_> = errors.iter().map(|(line, column, _)| (*line, *column)).collect();
    assert_eq!(places, checked.marks, "{errors:?}");
    for ((_, _, message), words) in errors.iter().zip(words) {
        for word in *words {
            assert!(message.contains(word), "{word:?} expected in {message:?}");
        }
    }
}

#[test]
fn good_beginning_has_no_errors() {
    assert_eq!(Checked::new(GOOD).errors(), []);
}

#[test]
fn unknown_key_names_the_nearest() {
    refused(
        &(TUNNEL.to_owned() + "remote = \"192.0.2.1\"\n@dspc = 46\n"),
        &[&["unknown key", "`dspc`", "`dscp`"]],
    );
}

#[test]
fn misspelt_table_names_the_nearest() {
    refused("[[@tunel]]\nname = \"t\"\n", &[&["tunel", "tunnel"]]);
}

#[test]
fn missing_key_is_reported_at_its_table() {
    refused(&("@".to_owned() + TUNNEL), &[&["missing key", "`remote`"]]);
    refused("@[[route]]\nprefix = \"10.2.0.0/16\"\n", &[&["tunnel", "gateway", "interface"]]);
}

#[test]
fn every_error_is_found_not_only_the_first() {
    refused(
        "[[neighbor]]\ninterface = \"wan\"\naddress = @\"192.0.2.256\"\nmac = @\"02:00:00:00:0b\"\n\n\
         [[tunnel]]\nname = \"t\"\nencap = @\"vxlan\"\nlocal = \"192.0.2.2\"\nremote = \"192.0.2.1\"\ndf = @true\n",
        &[&["192.0.2.256"], &["02:00:00:00:0b"], &["vxlan", "gre"], &["set", "inherit", "clear", "true"]],
    );
}

#[test]
fn overlapping_tunnels_are_reported_at_the_later_one() {
    let later = TUNNEL.replace("\"t\"", "\"u\"");
    refused(
        &format!("{TUNNEL}remote = \"192.0.2.1\"\n\n{later}remote = @\"192.0.2.1\"\n"),
        &[&["\"u\"", "\"t\"", "192.0.2.1"]],
    );
}

#[test]
fn one_udp_port_has_one_kind() {
    let later = TUNNEL.replace("\"t\"", "\"u\"").replace("gre", "ip");
    refused(
        &format!(
            "{TUNNEL}remote = \"192.0.2.1\"\nudp = {{ kind = \"fou\", port = 5556 }}\n\n\
             {later}remote = \"192.0.2.1\"\nudp = {{ kind = \"fou\", port = @5556 }}\n"
        ),
        &[&["\"u\"", "5556", "\"t\""]],
    );
}

#[test]
fn route_to_nowhere_is_refused() {
    refused("[[route]]\nprefix = \"10.2.0.0/16\"\ntunnel = @\"nothing\"\n", &[&["nothing"]]);
    refused(
        "[[route]]\nprefix = \"10.2.0.0/16\"\ngateway = @\"198.51.100.1\"\n",
        &[&["198.51.100.1", "connected"]],
    );
    refused(
        "[[route]]\nprefix = @\"10.2.0.1/16\"\ninterface = \"lan\"\n",
        &[&["10.2.0.1/16", "10.2.0.0/16"]],
    );
}

#[test]
fn tunnel_routed_into_itself_is_refused() {
    refused(
        &format!(
            "{TUNNEL}remote = @\"198.51.100.7\"\n\n[[route]]\nprefix = \"198.51.100.7/32\"\ntunnel = \"t\"\n"
        ),
        &[&["\"t\"", "itself"]],
    );
}

#[test]
fn loop_of_two_tunnels_is_refused_where_it_closes() {
    let later = TUNNEL.replace("\"t\"", "\"u\"");
    refused(
        &format!(
            "{TUNNEL}remote = \"198.51.100.7\"\n\n{later}remote = @\"198.51.100.8\"\n\n\
             [[route]]\nprefix = \"198.51.100.7/32\"\ntunnel = \"u\"\n\n\
             [[route]]\nprefix = \"198.51.100.8/32\"\ntunnel = \"t\"\n"
        ),
        &[&["\"u\"", "\"t\""]],
    );
}

#[test]
fn route_to_a_tunnel_that_only_receives_is_refused() {
    refused(
        &format!("{TUNNEL}remote = \"any\"\n\n[[route]]\nprefix = \"10.2.0.0/16\"\ntunnel = @\"t\"\n"),
        &[&["\"t\"", "receives"]],
    );
}

#[test]
fn values_out_of_their_range_are_refused() {
    for (line, words) in [
        ("remote = [@\"any\", \"192.0.2.1\"]", "any"),
        ("remote = @\"2001:db8::1\"", "famil"),
        ("remote = \"192.0.2.1\"\nttl = @0", "255"),
        ("remote = \"192.0.2.1\"\ndscp = @64", "63"),
        ("remote = \"192.0.2.1\"\nkey = @4294967296", "4294967295"),
        ("remote = \"192.0.2.1\"\nmtu = @1477", "1476"),
    ] {
        refused(&format!("{TUNNEL}{line}\n"), &[&[words]]);
    }
    let ip = TUNNEL.replace("gre", "ip");
    refused(&format!("{ip}remote = \"192.0.2.1\"\nkey = @7\n"), &[&["key", "gre"]]);
}

#[test]
fn clamp_on_nothing_or_to_nothing_is_refused() {
    refused("[[mss_clamp]]\non = @\"transit\"\ndirection = \"out\"\nipv4 = 1332\n", &[&["transit"]]);
    refused("@[[mss_clamp]]\non = \"wan\"\ndirection = \"out\"\n", &[&["ipv4", "ipv6"]]);
    refused("@[[mss_clamp]]\non = \"wan\"\nipv4 = 1332\n", &[&["missing key", "direction"]]);
}

#[test]
fn same_name_twice_is_reported_at_the_second() {
    refused("[[port]]\nname = @\"wan\"\ndevice = \"net_null2\"\n", &[&["\"wan\"", "line 7"]]);
}

#[test]
fn columns_are_characters() {
    refused(
        "[[neighbor]]\ninterface = \"wan\"\nmac = \"02:00:00:00:0b:01\"\naddress = @\"größer\"\n",
        &[&["größer"]],
    );
    refused(
        &format!("{TUNNEL}remote = \"192.0.2.1\"\ninner_source = [@\"größe\", @\"ß\"]\n"),
        &[&["größe"], &["ß"]],
    );
}

#[test]
fn broken_syntax_is_reported_where_it_breaks() {
    let checked = Checked::new(&(GOOD.to_owned() + "[[tunnel]]\nname = \"unfinished\n"));
    let errors = checked.errors();
    assert_eq!(errors[0].0, 17, "{errors:?}");
}

#[test]
fn what_several_tables_show_is_said_beside_a_wrong_value() {
    refused(
        &format!(
            "[icmp]\ntotal = @-1\n\n{TUNNEL}remote = @\"198.51.100.7\"\n\n\
             [[route]]\nprefix = \"198.51.100.7/32\"\ntunnel = \"t\"\n"
        ),
        &[&["total"], &["itself"]],
    );
}

#[test]
fn a_key_twice_is_reported_at_the_second() {
    refused(&format!("{TUNNEL}remote = \"192.0.2.1\"\n@encap = \"ip\"\n"), &[&["`encap`", "line 18"]]);
}

#[test]
fn warnings_have_a_place_and_a_remedy_and_fail_nothing() {
    let checked = Checked::new(&format!(
        "{GOOD}{TUNNEL}remote = \"any\"\nttl = @7\n\n\
         [[route]]\nprefix = @\"224.0.0.0/4\"\ngateway = \"192.0.2.1\"\n\n\
         [[mss_clamp]]\non = \"wan\"\ndirection = \"both\"\nipv4 = @1500\n"
    ));
    assert_eq!(checked.errors(), []);
    let path = checked.path();
    let machine = binary::run(["check".as_ref(), "--json".as_ref(), path.as_os_str()]);
    let findings: Vec<Value> = serde_json::from_slice(&machine.stdout).unwrap();
    let place = |finding: &Value, key: &str| finding[key].as_u64().unwrap() as usize;
    let places: Vec<_> =
        findings.iter().map(|finding| (place(finding, "line"), place(finding, "column"))).collect();
    assert_eq!(places, checked.marks, "{findings:#?}");
    let people = binary::run(["check".as_ref(), path.as_os_str()]);
    let text = String::from_utf8_lossy(&people.stderr).into_owned();
    for (finding, (line, column)) in findings.iter().zip(places) {
        assert_eq!(finding["severity"], "warning");
        assert_eq!(finding["file"], path.to_str().unwrap());
        let (message, help) = (finding["message"].as_str().unwrap(), finding["help"].as_str().unwrap());
        let expected = format!("{}:{line}:{column}: warning: {message}\n  help: {help}\n", path.display());
        assert!(text.contains(&expected), "{expected}\nis not in\n{text}");
    }
}

#[test]
fn files_of_any_form_are_read_or_refused_at_a_place() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("f.toml");
    let dos = GOOD.replace('\n', "\r\n");
    let marked = format!("\u{feff}{GOOD}");
    for (bytes, place) in [
        (dos.as_bytes(), None),
        (marked.as_bytes(), None),
        (b"".as_slice(), Some("1:1")),
        (b"# nothing\n", Some("1:1")),
        ("\u{feff}x = 1\n".as_bytes(), Some("1:1")),
        (b"[system]\r\nidle = 1\r\n", Some("2:8")),
        (b"\t[system]\n\tidle\t=\t1\n", Some("2:9")),
        ("[system]\nidle = \"\u{e9}".as_bytes(), Some("2:8")),
        (b"[system]\nidle = \"\xff\"\n", Some("2:9")),
        (b"\xff\xfe[\0", Some("1:1")),
    ] {
        std::fs::write(&path, bytes).unwrap();
        let output = binary::run(["check".as_ref(), path.as_os_str()]);
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(i32::from(place.is_some())), "{text}");
        let expected = place.map_or(String::new(), |place| format!("{}:{place}: error: ", path.display()));
        assert!(text.contains(&expected), "{expected:?} expected in {text}");
    }
    let output = binary::run(["check".as_ref(), folder.path().as_os_str()]);
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn missing_file_is_a_failure_and_wrong_usage_exits_2() {
    let missing = binary::run(["check", "/nonexistent/culvert.toml"]);
    assert_eq!(missing.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&missing.stderr).contains("/nonexistent/culvert.toml"));
    assert_eq!(binary::run(["check"]).status.code(), Some(2));
    assert_eq!(binary::run(["no-such-command"]).status.code(), Some(2));
}

#[test]
fn every_command_has_help_with_an_example() {
    let output = binary::run(["--help"]);
    assert_eq!(output.status.code(), Some(0));
    for command in ["run", "check", "plan", "reload", "show", "replay"] {
        let output = binary::run([command, "--help"]);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert_eq!(output.status.code(), Some(0), "{command}");
        assert!(
            text.contains(&format!("culvert {command}")) && text.contains("xample"),
            "{command}:\n{text}"
        );
    }
}
