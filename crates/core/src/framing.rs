//! The four bytes before every response. They give its size, or show that the peer speaks another protocol.

use std::fmt;
use std::sync::Arc;

use crate::{Cause, Failure, Obstacle};

/// Reads the size of a frame from its first four bytes.
///
/// ```
/// use milena_core::framing::{FramingError, frame_bytes};
///
/// assert_eq!(frame_bytes([0, 0, 1, 0], 1 << 20), Ok(256));
/// assert_eq!(frame_bytes(*b"HTTP", 1 << 20), Err(FramingError::Http));
/// ```
///
/// # Errors
/// When the size is above `limit`, or no Kafka broker would have sent these bytes. The connection cannot be read any further.
pub fn frame_bytes(head: [u8; 4], limit: usize) -> Result<usize, FramingError> {
    let size = i32::from_be_bytes(head);
    match usize::try_from(size) {
        // A response begins with a correlation id of four bytes.
        Ok(bytes) if bytes < 4 => Err(FramingError::TooShort(bytes)),
        Ok(bytes) if bytes <= limit => Ok(bytes),
        Ok(_) | Err(_) => Err(diagnose(head, size, limit)),
    }
}

/// Names the protocol that the bytes belong to. Read as a size, the first bytes of other protocols are far above any sensible
/// limit (a TLS alert is 352 MB, which Kafka's own client allocated, KAFKA-4493), so only sizes above the limit come here.
fn diagnose(head: [u8; 4], size: i32, limit: usize) -> FramingError {
    match head {
        // TLS records: content type (alert, handshake), version 3.x.
        [21 | 22, 3, 0..=4, _] => FramingError::Tls,
        [b'H', b'T', b'T', b'P'] => FramingError::Http,
        [b'S', b'S', b'H', b'-'] => FramingError::Ssh,
        _ if size < 0 => FramingError::Negative(size),
        _ => FramingError::TooLarge { announced: size as usize, limit },
    }
}

/// Why bytes are not the start of a response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FramingError {
    /// A TLS record: the listener wants TLS and this connection is in plain text.
    Tls,
    /// An HTTP answer.
    Http,
    /// An SSH banner.
    Ssh,
    /// A negative size.
    Negative(i32),
    /// A size that holds no correlation id.
    TooShort(usize),
    /// A size above the limit.
    TooLarge {
        /// What the peer announced.
        announced: usize,
        /// The most that is allowed.
        limit: usize,
    },
}

impl FramingError {
    /// What it means for the requests on the connection to `peer`, which `is_broker` if it has answered as a Kafka broker
    /// does.
    ///
    /// A size above the limit tells that the limit is low if the peer is a broker. The first answer is short, so a peer that
    /// announces such a size at the beginning speaks something else. A peer that speaks another protocol from the beginning
    /// is no broker that can be reached in plain text, and stays so until somebody changes the address or the settings.
    pub fn into_failure(self, peer: &Arc<str>, is_broker: bool) -> Failure {
        let peer = Arc::clone(peer);
        match self {
            Self::TooLarge { announced, limit } if is_broker => {
                Failure::OverLimit { peer, announced, limit, setting: "response_bytes_max" }
            }
            Self::Tls | Self::Http | Self::Ssh if !is_broker => {
                let cause = if self == Self::Tls { Cause::PeerIsTls } else { Cause::PeerIsForeign };
                let reason = self.to_string().into();
                Failure::Unreachable { peer, obstacle: Obstacle::Peer, cause: Some(cause), reason }
            }
            _ => Failure::Malformed { peer, reason: self.to_string().into() },
        }
    }
}

impl fmt::Display for FramingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tls => {
                f.write_str("the peer speaks TLS on this port, and the client was told to use plain text")
            }
            Self::Http => f.write_str("the peer speaks HTTP: this is not a Kafka port"),
            Self::Ssh => f.write_str("the peer speaks SSH: this is not a Kafka port"),
            Self::Negative(size) => {
                write!(f, "the peer announced a response of {size} bytes: it does not speak Kafka")
            }
            Self::TooShort(bytes) => {
                write!(f, "the peer announced a response of {bytes} bytes, which holds no correlation id")
            }
            Self::TooLarge { announced, limit } => write!(
                f,
                "the peer announced a first response of {announced} bytes, above the limit of {limit}: it does not \
                 speak Kafka"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;
    use crate::failure::Fault;

    #[test]
    fn names_what_the_peer_speaks() {
        let limit = 100 << 20;
        let check = |head: [u8; 4], expected| assert_eq!(frame_bytes(head, limit), expected, "{head:?}");
        check([0, 0, 0, 4], Ok(4));
        check((100i32 << 20).to_be_bytes(), Ok(limit));
        check([21, 3, 1, 0], Err(FramingError::Tls));
        check([21, 3, 3, 0], Err(FramingError::Tls));
        check([22, 3, 3, 0], Err(FramingError::Tls));
        check(*b"HTTP", Err(FramingError::Http));
        check(*b"SSH-", Err(FramingError::Ssh));
        check([0; 4], Err(FramingError::TooShort(0)));
        check([0xff; 4], Err(FramingError::Negative(-1)));
        check([0x7f, 0xff, 0xff, 0xff], Err(FramingError::TooLarge { announced: i32::MAX as usize, limit }));
    }

    #[test]
    fn our_own_limit_is_no_mistake_of_a_brokers() {
        let large = FramingError::TooLarge { announced: 2_000_000, limit: 1_000_000 };
        let check = |error: FramingError, is_broker, kind, fault, text: &str| {
            let failure = error.into_failure(&"b:1".into(), is_broker);
            assert_eq!((failure.kind(), failure.fault()), (kind, fault), "{failure}");
            assert!(failure.is_unusable() && failure.may_have_acted() && !failure.is_retriable());
            assert_eq!(failure.to_string(), text);
        };
        let text = "b:1 announced a response of 2000000 bytes, and response_bytes_max allows 1000000";
        check(large, true, ErrorKind::TooLarge, Fault::Caller, text);
        let text = "b:1 does not follow the Kafka protocol: the peer announced a first response of 2000000 bytes, above \
                    the limit of 1000000: it does not speak Kafka";
        check(large, false, ErrorKind::Protocol, Fault::Broker, text);
        let text = "b:1 does not follow the Kafka protocol: the peer announced a response of -1 bytes: it does not speak \
                    Kafka";
        check(FramingError::Negative(-1), true, ErrorKind::Protocol, Fault::Broker, text);
    }

    #[test]
    fn another_protocol_from_the_beginning_is_final() {
        let check = |error: FramingError, is_broker, is_final: bool| {
            let failure = error.into_failure(&"b:1".into(), is_broker);
            assert_eq!((failure.kind(), failure.fault()), (ErrorKind::Protocol, Fault::Broker), "{failure}");
            assert_eq!((failure.is_final(), failure.may_have_acted()), (is_final, !is_final), "{failure}");
        };
        for error in [FramingError::Tls, FramingError::Http, FramingError::Ssh] {
            check(error, false, true);
            // What a broker sends after its first answer is garbage, whatever it looks like.
            check(error, true, false);
        }
        check(FramingError::TooShort(0), false, false);
    }
}
