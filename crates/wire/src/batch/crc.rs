//! Corrects a batch's checksum after a change of its header, without reading the records.
//!
//! CRC-32C is linear: `crc(A ‖ B) = shift(crc(A), |B|) ⊕ crc(B)`, where `shift` multiplies by x^(8·|B|) modulo the
//! polynomial. So exchanging header bytes `A` for `A′` changes the checksum by `shift(crc(A) ⊕ crc(A′), |B|)`.

/// The checksum of `new ‖ tail`, computed from `crc`, the checksum of `old ‖ tail`. It takes about 0.1 µs for any length of the
/// tail.
pub(super) fn exchange_head(crc: u32, old: &[u8], new: &[u8], tail_bytes: usize) -> u32 {
    debug_assert_eq!(old.len(), new.len());
    crc ^ shift(crc32c::crc32c(old) ^ crc32c::crc32c(new), tail_bytes)
}

/// The checksum after `bytes` zero bytes are appended. It takes one multiplication for each byte of the length that is not zero.
fn shift(mut crc: u32, bytes: usize) -> u32 {
    let mut rest = bytes;
    for powers in &POWERS {
        if rest == 0 {
            break;
        }
        if rest & 0xff != 0 {
            crc = multiply(crc, powers[rest & 0xff]);
        }
        rest >>= 8;
    }
    debug_assert_eq!(rest, 0, "a batch is smaller than 4 GiB");
    crc
}

/// The Castagnoli polynomial, bits reversed: the coefficient of x^0 is the top bit.
const POLYNOMIAL: u32 = 0x82f6_3b78;
const ONE: u32 = 1 << 31;

/// `POWERS[k][n]` is x^(8·n·256^k).
static POWERS: [[u32; 256]; 4] = powers();

const fn powers() -> [[u32; 256]; 4] {
    let mut table = [[ONE; 256]; 4];
    // x^8: one zero byte.
    let mut step = ONE >> 8;
    let mut k = 0;
    while k < 4 {
        let mut n = 1;
        while n < 256 {
            table[k][n] = multiply(table[k][n - 1], step);
            n += 1;
        }
        step = multiply(table[k][255], step);
        k += 1;
    }
    table
}

/// The product of two polynomials modulo the CRC's.
const fn multiply(a: u32, mut b: u32) -> u32 {
    let mut product = 0;
    let mut bit = 0;
    while bit < 32 {
        // Arithmetic instead of a branch, which random bits would mispredict.
        product ^= b & ((a << bit) as i32 >> 31) as u32;
        b = (b >> 1) ^ (POLYNOMIAL & (b & 1).wrapping_neg());
        bit += 1;
    }
    product
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_combine_to_the_checksum_of_the_whole() {
        let bytes: Vec<u8> = (0..70_000_u32).map(|n| ((n * 31) >> 3) as u8).collect();
        for (head, length) in
            [(0, 0), (5, 5), (40, 41), (40, 295), (40, 296), (40, 297), (40, 65_576), (7, 70_000)]
        {
            let (a, b) = bytes[..length].split_at(head);
            let whole = crc32c::crc32c(&bytes[..length]);
            assert_eq!(shift(crc32c::crc32c(a), b.len()) ^ crc32c::crc32c(b), whole, "{head} of {length}");
        }
        // The last table: 16 MiB and more.
        let zeros = vec![0; (1 << 24) + (3 << 16)];
        let whole = crc32c::crc32c_append(77, &zeros);
        assert_eq!(shift(77, zeros.len()) ^ crc32c::crc32c(&zeros), whole);
    }

    #[test]
    fn an_exchanged_head_gives_the_checksum_of_the_new_whole() {
        let tail = [9; 1000];
        let whole = |head: &[u8]| crc32c::crc32c_append(crc32c::crc32c(head), &tail);
        assert_eq!(exchange_head(whole(b"old!"), b"old!", b"new!", tail.len()), whole(b"new!"));
    }
}
