//! `culvert explain`: for each tunnel the bytes that it sends, its MTU and MSS, and the line behind each of them.
//!
//! Nothing is worked out a second time: [`stack`] has the forwarder put its compiled headers in front of packets and
//! takes them apart by [`field`]; [`origin`] says which line decides a field; [`limits`] retraces MTU and MSS. Then
//! [`people`] or [`mod@json`] writes it down.

mod field;
mod stack;
mod origin;
mod limits;
mod people;
mod json;

use crate::config::{self, Config, PROFILES, nearest};
use crate::report;
use forwarder::stats::TunnelStats;
use forwarder::table::{Encap, Item, Remote, Spec, Tables, TunnelId, TunnelSpec, UdpKind};
use forwarder::verdict::DropReason;
use limits::{Limits, Paths};
use origin::Origins;
use serde_json::Value;
use stack::Header;
use std::path::Path;
use std::process::ExitCode;

/// Everything about one tunnel.
#[derive(Clone, Debug)]
struct Explanation {
    name: String,
    /// The line in which it begins.
    line: usize,
    /// Whole stacks, one for each way to the remote end.
    ways: Vec<Vec<Header>>,
    /// Why the tunnel, or some way of it, cannot send.
    cannot_send: Vec<String>,
    /// What is taken, of a tunnel that only receives.
    accepts: Option<String>,
    overhead: u16,
    limits: Limits,
}

/// Explains the tunnels of the file at `path`, or the one that has this name: to people, or as JSON.
pub(crate) fn command(path: &Path, name: Option<&str>, as_json: bool) -> ExitCode {
    let Some((config, spec, tables)) = config::compiled(path) else { return ExitCode::FAILURE };
    if let Some(name) = name.filter(|name| spec.tunnels.iter().all(|tunnel| tunnel.name != *name)) {
        let names = spec.tunnels.iter().map(|tunnel| tunnel.name.as_str());
        let hint = nearest(name, names).map(|nearest| format!(", the nearest is \"{nearest}\""));
        report::say(&format_args!(
            "culvert: no tunnel \"{name}\" in {} (expected the name of one{})",
            config.file(),
            hint.unwrap_or_default()
        ));
        return ExitCode::from(2);
    }
    match explain(&config, &spec, &tables, name) {
        Ok(tunnels) if as_json => {
            let array: Value = tunnels.iter().map(|tunnel| json::tunnel(tunnel, config.file())).collect();
            report::print(&format!("{array:#}\n"))
        }
        Ok(tunnels) if tunnels.is_empty() => report::print(&format!("{}: no tunnels\n", config.file())),
        Ok(tunnels) => {
            let texts: Vec<String> =
                tunnels.iter().map(|tunnel| people::tunnel(tunnel, config.file())).collect();
            report::print(&texts.join("\n"))
        }
        Err(reason) => {
            report::say(&format_args!("culvert: the forwarding code refused a stack: {}", reason.help()));
            ExitCode::FAILURE
        }
    }
}

/// Lists the named profiles.
pub(crate) fn profiles(as_json: bool) -> ExitCode {
    match as_json {
        true => report::print(&format!("{:#}\n", json::profiles(&PROFILES))),
        false => report::print(&people::profiles(&PROFILES)),
    }
}

fn explain(
    config: &Config,
    spec: &Spec,
    tables: &Tables,
    name: Option<&str>,
) -> Result<Vec<Explanation>, DropReason> {
    let origins = Origins::new(config, spec);
    let paths = Paths { config, spec, tables };
    let mut stats = TunnelStats::default();
    stats.grow(origins.slots());
    let mut tunnels = Vec::new();
    for ((id, tunnel), summary) in (0..).map(TunnelId).zip(&spec.tunnels).zip(tables.summaries()) {
        if name.is_some_and(|name| tunnel.name != name) {
            continue;
        }
        let mut ways = Vec::new();
        let mut cannot_send = Vec::new();
        let accepts = accepts(tunnel);
        let exits = tables.tunnel(id).filter(|_| accepts.is_none()).map(|compiled| &compiled.exits);
        for exit in exits.into_iter().flat_map(|exits| exits.iter()) {
            match exit {
                Ok(image) => {
                    let image = tables.image(*image).ok_or(DropReason::NoRoute)?;
                    ways.push(stack::headers(image, &stats, &origins)?);
                }
                Err(reason) => cannot_send.push(why(*reason, tunnel, config, id)),
            }
        }
        tunnels.push(Explanation {
            name: tunnel.name.clone(),
            line: config.origin(Item::Tunnel(id), "").line,
            ways,
            cannot_send,
            accepts,
            overhead: summary.overhead,
            limits: paths.limits(id, tunnel, *summary),
        });
    }
    Ok(tunnels)
}

/// Why a way ends before the wire.
fn why(reason: DropReason, tunnel: &TunnelSpec, config: &Config, id: TunnelId) -> String {
    let place = format!("{}:{}", config.file(), config.origin(Item::Tunnel(id), "remote").line);
    let remote = match tunnel.remote {
        Remote::One(remote) => remote.to_string(),
        Remote::Senders(_) => "its remote end".to_owned(),
    };
    match reason {
        DropReason::NoRoute => format!(
            "no route leads to {remote} ({place}) or to the remote end of a tunnel on the way there (expected a \
             [[route]] or connected network that holds it)"
        ),
        DropReason::NeighborUnknown => format!(
            "the next hop on the way to {remote} ({place}) has no [[neighbor]] (expected one, with its interface, \
             address and mac)"
        ),
        other => format!("on the way to {remote} ({place}): {}", other.help()),
    }
}

/// What a tunnel takes that only receives.
fn accepts(tunnel: &TunnelSpec) -> Option<String> {
    let Remote::Senders(senders) = &tunnel.remote else { return None };
    let mut what = match (tunnel.encap, tunnel.key) {
        (Encap::Ip, _) => "IP".to_owned(),
        (Encap::Gre, None) => "GRE without a key".to_owned(),
        (Encap::Gre, Some(key)) => format!("GRE with key {key}"),
    };
    if let Some(udp) = tunnel.udp {
        let kind = match udp.kind {
            UdpKind::Fou => "FOU",
            UdpKind::Gue => "GUE variant 0",
            UdpKind::Gue1 => "GUE variant 1",
            UdpKind::GreInUdp => "UDP (RFC 8086)",
        };
        what = format!("{what} in {kind} for port {}", udp.port);
    }
    let senders: Vec<String> = senders
        .iter()
        .map(|sender| match sender.prefix_len() {
            0 => "any sender".to_owned(),
            len if len == sender.max_prefix_len() => sender.addr().to_string(),
            _ => sender.to_string(),
        })
        .collect();
    Some(format!("{what}, sent to {} by {}", tunnel.local, senders.join(", ")))
}
