//! Putting tunnel headers on and taking them off, and what happens to the packet on the way.

pub mod decap;
pub mod ecn;
pub mod encap;
pub mod flow;
pub mod layer;
pub mod mss;
