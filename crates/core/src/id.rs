//! Ids and epochs as types of their own, so that one cannot be passed for another.

use std::fmt;

macro_rules! number {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }

        impl $name {
            /// The number, or none for the −1 that means "none" on the wire.
            pub fn known(number: $inner) -> Option<Self> {
                (number >= 0).then_some(Self(number))
            }
        }
    };
}

number! {
    /// A broker's node id.
    BrokerId(i32)
}
number! {
    /// Tells which request on a connection a response answers.
    CorrelationId(i32)
}
number! {
    /// Counts the leaders a partition has had. Of two answers about its leader, the one with the higher epoch is newer.
    LeaderEpoch(i32)
}
number! {
    /// The id that a broker gives to an idempotent producer.
    ProducerId(i64)
}

/// A producer id and its epoch. Sequences count within the pair (KIP-98).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProducerIdentity {
    /// The id.
    pub id: ProducerId,
    /// Its epoch. A higher epoch starts all sequences at zero, and brokers then refuse late batches of the lower one (KIP-360).
    pub epoch: i16,
}
