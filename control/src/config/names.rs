//! The one name space of ports, VLANs and tunnels: keys such as `on` refer to any of them, and files are named after them.

use super::document::{Findings, nearest};
use super::source::Source;
use super::value::{Value, quoted};
use forwarder::table::{InterfaceId, TunnelId};
use std::collections::{HashMap, HashSet};

/// The longest name in bytes: it becomes part of file names.
const MAX_NAME: usize = 64;

/// Errors after which names are no longer compared for likeness; a large file may have as many as it has lines.
const ENOUGH: usize = 100;

/// What a name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Named {
    Interface(InterfaceId),
    Tunnel(TunnelId),
}

/// Every name with what it stands for and where it was given.
#[derive(Debug, Default)]
pub(super) struct Names {
    by_name: HashMap<String, (Named, usize)>,
    /// Names that several have; what they refer to is not worth a second finding.
    clashing: HashSet<String>,
}

impl Names {
    /// Makes room for so many more names.
    pub(super) fn reserve(&mut self, count: usize) {
        self.by_name.reserve(count);
    }

    /// Reads an item's own name, which no other may have.
    pub(super) fn declare(
        &mut self,
        value: Option<Value<'_>>,
        named: Named,
        source: &Source,
        findings: &mut Findings,
    ) -> String {
        let Some(value) = value else { return String::new() };
        let Some(name) = value.string(findings) else { return String::new() };
        let is_plain = |character: char| character.is_alphanumeric() || "._-".contains(character);
        let starts_well = name.starts_with(|first: char| first.is_alphanumeric() || first == '_');
        if !starts_well || !name.chars().all(is_plain) || name.len() > MAX_NAME {
            let expected = format!(
                "1 to {MAX_NAME} bytes of letters, digits, \"_\", \"-\" and \".\", the first no \"-\" or \".\""
            );
            value.wrong(&expected, findings);
        }
        // Ports are read before tunnels, wherever they stand in the file.
        if let Some((_, other)) = self.by_name.get(name) {
            let (first, second) = (value.at().min(*other), value.at().max(*other));
            let message = format!(
                "the name {} is taken by line {} (expected a name of its own; ports, VLANs and tunnels share one name \
                 space)",
                quoted(name),
                source.line(first)
            );
            findings.error(second, message);
            self.clashing.insert(name.to_owned());
        } else {
            self.by_name.insert(name.to_owned(), (named, value.at()));
        }
        name.to_owned()
    }

    /// The interface that a value names.
    pub(super) fn interface(&self, value: Value<'_>, findings: &mut Findings) -> Option<InterfaceId> {
        let is_interface = |named: &Named| matches!(named, Named::Interface(_));
        match self.find(value, "the name of a port or VLAN", is_interface, findings)? {
            Named::Interface(id) => Some(id),
            Named::Tunnel(_) => None,
        }
    }

    /// The tunnel that a value names.
    pub(super) fn tunnel(&self, value: Value<'_>, findings: &mut Findings) -> Option<TunnelId> {
        let is_tunnel = |named: &Named| matches!(named, Named::Tunnel(_));
        match self.find(value, "the name of a tunnel", is_tunnel, findings)? {
            Named::Tunnel(id) => Some(id),
            Named::Interface(_) => None,
        }
    }

    /// Whatever a value names.
    pub(super) fn any(&self, value: Value<'_>, findings: &mut Findings) -> Option<Named> {
        self.find(value, "the name of a port, VLAN or tunnel", |_| true, findings)
    }

    fn find(
        &self,
        value: Value<'_>,
        expected: &str,
        fits: impl Fn(&Named) -> bool,
        findings: &mut Findings,
    ) -> Option<Named> {
        let name = value.string(findings)?;
        match self.by_name.get(name) {
            Some((named, _)) if fits(named) => return Some(*named),
            Some(_) if self.clashing.contains(name) => return None,
            Some((named, _)) => {
                let what = match named {
                    Named::Interface(_) => "a port or VLAN",
                    Named::Tunnel(_) => "a tunnel",
                };
                let message = format!("{} is {what} (expected {expected})", quoted(name));
                findings.error(value.at(), message);
                return None;
            }
            None => {}
        }
        let mut known: Vec<&str> = match findings.errors() < ENOUGH {
            true => self
                .by_name
                .iter()
                .filter(|(_, (named, _))| fits(named))
                .map(|(name, _)| name.as_str())
                .collect(),
            false => Vec::new(),
        };
        known.sort_unstable();
        let message = match nearest(name, known.into_iter()) {
            Some(nearest) => {
                format!("unknown name {} (expected {expected}, the nearest is \"{nearest}\")", quoted(name))
            }
            None => format!("unknown name {} (expected {expected})", quoted(name)),
        };
        findings.error(value.at(), message).absence();
        None
    }
}
