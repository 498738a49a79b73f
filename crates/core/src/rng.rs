//! Seeded randomness, passed in: the same seed makes the same decisions.

use std::time::Duration;

/// SplitMix64: small, fast and good enough to spread retries and sticky partitions. Nothing secret comes from it.
#[derive(Debug, Clone)]
pub struct Rng(u64);

impl Rng {
    /// A generator whose numbers all follow from `seed`.
    pub fn seeded(seed: u64) -> Self {
        Self(seed)
    }

    /// The next 64 random bits.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    }

    /// A number below `bound`; zero when `bound` is zero.
    pub fn below(&mut self, bound: u32) -> u32 {
        // Multiply and shift; the bias is under 2⁻³².
        ((u128::from(self.next_u64()) * u128::from(bound)) >> 64) as u32
    }

    /// `duration` times a factor between 0.8 and 1.2, so that clients that failed at the same time do not all try again at
    /// the same time.
    pub fn jitter(&mut self, duration: Duration) -> Duration {
        let thousandths = 800 + self.below(401);
        duration.saturating_mul(thousandths) / 1000
    }
}
