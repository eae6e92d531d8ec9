//! What two specifications have in common, so that only the rest is put in words and compared key by key.

use forwarder::table::{InterfaceId, RouteSpec, RouteTarget, Spec, TunnelId};
use ipnet::IpNet;
use std::collections::HashMap;

/// Tunnels and routes that another specification has just the same, by position. Of a large file nearly all are, and they
/// are found much faster than they are put in words.
#[derive(Debug)]
pub(super) struct Same {
    pub(super) tunnels: Vec<bool>,
    pub(super) routes: Vec<bool>,
}

impl Same {
    /// Those of the old specification and those of the new one.
    pub(super) fn in_both(old: &Spec, new: &Spec) -> (Same, Same) {
        let none = |spec: &Spec| Same {
            tunnels: vec![false; spec.tunnels.len()],
            routes: vec![false; spec.routes.len()],
        };
        let (mut before, mut after) = (none(old), none(new));
        let by_name: HashMap<&str, usize> =
            old.tunnels.iter().enumerate().map(|(at, tunnel)| (tunnel.name.as_str(), at)).collect();
        for (tunnel, is_same) in new.tunnels.iter().zip(&mut after.tunnels) {
            let at = by_name.get(tunnel.name.as_str()).copied();
            let there = at.and_then(|at| Some((old.tunnels.get(at)?, before.tunnels.get_mut(at)?)));
            if let Some((_, was_same)) = there.filter(|(old, _)| *old == tunnel) {
                (*is_same, *was_same) = (true, true);
            }
        }
        let (old_runs, new_runs) = (by_prefix(old), by_prefix(new));
        let mut old_runs = old_runs.chunk_by(|a, b| a.0 == b.0).peekable();
        for run in new_runs.chunk_by(|a, b| a.0 == b.0) {
            let prefix = run.first().map(|route| route.0);
            while old_runs.next_if(|run| run.first().map(|route| route.0) < prefix).is_some() {}
            let Some(there) = old_runs.next_if(|run| run.first().map(|route| route.0) == prefix) else {
                continue;
            };
            let is_same = |(old_route, route): (&(IpNet, usize), &(IpNet, usize))| {
                same_route(old, old.routes.get(old_route.1), new, new.routes.get(route.1))
            };
            // Routes alike are numbered, so those of a prefix are the same together or not at all.
            if there.len() == run.len() && there.iter().zip(run).all(is_same) {
                mark(&mut before.routes, there);
                mark(&mut after.routes, run);
            }
        }
        (before, after)
    }
}

/// Routes by prefix, otherwise in the order of the file, with their positions.
fn by_prefix(spec: &Spec) -> Vec<(IpNet, usize)> {
    let mut routes: Vec<(IpNet, usize)> =
        spec.routes.iter().enumerate().map(|(at, route)| (route.prefix, at)).collect();
    routes.sort_by_key(|(prefix, _)| *prefix);
    routes
}

fn same_route(old: &Spec, old_route: Option<&RouteSpec>, new: &Spec, route: Option<&RouteSpec>) -> bool {
    let (Some(old_route), Some(route)) = (old_route, route) else { return false };
    let same_interface = |a: InterfaceId, b: InterfaceId| {
        interface(old, a).is_some() && interface(old, a) == interface(new, b)
    };
    let same_target = match (&old_route.target, &route.target) {
        (
            RouteTarget::Gateway { address: a, interface: on },
            RouteTarget::Gateway { address: b, interface: other },
        ) => a == b && same_interface(*on, *other),
        (RouteTarget::Interface(on), RouteTarget::Interface(other)) => same_interface(*on, *other),
        (RouteTarget::Tunnel(a), RouteTarget::Tunnel(b)) => {
            tunnel(old, *a).is_some() && tunnel(old, *a) == tunnel(new, *b)
        }
        _ => false,
    };
    same_target && (old_route.weight, old_route.priority) == (route.weight, route.priority)
}

fn mark(same: &mut [bool], routes: &[(IpNet, usize)]) {
    for (_, at) in routes {
        if let Some(is_same) = same.get_mut(*at) {
            *is_same = true;
        }
    }
}

/// An interface's name.
pub(super) fn interface(spec: &Spec, id: InterfaceId) -> Option<&str> {
    spec.interfaces.get(usize::from(id.0)).map(|interface| interface.name.as_str())
}

/// A tunnel's name.
pub(super) fn tunnel(spec: &Spec, id: TunnelId) -> Option<&str> {
    spec.tunnels.get(id.0 as usize).map(|tunnel| tunnel.name.as_str())
}
