//! `culvert`, the program.
//!
//! A command line ([`args`]) names one of a few commands. [`config`] reads the file that all of them are about and gives
//! the values from which the forwarder compiles its tables; [`diagnostic`] is how its findings read. [`check`] stops
//! there. [`explain`] says what the tables hold for each tunnel, and why; [`replay`] sends captures through them, and
//! [`trace`] tells of single packets why they went where they went;
//! [`mod@run`] lets worker cores do so with what arrives, once [`preflight`] has said what the machine lacks, while the
//! control thread is the [`daemon`], which answers on a [`socket`] and takes a new file by [`reload`]. [`show`] and
//! [`client`] are the other end of that socket; what goes over it is in [`protocol`].

// Without DPDK nothing reads what only a running daemon needs.
#![cfg_attr(not(feature = "dpdk"), allow(dead_code, unused_imports))]

mod args;
mod diagnostic;
mod config;
mod plan;
mod check;
mod report;
mod explain;
mod replay;
mod trace;
mod protocol;
mod client;
mod show;
#[cfg(feature = "dpdk")]
mod preflight;
#[cfg(feature = "dpdk")]
mod run;
#[cfg(feature = "dpdk")]
mod crew;
#[cfg(feature = "dpdk")]
mod daemon;
#[cfg(feature = "dpdk")]
mod signals;
#[cfg(feature = "dpdk")]
mod socket;
#[cfg(feature = "dpdk")]
mod reload;

use args::{Arguments, Command};
use clap::Parser;
use show::Form;
use std::path::Path;
use std::process::ExitCode;

/// Gives the memory of a replaced configuration back to the system, as `.cargo/config.toml` has it built. Workers allocate
/// nothing, and DPDK has memory of its own.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    match Arguments::parse().command {
        Command::Run { config } => run(&config),
        Command::Check { file, json } => check::command(&file, json),
        Command::Explain { file: Some(file), tunnel, json, .. } => {
            explain::command(&file, tunnel.as_deref(), json)
        }
        Command::Explain { file: None, json, .. } => explain::profiles(json),
        Command::Show { topic, json, hgrm, all, watch, daemon } => {
            let form = match (json, hgrm) {
                (true, _) => Form::Json,
                (_, true) => Form::Hgrm,
                _ => Form::People { all },
            };
            show::command(&daemon.socket, topic, form, watch)
        }
        Command::Reload { file, json, daemon } => show::reload(&daemon.socket, file.as_deref(), json),
        Command::Plan { file, json, daemon } => show::plan(&daemon.socket, &file, json),
        Command::Trace { question, config, captures, count, within, json, daemon } => {
            let extent = trace::Extent { count, within, as_json: json };
            match config {
                Some(config) => trace::captures(&config, &captures, &question, extent),
                None => trace::follow(&daemon.socket, question, extent),
            }
        }
        Command::Replay { config, captures, out } => replay::command(&config, &captures, &out),
    }
}

#[cfg(feature = "dpdk")]
fn run(config: &Path) -> ExitCode {
    run::command(config)
}

#[cfg(not(feature = "dpdk"))]
fn run(_: &Path) -> ExitCode {
    report::say(
        &"culvert: this build is without DPDK (expected cargo feature `dpdk`): it checks and replays only",
    );
    ExitCode::FAILURE
}
