//! culvert's data plane.

pub mod frame;
pub mod table;
pub mod verdict;
pub mod forward;
pub mod publish;
pub mod stats;
