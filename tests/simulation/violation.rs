//! What a simulation finds: the name of an invariant, and how it was broken.

use std::fmt;

/// The invariants by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Invariant {
    OneOrder,
    /// And *held once*, which two addresses of one broadcast break as well.
    EncodeOnce,
    NoWaitingOnTheSlow,
    TerminalCompletion,
    OneLeave,
    /// A look-up of a user leads to the connection of that user, or nowhere.
    OnePlace,
    EverythingBounded,
    DurableBeforeAcknowledged,
    NoIdTwice,
    /// A shard that has something to do does not sleep.
    NoLostWakeUp,
    /// What the wire protocol promises beyond the others.
    Protocol,
    /// A shutdown closes nobody before whatever a sender was told is sent has arrived.
    Settled,
    /// After everyone has gone, nothing is left of anyone.
    NothingLeft,
    /// The server's own assertions.
    NoPanic,
}

impl fmt::Display for Invariant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::OneOrder => "one order",
            Self::EncodeOnce => "encode once, held once",
            Self::NoWaitingOnTheSlow => "no waiting on the slow",
            Self::TerminalCompletion => "terminal completion",
            Self::OneLeave => "one leave",
            Self::OnePlace => "one place",
            Self::EverythingBounded => "everything bounded",
            Self::DurableBeforeAcknowledged => "durable before acknowledged",
            Self::NoIdTwice => "no id twice",
            Self::NoLostWakeUp => "no lost wake-up",
            Self::Protocol => "protocol",
            Self::Settled => "settled before closed",
            Self::NothingLeft => "nothing left",
            Self::NoPanic => "no panic",
        })
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Violation {
    pub(crate) invariant: Invariant,
    pub(crate) detail: String,
}

pub(crate) type Checked<T = ()> = Result<T, Violation>;

/// Returns a [`Violation`] from the calling function unless the condition holds.
macro_rules! ensure {
    ($invariant:ident, $condition:expr, $($detail:tt)+) => {
        if !$condition {
            return Err($crate::violation::Violation {
                invariant: $crate::violation::Invariant::$invariant,
                detail: format!($($detail)+),
            });
        }
    };
}

/// Returns a [`Violation`] from the calling function.
macro_rules! violated {
    ($invariant:ident, $($detail:tt)+) => {
        return Err($crate::violation::Violation {
            invariant: $crate::violation::Invariant::$invariant,
            detail: format!($($detail)+),
        })
    };
}

pub(crate) use {ensure, violated};
