//! DPDK behind types that own what they stand for.
//!
//! [`Eal`] is the started environment, [`Port`] an opened device, [`RxQueue`] and [`TxBuffer`] one worker's ends of it,
//! [`Burst`] the packets in that worker's hand. Beside `hint.rs` this is the only module with `unsafe` in it: one call
//! into C a block, each with the reason why it is sound. What keeps the pieces apart is ownership: pools live as long as
//! the [`Eal`], every piece holds the [`Eal`], and an mbuf is in exactly one [`Burst`], [`TxBuffer`] or device.

mod burst;
mod interrupts;
mod lane;
mod device;
mod eal;
mod error;
mod mbuf;
mod pool;
mod port;
mod spreading;
mod queue;
mod thread;

pub use burst::{Burst, Rewritten};
pub use eal::{Eal, EalOptions, Hugepages};
pub use error::DpdkError;
pub use interrupts::Interrupts;
pub use lane::{Exits, Lane, Place, TURN};
pub use port::{Link, Part, Port, PortOptions, PortStats, Queues, Rss, RxQueues};
pub use queue::{Flushed, RxQueue, TxBuffer};
pub use spreading::{Spread, Spreading};
pub use thread::Registration;
