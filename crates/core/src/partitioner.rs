//! Chooses the partition of a record by its key, as Java's client does.

/// Java's murmur2 (seed `0x9747b28c`), as `org.apache.kafka.common.utils.Utils.murmur2` computes it.
///
/// Bench: `partitioner` in `bench/`.
pub fn murmur2(bytes: &[u8]) -> u32 {
    const MULTIPLIER: u32 = 0x5bd1_e995;
    const ROTATION: u32 = 24;
    let mut hash = 0x9747_b28c ^ bytes.len() as u32;
    let (words, rest) = bytes.as_chunks::<4>();
    for word in words {
        let mut mixed = u32::from_le_bytes(*word).wrapping_mul(MULTIPLIER);
        mixed ^= mixed >> ROTATION;
        hash = hash.wrapping_mul(MULTIPLIER) ^ mixed.wrapping_mul(MULTIPLIER);
    }
    if !rest.is_empty() {
        for (index, byte) in rest.iter().enumerate() {
            hash ^= u32::from(*byte) << (8 * index);
        }
        hash = hash.wrapping_mul(MULTIPLIER);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(MULTIPLIER);
    hash ^ (hash >> 15)
}

/// The partition of a record with this key in a topic of `count` partitions: Java's `toPositive(murmur2(key)) % count`. None
/// if there are no partitions.
///
/// ```
/// // The value Java's DefaultPartitioner gives.
/// assert_eq!(milena_core::partitioner::partition_for_key(b"abc", 1000), Some(107));
/// ```
pub fn partition_for_key(key: &[u8], count: u32) -> Option<u32> {
    (murmur2(key) & 0x7fff_ffff).checked_rem(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Expected values from Kafka's own `UtilsTest.testMurmur2`.
    #[test]
    fn hashes_as_java_does() {
        let check = |bytes: &[u8], expected: i32| assert_eq!(murmur2(bytes) as i32, expected, "{bytes:?}");
        check(b"21", -973_932_308);
        check(b"foobar", -790_332_482);
        check(b"a-little-bit-long-string", -985_981_536);
        check(b"a-little-bit-longer-string", -1_486_304_829);
        check(b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971);
        check(b"abc", 479_470_107);
    }

    #[test]
    fn a_topic_without_partitions_gets_none() {
        assert_eq!(partition_for_key(b"abc", 0), None);
    }
}
