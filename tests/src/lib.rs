//! Helpers of the tests that look at culvert from outside: they know its command line, its configuration and its
//! numbers, and none of its code.
//!
//! [`capture`] reads packets, [`headers`] takes them apart and checks every checksum with arithmetic of its own,
//! [`binary`] finds the program and runs it, [`counters`] reads what it counted, [`namespace`] makes the little
//! networks in which it runs, [`rows`] finds the golden rows, [`mutate`] changes packets with numbers from [`random`], [`tree`] knows
//! which tests there are.

// What a helper of a test cannot do ends the test; there is nothing to recover.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

pub mod binary;
pub mod capture;
pub mod counters;
pub mod headers;
pub mod mutate;
pub mod namespace;
pub mod random;
pub mod rows;
pub mod tree;
