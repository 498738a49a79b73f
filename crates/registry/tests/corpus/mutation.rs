//! Inputs that are made of other ones, the same ones in every run.

/// A small generator, so that a run is the same everywhere (splitmix64).
pub(crate) struct Dice(u64);

impl Dice {
    /// The dice of one run: it can be repeated without the runs before it.
    pub(crate) fn of_run(seed: u64, run: u64) -> Self {
        let mut dice = Self(seed);
        let start = dice.next();
        Self(start ^ run.wrapping_mul(0xd134_2543_de82_ef95))
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn roll(&mut self, sides: usize) -> usize {
        (self.next() % sides.max(1) as u64) as usize
    }
}

/// Inputs are cut to this many bytes.
const BYTES_MAX: usize = 2048;

/// Numbers at which parsers go wrong: counts and lengths at their limits, as varints and as big-endian numbers.
const NUMBERS: &[&[u8]] = &[
    &[0],
    &[1],
    &[2],
    &[0x7f],
    &[0x80],
    &[0xff],
    &[0x80, 0x01],
    &[0xfe, 0xff, 0xff, 0xff, 0x0f],
    &[0xff, 0xff, 0xff, 0xff, 0x0f],
    &[0xff, 0xff, 0xff, 0xff, 0xff, 0x7f],
    &[0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01],
    &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01],
    &[0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x01],
    &[0, 0, 0, 0],
    &[0x7f, 0xff, 0xff, 0xff],
    &[0xff, 0xff, 0xff, 0xff],
    b"-1",
    b"0",
    b"2147483648",
    b"9223372036854775808",
    b"1e999",
    b"0.1",
];

/// Changes one of the inputs in a few places. `tokens` are words of the format.
pub(crate) fn mutated(dice: &mut Dice, inputs: &[Vec<u8>], tokens: &[&str]) -> Vec<u8> {
    let mut input = inputs[dice.roll(inputs.len())].clone();
    for _ in 0..=dice.roll(5) {
        let at = dice.roll(input.len() + 1);
        match dice.roll(10) {
            0 => with_byte(&mut input, at, |_| dice.roll(256) as u8),
            1 => with_byte(&mut input, at, |byte| byte ^ (1 << dice.roll(8))),
            2 => drop((at < input.len()).then(|| input.remove(at))),
            3 => input.insert(at, dice.roll(4) as u8),
            4 => input.truncate(at),
            5 => insert(&mut input, at, NUMBERS[dice.roll(NUMBERS.len())]),
            6 if !tokens.is_empty() => insert(&mut input, at, tokens[dice.roll(tokens.len())].as_bytes()),
            7 => {
                // Much of what is nested is its own repetition.
                let piece = piece(dice, &input);
                for _ in 0..=dice.roll(8) {
                    insert(&mut input, at, &piece);
                }
            }
            8 => drop(input.drain(at..(at + dice.roll(16)).min(input.len()))),
            _ => {
                let other = dice.roll(inputs.len());
                let piece = piece(dice, &inputs[other]);
                let end = (at + dice.roll(piece.len() + 1)).min(input.len());
                input.splice(at..end, piece);
            }
        }
        input.truncate(BYTES_MAX);
    }
    input
}

fn with_byte(input: &mut [u8], at: usize, change: impl FnOnce(u8) -> u8) {
    if let Some(byte) = input.get_mut(at) {
        *byte = change(*byte);
    }
}

fn insert(input: &mut Vec<u8>, at: usize, piece: &[u8]) {
    input.splice(at..at, piece.iter().copied());
}

fn piece(dice: &mut Dice, of: &[u8]) -> Vec<u8> {
    let begin = dice.roll(of.len() + 1);
    let end = (begin + dice.roll(48)).min(of.len());
    of[begin..end].to_vec()
}
