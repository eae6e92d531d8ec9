//! What spreads the packets of a port over the workers, and why that.

use super::port::Rss;
use std::fmt;

/// What spreads packets over workers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spread {
    /// The device, by inner headers.
    Inner,
    /// The device, by outer headers.
    Outer,
    /// The workers that receive, by inner headers.
    Software,
    /// Nothing: a packet is forwarded by the worker that receives it.
    Off,
}

impl fmt::Display for Spread {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Spread::Inner => "inner",
            Spread::Outer => "outer",
            Spread::Software => "software",
            Spread::Off => "off",
        })
    }
}

/// What spreads the packets of a port, with the reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spreading {
    /// What does it.
    pub by: Spread,
    /// The reason, for people: a clause without a full stop.
    pub why: String,
}

impl Spreading {
    /// Fits what was asked for to what there is; `hashes_inner` says whether the device can hash inner headers. What it
    /// cannot do although it was asked to is refused elsewhere.
    pub(crate) fn choose(asked: Rss, workers: u16, queues: u16, hashes_inner: bool) -> Spreading {
        let counted = |count: u16, what: &str| format!("{count} {what}{}", if count == 1 { "" } else { "s" });
        let queues_are = counted(queues, "receive queue");
        let (by, why) = match asked {
            _ if workers == 1 => (Spread::Off, "there is one worker".to_owned()),
            Rss::Off => (Spread::Off, "the configuration says off".to_owned()),
            Rss::Auto if queues < workers => {
                (Spread::Software, format!("{queues_are} for {}", counted(workers, "worker")))
            }
            Rss::Auto if hashes_inner => {
                (Spread::Inner, format!("the device hashes inner headers over {queues_are}"))
            }
            Rss::Auto => (Spread::Software, "the device does not hash inner headers".to_owned()),
            Rss::Outer | Rss::Inner if queues == 1 => (Spread::Off, queues_are),
            Rss::Outer => (Spread::Outer, "the configuration says outer".to_owned()),
            Rss::Inner => (Spread::Inner, "the configuration says inner".to_owned()),
        };
        Spreading { by, why }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn auto_is_inner_where_the_device_can_else_software() {
        let cases = [
            ((Rss::Auto, 1, 1, false), Spread::Off, "one worker"),
            ((Rss::Auto, 1, 4, true), Spread::Off, "one worker"),
            ((Rss::Auto, 2, 2, true), Spread::Inner, "inner headers over 2 receive queues"),
            ((Rss::Auto, 4, 2, true), Spread::Software, "2 receive queues for 4 workers"),
            ((Rss::Auto, 2, 1, false), Spread::Software, "1 receive queue for 2 workers"),
            ((Rss::Auto, 2, 2, false), Spread::Software, "does not hash inner headers"),
            ((Rss::Outer, 2, 2, true), Spread::Outer, "says outer"),
            ((Rss::Outer, 2, 1, true), Spread::Off, "1 receive queue"),
            ((Rss::Inner, 2, 2, true), Spread::Inner, "says inner"),
            ((Rss::Off, 2, 1, false), Spread::Off, "says off"),
        ];
        for ((asked, workers, queues, hashes_inner), by, why) in cases {
            let found = Spreading::choose(asked, workers, queues, hashes_inner);
            assert_eq!(found.by, by, "{asked:?}, {workers} workers, {queues} queues");
            assert!(found.why.contains(why), "{}", found.why);
        }
    }
}
