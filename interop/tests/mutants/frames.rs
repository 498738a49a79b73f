//! Frames of the codecs, made by hand so that each detail can be chosen. Their content is stored, not compressed.

/// The details of an lz4 frame.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lz4 {
    pub(crate) flags: u8,
    pub(crate) sizes: u8,
    pub(crate) content_size: i64,
    pub(crate) block_bytes: usize,
    pub(crate) wrong_header_checksum: bool,
    pub(crate) wrong_block_checksum: bool,
    pub(crate) wrong_content_checksum: bool,
    pub(crate) has_end: bool,
}

pub(crate) const LZ4: Lz4 = Lz4 {
    flags: 0x60,
    sizes: 0x40,
    content_size: 0,
    block_bytes: 65_536,
    wrong_header_checksum: false,
    wrong_block_checksum: false,
    wrong_content_checksum: false,
    has_end: true,
};

impl Lz4 {
    /// One frame. It announces `content_size` more bytes than it has.
    pub(crate) fn frame(self, content: &[u8]) -> Vec<u8> {
        let mut descriptor = vec![self.flags, self.sizes];
        if self.flags & 8 != 0 {
            descriptor.extend_from_slice(&(content.len() as i64 + self.content_size).to_le_bytes());
        }
        if self.flags & 1 != 0 {
            descriptor.extend_from_slice(&[0; 4]);
        }
        let mut out = 0x184d_2204_u32.to_le_bytes().to_vec();
        out.extend_from_slice(&descriptor);
        out.push((xxh32(&descriptor) >> 8) as u8 ^ u8::from(self.wrong_header_checksum));
        for block in content.chunks(self.block_bytes) {
            out.extend_from_slice(&(block.len() as u32 | 1 << 31).to_le_bytes());
            out.extend_from_slice(block);
            if self.flags & 16 != 0 {
                out.extend_from_slice(&(xxh32(block) ^ u32::from(self.wrong_block_checksum)).to_le_bytes());
            }
        }
        if self.has_end {
            out.extend_from_slice(&[0; 4]);
            if self.flags & 4 != 0 {
                let wrong = u32::from(self.wrong_content_checksum);
                out.extend_from_slice(&(xxh32(content) ^ wrong).to_le_bytes());
            }
        }
        out
    }
}

/// A skippable frame of lz4 and zstd.
pub(crate) fn skippable(bytes: &[u8]) -> Vec<u8> {
    [&0x184d_2a53_u32.to_le_bytes()[..], &(bytes.len() as u32).to_le_bytes(), bytes].concat()
}

/// A gzip member with its flags and the fields that they add after the fixed header.
pub(crate) fn gzip(content: &[u8], flags: u8, more: &[u8], crc_off: u32, size_off: u32) -> Vec<u8> {
    let mut out = vec![0x1f, 0x8b, 8, flags, 0, 0, 0, 0, 0, 0xff];
    out.extend_from_slice(more);
    if flags & 2 != 0 {
        let crc = crc32(&out) as u16;
        out.extend_from_slice(&crc.to_le_bytes());
    }
    let mut chunks = content.chunks(60_000).peekable();
    if content.is_empty() {
        out.extend_from_slice(&[1, 0, 0, 0xff, 0xff]);
    }
    while let Some(chunk) = chunks.next() {
        out.push(u8::from(chunks.peek().is_none()));
        out.extend_from_slice(&(chunk.len() as u16).to_le_bytes());
        out.extend_from_slice(&(!(chunk.len() as u16)).to_le_bytes());
        out.extend_from_slice(chunk);
    }
    out.extend_from_slice(&(crc32(content) ^ crc_off).to_le_bytes());
    out.extend_from_slice(&(content.len() as u32).wrapping_add(size_off).to_le_bytes());
    out
}

/// The raw snappy format.
pub(crate) fn snappy(content: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    milena_wire::varint::put_u32(&mut out, content.len() as u32);
    for chunk in content.chunks(60) {
        out.push((chunk.len() as u8 - 1) << 2);
        out.extend_from_slice(chunk);
    }
    out
}

/// The framing that Java writes, in chunks of `bytes`.
pub(crate) fn xerial(content: &[u8], version: i32, compatible: i32, bytes: usize) -> Vec<u8> {
    let mut out = b"\x82SNAPPY\0".to_vec();
    out.extend_from_slice(&version.to_be_bytes());
    out.extend_from_slice(&compatible.to_be_bytes());
    for chunk in content.chunks(bytes) {
        let chunk = snappy(chunk);
        out.extend_from_slice(&(chunk.len() as i32).to_be_bytes());
        out.extend_from_slice(&chunk);
    }
    out
}

/// A zstd frame of raw blocks; `content_size` and `checksum` only when they are given.
pub(crate) fn zstd(content: &[u8], content_size: Option<u32>, checksum: Option<u32>, window: u8) -> Vec<u8> {
    let mut out = 0xfd2f_b528_u32.to_le_bytes().to_vec();
    let size_flag = if content_size.is_some() { 2 << 6 } else { 0 };
    out.push(size_flag | u8::from(checksum.is_some()) << 2);
    out.push(window);
    if let Some(size) = content_size {
        out.extend_from_slice(&size.to_le_bytes());
    }
    let mut chunks = content.chunks(1000).peekable();
    if content.is_empty() {
        out.extend_from_slice(&[1, 0, 0]);
    }
    while let Some(chunk) = chunks.next() {
        let header = (chunk.len() as u32) << 3 | u32::from(chunks.peek().is_none());
        out.extend_from_slice(&header.to_le_bytes()[..3]);
        out.extend_from_slice(chunk);
    }
    if let Some(checksum) = checksum {
        out.extend_from_slice(&checksum.to_le_bytes());
    }
    out
}

fn crc32(bytes: &[u8]) -> u32 {
    let mut crc = !0_u32;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 != 0 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 };
        }
    }
    !crc
}

fn xxh32(bytes: &[u8]) -> u32 {
    const P: [u32; 5] = [0x9e37_79b1, 0x85eb_ca77, 0xc2b2_ae3d, 0x27d4_eb2f, 0x1656_67b1];
    let round =
        |acc: u32, word: u32| acc.wrapping_add(word.wrapping_mul(P[1])).rotate_left(13).wrapping_mul(P[0]);
    let word = |bytes: &[u8]| u32::from_le_bytes(*bytes.first_chunk().unwrap());
    let mut rest = bytes;
    let mut hash = P[4];
    if bytes.len() >= 16 {
        let mut lanes = [P[0].wrapping_add(P[1]), P[1], 0, 0_u32.wrapping_sub(P[0])];
        while rest.len() >= 16 {
            for (lane, at) in lanes.iter_mut().zip([0, 4, 8, 12]) {
                *lane = round(*lane, word(&rest[at..]));
            }
            rest = &rest[16..];
        }
        hash = lanes
            .iter()
            .zip([1, 7, 12, 18])
            .fold(0, |sum, (lane, by)| sum.wrapping_add(lane.rotate_left(by)));
    }
    hash = hash.wrapping_add(bytes.len() as u32);
    while rest.len() >= 4 {
        hash = hash.wrapping_add(word(rest).wrapping_mul(P[2])).rotate_left(17).wrapping_mul(P[3]);
        rest = &rest[4..];
    }
    for byte in rest {
        hash = hash.wrapping_add(u32::from(*byte).wrapping_mul(P[4])).rotate_left(11).wrapping_mul(P[0]);
    }
    hash = (hash ^ hash >> 15).wrapping_mul(P[1]);
    hash = (hash ^ hash >> 13).wrapping_mul(P[2]);
    hash ^ hash >> 16
}
