//! The command line. Wrong usage ends with exit code 2, which is what clap does.

use crate::config::DEFAULT_SOCKET;
use crate::protocol::Topic;
use crate::trace::Question;
use clap::{Args, Parser, Subcommand};
use std::path::PathBuf;
use std::time::Duration;

/// A tunnel gateway: encapsulates, decapsulates and forwards IP packets on poll-mode cores.
#[derive(Debug, Parser)]
#[command(name = "culvert", version, arg_required_else_help = true)]
pub(crate) struct Arguments {
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Forward packets, in the foreground
    #[command(after_help = "Example:\n  culvert run --config /etc/culvert/culvert.toml\n\n\
        SIGHUP reads the file again; SIGTERM and SIGINT send what is in hand and end.")]
    Run {
        /// The configuration
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
    },
    /// Say everything that is wrong with a configuration; needs neither root nor devices
    #[command(after_help = "Example:\n  culvert check /etc/culvert/culvert.toml\n\n\
        Findings go to stderr as FILE:LINE:COLUMN: error: what. The exit code is 1 where there is an error.")]
    Check {
        /// The configuration
        file: PathBuf,
        /// Print the findings as a JSON array on stdout
        #[arg(long)]
        json: bool,
    },
    /// Show every byte that each tunnel sends, its MTU and MSS, and which line of the file says so
    #[command(after_help = "Examples:\n  culvert explain /etc/culvert/culvert.toml --tunnel acme-1\n  \
        culvert explain /etc/culvert/culvert.toml --json | jq '.[].overhead'\n  culvert explain --profiles\n\n\
        Dots stand for what depends on the packet.")]
    Explain {
        /// The configuration
        #[arg(required_unless_present = "profiles")]
        file: Option<PathBuf>,
        /// This tunnel only
        #[arg(long, value_name = "NAME")]
        tunnel: Option<String>,
        /// Print JSON
        #[arg(long)]
        json: bool,
        /// The named profiles with their numbers and what each is for
        #[arg(long, conflicts_with_all = ["file", "tunnel"])]
        profiles: bool,
    },
    /// Show what runs
    #[command(
        after_help = "Examples:\n  culvert show tunnels\n  culvert show drops --json | jq .dropped\n  \
        culvert show latency --hgrm\n  culvert show ports --watch 1"
    )]
    Show {
        /// What to show
        #[arg(value_name = "WHAT")]
        topic: Topic,
        /// Print JSON
        #[arg(long)]
        json: bool,
        /// Print HdrHistogram's percentile text, which its plotters read (latency only)
        #[arg(long, conflicts_with = "json")]
        hgrm: bool,
        /// Every drop reason, not only those that occurred (drops only)
        #[arg(long, conflicts_with_all = ["json", "hgrm"])]
        all: bool,
        /// Show it again every so many seconds
        #[arg(long, value_name = "SECONDS", value_parser = seconds)]
        watch: Option<Duration>,
        #[command(flatten)]
        daemon: Daemon,
    },
    /// Check a configuration and put it to work without losing a packet
    #[command(after_help = "Examples:\n  culvert reload\n  culvert reload /etc/culvert/next.toml\n\n\
        Without FILE the daemon reads the file again that it runs with. A bad file changes nothing.")]
    Reload {
        /// The configuration
        file: Option<PathBuf>,
        /// Print JSON
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        daemon: Daemon,
    },
    /// Say what a configuration would change
    #[command(after_help = "Example:\n  culvert plan /etc/culvert/next.toml")]
    Plan {
        /// The configuration
        file: PathBuf,
        /// Print JSON
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        daemon: Daemon,
    },
    /// Say of single packets, step by step, why they went where they went or were dropped
    #[command(
        after_help = "Examples:\n  culvert trace --tunnel acme-1 --count 3\n  culvert trace --reason no_tunnel\n  \
        culvert trace --config colo.toml --in backhaul=in.pcap --dropped\n\n\
        Without --config the next packets of the running daemon are told, with it those of capture files. Workers copy \
        packets while a trace waits, which costs them time: a port or an address keeps that small."
    )]
    Trace {
        #[command(flatten)]
        question: Question,
        /// Explain by this file, and packets of captures
        #[arg(long, value_name = "FILE", requires = "captures", conflicts_with = "socket")]
        config: Option<PathBuf>,
        /// A capture (pcap or pcapng) and the port that receives it; for several ports several times
        #[arg(long = "in", value_name = "PORT=FILE", requires = "config", value_parser = capture)]
        captures: Vec<(String, PathBuf)>,
        /// End after so many packets
        #[arg(long, value_name = "NUMBER", default_value_t = 10, value_parser = count)]
        count: usize,
        /// End after so many seconds
        #[arg(long, value_name = "SECONDS", default_value = "30", value_parser = seconds, conflicts_with = "config")]
        within: Duration,
        /// Print each packet as a line of JSON
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        daemon: Daemon,
    },
    /// Run capture files through the forwarding code, without root, hugepages or devices
    #[command(
        after_help = "Example:\n  culvert replay --config colo.toml --in backhaul=in.pcap --out out/\n\n\
        Writes out/PORT.pcap for each port, out/kernel-NAME.pcap for the host's packets, and prints counters as JSON."
    )]
    Replay {
        /// The configuration
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// A capture (pcap or pcapng) and the port that receives it; for several ports several times
        #[arg(long = "in", value_name = "PORT=FILE", required = true, value_parser = capture)]
        captures: Vec<(String, PathBuf)>,
        /// The folder for what comes out; made where it is missing
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
    },
}

/// Which daemon to talk to.
#[derive(Debug, Args)]
pub(crate) struct Daemon {
    /// The daemon's control socket
    #[arg(long, value_name = "PATH", default_value = DEFAULT_SOCKET)]
    pub(crate) socket: PathBuf,
}

fn capture(text: &str) -> Result<(String, PathBuf), String> {
    match text.split_once('=') {
        Some((port, file)) if !port.is_empty() && !file.is_empty() => {
            Ok((port.to_owned(), PathBuf::from(file)))
        }
        _ => Err(format!("expected PORT=FILE, found \"{text}\"")),
    }
}

fn count(text: &str) -> Result<usize, String> {
    let count = text.parse().ok().filter(|count| (1..=1_000_000).contains(count));
    count.ok_or_else(|| format!("expected a number from 1 to 1000000, found \"{text}\""))
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    let usual = Duration::from_millis(100)..=Duration::from_secs(86_400);
    seconds
        .filter(|seconds| usual.contains(seconds))
        .ok_or_else(|| format!("expected a number of seconds from 0.1 to 86400, found \"{text}\""))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_sound_and_every_command_has_an_example() {
        Arguments::command().debug_assert();
        for mut command in Arguments::command().get_subcommands().cloned() {
            let help = command.render_long_help().to_string();
            assert!(help.contains("Example"), "{help}");
        }
    }

    #[test]
    fn a_capture_names_its_port() {
        assert_eq!(capture("wan=a=b.pcap"), Ok(("wan".to_owned(), PathBuf::from("a=b.pcap"))));
        for bad in ["", "wan", "wan=", "=a.pcap"] {
            assert!(capture(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn usage_errors_are_found() {
        let usage =
            |line: &str| Arguments::try_parse_from(line.split(' ')).map_err(|error| error.exit_code());
        assert!(usage("culvert check a.toml --json").is_ok());
        assert!(usage("culvert show drops --watch 0.5").is_ok());
        assert!(usage("culvert explain a.toml --tunnel t --json").is_ok());
        assert!(usage("culvert explain --profiles").is_ok());
        assert!(usage("culvert trace --config a.toml --in wan=a.pcap").is_ok());
        for bad in [
            "culvert frob",
            "culvert check",
            "culvert explain",
            "culvert explain a.toml --profiles",
            "culvert show nothing",
            "culvert show drops --watch 0",
            "culvert replay --config a --out b",
            "culvert run a.toml",
            "culvert trace --config a.toml --in wan=a.pcap --within 3",
            "culvert trace --config a.toml --in wan=a.pcap --socket a.sock",
        ] {
            assert_eq!(usage(bad).err(), Some(2), "{bad}");
        }
        assert_eq!(usage("culvert --help").err(), Some(0));
    }
}
