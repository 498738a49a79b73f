//! Any bytes as what a codec compressed. The first byte chooses the codec and the magic, two more the limit.

use milena_wire::codec::{Compression, Decompressor};

/// Nothing panics, neither content nor memory passes the limit, and memory used before shows nowhere.
pub(crate) fn run(data: &[u8]) {
    let Some(([choice, low, high], input)) = data.split_first_chunk() else { return };
    let compression = Compression::ALL[usize::from(choice % 5)];
    let magic = if choice & 0x80 == 0 { 2 } else { 0 };
    let limit = usize::from(u16::from_le_bytes([*low, *high])) * 4;
    let mut decompressor = Decompressor::new();

    let mut fresh = Vec::new();
    let result = decompressor.decompress(compression, magic, input, &mut fresh, limit);
    assert!(fresh.len() <= limit, "{} bytes for a limit of {limit}", fresh.len());
    assert!(fresh.capacity() <= limit.max(8), "{} bytes of memory for {limit}", fresh.capacity());
    if let Err(error) = &result {
        assert!(error.offset <= input.len(), "{error}: the input has {} bytes", input.len());
    }

    let mut used = vec![0xaa; 3000];
    let again = decompressor.decompress(compression, magic, input, &mut used, limit);
    assert_eq!(result, again, "the context remembers, or the buffer matters");
    if result.is_ok() {
        assert!(fresh == used, "the buffer's former content matters");
        let exact = fresh.len();
        decompressor.decompress(compression, magic, input, &mut used, exact).expect("holds what it held");
        if exact > 0 {
            let error = decompressor.decompress(compression, magic, input, &mut used, exact - 1);
            error.expect_err("holds less than it held");
        }
    }
}
