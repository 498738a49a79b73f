//! All message types behind one interface.

use std::collections::HashMap;
use std::fmt::Debug;
use std::ops::RangeInclusive;
use std::sync::LazyLock;

use bytes::Bytes;
use milena_messages::{Message, for_each_message};
use milena_wire::{DecodeError, EncodeError, Reader, Writer};

/// A decoded message, written at another version.
pub(crate) type Recoded = Result<Result<Vec<u8>, EncodeError>, DecodeError>;

/// What can be done with a message type.
pub(crate) struct Codec {
    pub(crate) name: &'static str,
    pub(crate) versions: RangeInclusive<i16>,
    /// The default message, written.
    pub(crate) defaults: fn(i16) -> Result<Vec<u8>, EncodeError>,
    recode: fn(&Bytes, i16, i16) -> Recoded,
}

static ALL: LazyLock<Vec<Codec>> = LazyLock::new(|| {
    macro_rules! codecs {
        ($($message:path,)*) => { vec![$(Codec::new::<$message>()),*] };
    }
    for_each_message!(codecs)
});

static BY_NAME: LazyLock<HashMap<&'static str, &'static Codec>> =
    LazyLock::new(|| ALL.iter().map(|codec| (codec.name, codec)).collect());

impl Codec {
    pub(crate) fn all() -> &'static [Self] {
        &ALL
    }

    pub(crate) fn of(name: &str) -> &'static Self {
        BY_NAME.get(name).unwrap_or_else(|| panic!("no message {name}"))
    }

    fn new<M: Message + Debug>() -> Self {
        Self {
            name: M::NAME,
            versions: M::VERSIONS,
            defaults: |version| encode(&M::default(), version),
            recode: recode::<M>,
        }
    }

    /// Decodes all of `content` at one version and encodes it at another.
    ///
    /// Panics when what was decoded does not survive its own version.
    pub(crate) fn recode(&self, content: &Bytes, from: i16, to: i16) -> Recoded {
        (self.recode)(content, from, to)
    }
}

fn recode<M: Message + Debug>(content: &Bytes, from: i16, to: i16) -> Recoded {
    let message: M = decode(content, from)?;
    let again = encode(&message, from).unwrap_or_else(|error| panic!("{error}: {message:?}"));
    // Bytes, not values, are compared: a NaN differs from itself.
    let read_again: M = decode(&again.clone().into(), from).expect("what we write we can read");
    assert_eq!(encode(&read_again, from).as_ref(), Ok(&again));
    Ok(encode(&message, to))
}

fn decode<M: Message>(content: &Bytes, version: i16) -> Result<M, DecodeError> {
    let mut reader = Reader::new(content);
    let message = M::decode(&mut reader, version)?;
    reader.finish(M::NAME)?;
    Ok(message)
}

fn encode<M: Message>(message: &M, version: i16) -> Result<Vec<u8>, EncodeError> {
    let mut writer = Writer::new();
    message.encode(&mut writer, version)?;
    Ok(writer.finish().to_vec())
}
