//! The MSS of a SYN on its way through the box: the lowest limit of what it crosses.

use crate::frame::Frame;
use crate::stats::TunnelStats;
use crate::table::Tables;
use crate::tunnel::mss::{self, Clamps};
use crate::verdict::Ingress;
use std::net::IpAddr;

/// What a packet crosses on its way in and out, and who knows about it.
#[derive(Clone, Copy)]
pub(super) struct Crossing<'a> {
    pub(super) tables: &'a Tables,
    pub(super) stats: &'a TunnelStats,
    pub(super) from: Ingress,
    pub(super) to: Ingress,
}

/// A limit that was applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Lowered {
    /// What the option said.
    pub(super) from: u16,
    /// What it says.
    pub(super) to: u16,
    /// Whose limit it was.
    pub(super) by: Ingress,
    /// Whether that was crossed on the way out.
    pub(super) is_leaving: bool,
}

/// Lowers the MSS of the SYN whose TCP header begins at `syn` of `frame` to the lowest limit on its way. It counts for the
/// tunnel whose limit was the one applied.
pub(super) fn lower(
    crossing: Crossing<'_>,
    frame: &mut Frame<'_>,
    syn: usize,
    (source, destination): (IpAddr, IpAddr),
) -> Option<Lowered> {
    let Crossing { tables, stats, from, to } = crossing;
    let of = |clamps: Option<&Clamps>| clamps?.limit(source, destination);
    let arriving = match from {
        Ingress::Interface(id) => of(tables.interface(id).map(|interface| &interface.clamps_in)),
        Ingress::Tunnel(id) => of(tables.tunnel(id).map(|tunnel| &tunnel.treatment.clamps_in)),
    };
    let leaving = match to {
        Ingress::Interface(id) => of(tables.interface(id).map(|interface| &interface.clamps_out)),
        Ingress::Tunnel(id) => of(tables.tunnel(id).map(|tunnel| &tunnel.treatment.clamps_out)),
    };
    // Of equal ones the first, which is the one crossed first.
    let (limit, by, is_leaving) = match (arriving, leaving) {
        (Some(arriving), None) => (arriving, from, false),
        (Some(arriving), Some(leaving)) if arriving <= leaving => (arriving, from, false),
        (_, Some(leaving)) => (leaving, to, true),
        (None, None) => return None,
    };
    let was = mss::clamp(frame.bytes_mut(), syn, limit)?;
    if let Ingress::Tunnel(id) = by
        && let Some(counters) = tables.tunnel(id).and_then(|tunnel| stats.slot(tunnel.slot))
    {
        counters.mss_clamped.add(1);
    }
    Some(Lowered { from: was, to: limit, by, is_leaving })
}
