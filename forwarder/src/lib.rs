//! culvert's data plane: packets in, tunnels off or on, packets out.
//!
//! # A packet's journey
//!
//! A worker ([`worker`]) takes a burst of packets from a port. Each is a [`frame::Frame`]: a slice of memory and two
//! offsets, whether it lies in an mbuf, in a capture file or in a test. [`forward`] is where it is decided on. It reads
//! headers through [`wire`], one file for each; it takes tunnel headers off and puts them on with [`tunnel`]; all that it
//! knows stands in [`table::Tables`], which the control thread compiled from a [`table::Spec`] and handed over through
//! [`publish`]. What comes out is a [`verdict::Verdict`]: send it by this port, it is the host's, or it is dropped, and
//! then for exactly one reason. The worker does what the verdict says, counts in [`stats`], and takes the next burst.
//!
//! Where a device cannot give the flows of one tunnel to several workers, these take turns at its receive queue and send in
//! the order in which they received.
//!
//! One packet may wait: a fragment for a tunnel that puts fragments together, of which [`reassembly`] keeps the bytes until
//! the last one missing goes on as the whole.
//!
//! Everything up to there is pure: no `unsafe`, no device, no clock. Devices begin in [`dpdk`], behind the one feature
//! of this crate, and `unsafe` is found there and in [`hint`] only.

#![cfg_attr(not(feature = "dpdk"), allow(rustdoc::broken_intra_doc_links))]

pub mod frame;
pub mod wire;
pub mod tunnel;
pub mod table;
pub mod verdict;
pub mod forward;
pub mod trace;
pub mod scope;
pub mod originate;
pub mod echo;
pub mod icmp_error;
pub mod fragment;
pub mod tap;
pub mod reassembly;
pub mod publish;
pub mod stats;
#[cfg(feature = "dpdk")]
mod bell;
#[cfg(feature = "dpdk")]
pub mod worker;
#[cfg(feature = "dpdk")]
pub mod dpdk;
pub mod hint;
