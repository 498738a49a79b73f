//! Numbers that must not be swapped for each other.

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
    /// Pairs a response with its request on one connection.
    CorrelationId(i32)
}
number! {
    /// Counts the leaders a partition has had; a higher one knows better.
    LeaderEpoch(i32)
}
number! {
    /// What the broker knows an idempotent producer by.
    ProducerId(i64)
}

/// A producer id and its epoch: sequences count within the pair (KIP-98).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProducerIdentity {
    /// The id.
    pub id: ProducerId,
    /// Its epoch. A higher one starts all sequences at zero and shuts late copies of the lower one out (KIP-360).
    pub epoch: i16,
}
