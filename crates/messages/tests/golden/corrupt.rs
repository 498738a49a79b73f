//! Broken bytes: an error or another message, never a panic.

use bytes::Bytes;

use crate::codec::Codec;
use crate::file;

/// Rounds over the whole golden file.
const ROUNDS: u64 = 8;

#[test]
fn broken_bytes_are_an_error_or_another_message() {
    let (mut errors, mut others) = (0, 0);
    for round in 0..ROUNDS {
        for entry in file::entries() {
            let mut random = Random(round << 32 | entry.number as u64);
            let broken = broken(&entry.content, &mut random);
            // `recode` fails the test when what it decoded does not survive being written.
            match Codec::of(&entry.name).recode(&broken, entry.version, entry.version) {
                Ok(_) => others += 1,
                Err(_) => errors += 1,
            }
        }
    }
    assert!(errors > 1000 && others > 1000, "{errors} errors, {others} other messages");
}

#[test]
fn noise_is_an_error_or_a_message() {
    for (number, codec) in Codec::all().iter().enumerate() {
        for version in codec.versions.clone() {
            let mut random = Random((number as u64) << 32 | version as u64);
            for length in [0, 1, 7, 64, 300] {
                let noise: Vec<u8> = (0..length).map(|_| random.next() as u8).collect();
                let _ = codec.recode(&noise.into(), version, version);
            }
        }
    }
}

/// Changes a few bytes; half the time to those that lengths are made of.
fn broken(content: &Bytes, random: &mut Random) -> Bytes {
    const EDGES: [u8; 6] = [0, 1, 2, 0x7f, 0x80, 0xff];
    let mut content = content.to_vec();
    if content.is_empty() {
        return vec![0].into();
    }
    for _ in 0..1 + random.next() % 3 {
        let at = random.next() as usize % content.len();
        let value = random.next();
        content[at] =
            if value & 1 == 0 { EDGES[value as usize / 2 % EDGES.len()] } else { (value >> 8) as u8 };
    }
    content.into()
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}
