//! Putting tunnel headers on and taking them off, and what happens to the packet on the way.

pub mod decap;
pub mod keepalive;
pub mod encap;
pub mod layer;
pub(crate) mod payload;
pub mod flow;
pub mod identification;
pub mod ecn;
pub mod mss;
