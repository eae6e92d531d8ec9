//! culvert's data plane.

pub mod frame;
pub mod table;
pub mod verdict;
pub mod forward;
pub mod publish;
pub mod stats;
pub mod hint;
#[cfg(feature = "dpdk")]
pub mod dpdk;
#[cfg(feature = "dpdk")]
pub mod worker;
