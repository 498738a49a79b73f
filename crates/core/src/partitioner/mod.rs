//! Chooses the partition of a record: by the hash of its key, as other clients do, or where there is room ([`Spread`]).

mod spread;

pub use self::spread::{Spread, SpreadSettings};

/// How a key becomes a number. Producers agree about a key's partition if they use the same one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum KeyHash {
    /// Java's: murmur2 without its sign bit. Also librdkafka's `murmur2` and `murmur2_random`, and franz-go's.
    #[default]
    Murmur2,
    /// librdkafka's `consistent` and `consistent_random`: CRC-32 as in zip files.
    Crc32,
    /// librdkafka's `fnv1a` and `fnv1a_random`, and sarama's `NewHashPartitioner`: 32-bit FNV-1a as a signed number, and the
    /// absolute value of the remainder.
    Fnv1a,
    /// sarama's `NewReferenceHashPartitioner`: 32-bit FNV-1a without its sign bit.
    Fnv1aReference,
}

impl KeyHash {
    /// The partition of a record with this key in a topic of `count` partitions. None if there are no partitions.
    ///
    /// ```
    /// use milena_core::partitioner::KeyHash;
    ///
    /// // The value Java's client gives.
    /// assert_eq!(KeyHash::Murmur2.partition(b"abc", 1000), Some(107));
    /// ```
    #[inline]
    pub fn partition(self, key: &[u8], count: u32) -> Option<u32> {
        const SIGN: u32 = 1 << 31;
        match self {
            Self::Murmur2 => (murmur2(key) & !SIGN).checked_rem(count),
            Self::Crc32 => crc32(key).checked_rem(count),
            // Both take the sign away, librdkafka before the division and sarama after it. That comes to the same.
            Self::Fnv1a => fnv1a(key).cast_signed().unsigned_abs().checked_rem(count),
            Self::Fnv1aReference => (fnv1a(key) & !SIGN).checked_rem(count),
        }
    }
}

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

/// CRC-32 (polynomial `0xedb88320`), a byte at a time: keys are short.
fn crc32(bytes: &[u8]) -> u32 {
    const TABLE: [u32; 256] = {
        let mut table = [0; 256];
        let mut index = 0;
        while index < table.len() {
            let (mut entry, mut bit) = (index as u32, 0);
            while bit < 8 {
                entry = if entry & 1 == 1 { (entry >> 1) ^ 0xedb8_8320 } else { entry >> 1 };
                bit += 1;
            }
            table[index] = entry;
            index += 1;
        }
        table
    };
    !bytes.iter().fold(u32::MAX, |crc, byte| (crc >> 8) ^ TABLE[(crc as u8 ^ byte) as usize])
}

fn fnv1a(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
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
    fn keys_go_where_other_clients_put_them() {
        let lines = include_str!("vectors.tsv").lines().filter(|line| !line.starts_with('#'));
        let mut checked = std::collections::BTreeMap::new();
        for line in lines {
            let fields: Vec<_> = line.split('\t').collect();
            let [name, key, count, partition] = *fields else { panic!("{line:?}") };
            let hash = match name {
                "java" | "murmur2" | "franz" => KeyHash::Murmur2,
                "consistent" => KeyHash::Crc32,
                "fnv1a" | "sarama" => KeyHash::Fnv1a,
                "sarama_reference" => KeyHash::Fnv1aReference,
                other => panic!("{other}"),
            };
            let digits = key.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).expect("ASCII"));
            let key: Vec<_> = digits.map(|pair| u8::from_str_radix(pair, 16).expect("hex")).collect();
            let chosen = hash.partition(&key, count.parse().expect("a count"));
            assert_eq!(chosen, Some(partition.parse().expect("a partition")), "{line}");
            *checked.entry(name).or_insert(0) += 1;
        }
        assert_eq!(checked.len(), 7, "{checked:?}");
        assert!(checked.values().all(|count| *count > 200), "{checked:?}");
    }

    #[test]
    fn a_topic_without_partitions_gets_none() {
        for hash in [KeyHash::Murmur2, KeyHash::Crc32, KeyHash::Fnv1a, KeyHash::Fnv1aReference] {
            assert_eq!(hash.partition(b"abc", 0), None);
        }
    }
}
