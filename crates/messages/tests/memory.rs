//! What decoding holds follows the bytes that arrived, never what they announce.

use allocation_counter::measure;
use bytes::Bytes;
use milena_messages::list_groups::{ListGroupsResponse, ListedGroup};
use milena_messages::{Message, for_each_message};
use milena_wire::{Reader, Writer};

/// The most that a byte on the wire becomes in memory: a group in ListGroups takes 152 bytes here and at least 3 there,
/// and while an array grows it is there twice.
const BYTES_PER_BYTE: usize = 2 * 152 / 3;

/// Decodes, watching how much memory is held at a time; whether it was a message.
fn check<M: Message>(content: Vec<u8>, version: i16) -> bool {
    let content = Bytes::from(content);
    let mut is_message = false;
    let held = measure(|| is_message = M::decode(&mut Reader::new(&content), version).is_ok());
    let limit = (BYTES_PER_BYTE * content.len()) as u64;
    assert!(held.bytes_max <= limit, "{} {version}: {} bytes for {}", M::NAME, held.bytes_max, content.len());
    is_message
}

/// All bytes alike: every length field announces what `byte` makes of it.
fn announce<M: Message>() {
    for version in M::VERSIONS {
        for byte in [0x00, 0x01, 0x02, 0x7f, 0xff] {
            for length in [64, 10_000] {
                check::<M>(vec![byte; length], version);
            }
        }
        // A large count first, then nothing that an element could be made of.
        let counts: [&[u8]; 3] = [&[0, 0, 0x20, 0], &[0xff, 0x40], &[0, 0, 0, 0, 0, 0, 0x20, 0]];
        for count in counts {
            check::<M>([count, &[0xff; 10_000]].concat(), version);
        }
    }
}

#[test]
fn memory_follows_the_bytes_that_arrived() {
    macro_rules! announce_all {
        ($($message:path,)*) => { $(announce::<$message>();)* };
    }
    for_each_message!(announce_all);

    // The densest message there is: it decodes, and still stays below the limit.
    let groups = vec![ListedGroup::default(); 100_000];
    let mut writer = Writer::new();
    let response = ListGroupsResponse { groups, ..Default::default() };
    response.encode(&mut writer, 3).expect("encodes");
    let content = writer.finish().to_vec();
    assert!(content.len() < 301_000);
    assert!(check::<ListGroupsResponse>(content, 3), "decodes");
}
