//! The batches that are sent: each field of the header, of a record and of a codec's frame with every value that may matter, and
//! N more with several fields changed at random.

use milena_wire::codec::Compression;

use super::draft::{
    ATTRIBUTES, BASE_OFFSET, BASE_SEQUENCE, BASE_TIMESTAMP, COUNT, CRC, Draft, Field, LAST_OFFSET_DELTA,
    LEADER_EPOCH, LENGTH, MAGIC, MAX_TIMESTAMP, PRODUCER_EPOCH, PRODUCER_ID, Part, Rec,
};
use super::frames::{self, LZ4, Lz4};

/// One batch, and a description of its change.
pub(crate) struct Case {
    pub(crate) what: String,
    pub(crate) draft: Draft,
    pub(crate) version: i16,
}

/// Numbers from a seed (xorshift64*).
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, count: usize) -> usize {
        (self.next() >> 33) as usize % count
    }

    fn of<T: Copy>(&mut self, values: &[T]) -> T {
        values[self.below(values.len())]
    }
}

/// 2023: neither too old nor too new.
const CREATED: i64 = 1_700_000_000_000;

/// Three records that use every part of a record.
pub(crate) fn base(codec: Compression) -> Draft {
    let header = |name: &[u8], value: Option<&[u8]>| {
        (Part::of(name), Part { bytes: value.map(<[u8]>::to_vec), length: None })
    };
    let records = vec![
        Rec { key: Part::of(b"key"), value: Part::of(&b"first value ".repeat(6)), ..Rec::default() },
        Rec {
            offset_delta: 1,
            timestamp_delta: 70,
            value: Part::of(&[7; 40]),
            headers: vec![header(b"name", Some(b"some value")), header(b"", None), header(b"x", Some(b""))],
            ..Rec::default()
        },
        Rec { offset_delta: 2, timestamp_delta: 3, key: Part::of(b""), ..Rec::default() },
    ];
    Draft {
        codec,
        records,
        payload: None,
        fields: Vec::new(),
        producer: None,
        base_timestamp: CREATED,
        tail: Vec::new(),
        is_mended: true,
    }
}

/// All batches, which are the same for the same seed.
pub(crate) fn all(seed: u64, random: usize) -> Vec<Case> {
    let mut cases = Vec::new();
    let mut add = |what: String, draft: Draft| cases.push(Case { what, draft, version: 12 });
    for codec in Compression::ALL {
        add(format!("{codec} as it should be"), base(codec));
        headers(codec, &mut add);
        records(codec, &mut add);
        payloads(codec, &mut add);
    }
    hand_made(&mut add);
    around(&mut add);
    let mut dice = Dice(seed | 1);
    for number in 0..random {
        let draft = several(&mut dice);
        add(format!("random {number}: {:?} {:?}", draft.codec, draft.fields), draft);
    }
    for codec in Compression::ALL {
        for version in [3, 5, 6, 7, 8, 9, 11] {
            cases.push(Case { what: format!("{codec} v{version}"), draft: base(codec), version });
            let mut late = base(codec);
            late.records[1].timestamp_delta = 1 << 45;
            cases.push(Case { what: format!("{codec} v{version}, late"), draft: late, version });
        }
    }
    cases
}

fn header_values(field: Field) -> &'static [i64] {
    const I32_MAX: i64 = i32::MAX as i64;
    const I32_MIN: i64 = i32::MIN as i64;
    match field {
        BASE_OFFSET => &[1, -1, 5, i64::MAX, i64::MAX - 2, i64::MIN],
        LENGTH => &[0, -1, I32_MAX, I32_MIN, 5, 13, 14, 15, 20, 48, 49, 50, 51, 60, 1 << 20],
        LEADER_EPOCH => &[0, 1, 5, -2, I32_MAX, I32_MIN],
        MAGIC => &[0, 1, 3, 4, -1, 127, -128],
        CRC => &[0, -1, 1],
        LAST_OFFSET_DELTA => &[0, 1, 3, -1, -2, 100, I32_MAX, I32_MIN],
        BASE_TIMESTAMP => &[0, -1, -2, -71, i64::MIN, i64::MAX, 1, 4_000_000_000_000],
        MAX_TIMESTAMP => &[0, -1, -2, i64::MIN, i64::MAX, CREATED, CREATED + 1, 4_000_000_000_000],
        PRODUCER_ID => &[-2, 0, i64::MAX, i64::MIN, 77],
        PRODUCER_EPOCH => &[-2, -1, 0, 1, 0x7fff, -0x8000],
        BASE_SEQUENCE => &[-2, 0, 1, I32_MAX, I32_MAX - 1, I32_MIN],
        COUNT => &[0, 1, 2, 4, -1, 100, I32_MAX, I32_MIN],
        _ => &[],
    }
}

const FIELDS: [Field; 12] = [
    BASE_OFFSET,
    LENGTH,
    LEADER_EPOCH,
    MAGIC,
    CRC,
    LAST_OFFSET_DELTA,
    BASE_TIMESTAMP,
    MAX_TIMESTAMP,
    PRODUCER_ID,
    PRODUCER_EPOCH,
    BASE_SEQUENCE,
    COUNT,
];

fn headers(codec: Compression, add: &mut impl FnMut(String, Draft)) {
    for field in FIELDS {
        for &value in header_values(field) {
            for stamped in [false, true] {
                let mut draft = base(codec);
                draft.producer = stamped.then_some((900_000, 3, 0));
                draft.set(field, value);
                add(format!("{codec}, {} {value}, stamped {stamped}", field.0), draft);
            }
        }
    }
    for bit in 3..16 {
        let mut draft = base(codec);
        draft.set(ATTRIBUTES, i64::from(codec.attributes()) | 1 << bit);
        add(format!("{codec}, attribute bit {bit}"), draft);
    }
    for other in 0..8 {
        let mut draft = base(codec);
        draft.set(ATTRIBUTES, other);
        add(format!("{codec} called codec {other}"), draft);
    }
    for (delta, count) in [(0, 1), (1, 2), (3, 4), (99, 100), (-1, 0), (-2, -1), (i32::MAX, i32::MIN)] {
        let mut draft = base(codec);
        draft.set(LAST_OFFSET_DELTA, i64::from(delta));
        draft.set(COUNT, i64::from(count));
        add(format!("{codec}, {count} records and the offsets of as many"), draft);
    }
    for delta in [-1, 1] {
        let mut draft = base(codec);
        draft.set(LENGTH, 49 + draft.compressed().len() as i64 + delta);
        add(format!("{codec}, batch length {delta} off"), draft);
    }
}

fn records(codec: Compression, add: &mut impl FnMut(String, Draft)) {
    for at in 0..3 {
        for (what, record) in record_changes(&base(codec).records[at]) {
            let mut draft = base(codec);
            draft.records[at] = record;
            add(format!("{codec}, record {at}, {what}"), draft);
        }
    }
    let mut swapped = base(codec);
    swapped.records.swap(0, 1);
    add(format!("{codec}, records swapped"), swapped);
    let mut same = base(codec);
    same.records[1].offset_delta = 0;
    same.records[2].offset_delta = 1;
    add(format!("{codec}, an offset twice"), same);
    for (what, deltas) in [("two late", [0, 1 << 45, 1 << 45]), ("all late", [1 << 45; 3])] {
        let mut late = base(codec);
        for (record, delta) in late.records.iter_mut().zip(deltas) {
            record.timestamp_delta = delta;
        }
        add(format!("{codec}, {what}"), late);
    }
    let mut both = base(codec);
    both.records[0].timestamp_delta = 1 << 45;
    both.records[2].attributes = 1;
    add(format!("{codec}, one late and one with attributes"), both);
    let mut then = base(codec);
    then.records[0].timestamp_delta = 1 << 45;
    then.records[2].length = Some(500);
    add(format!("{codec}, one late and one too long"), then);
}

fn record_changes(record: &Rec) -> Vec<(String, Rec)> {
    let mut changes = Vec::new();
    let mut change = |what: String, by: &dyn Fn(&mut Rec)| {
        let mut changed = record.clone();
        by(&mut changed);
        changes.push((what, changed));
    };
    let lengths = [0, 1, -1, -2, 5, 60, 63, 64, 200, 100_000, i32::MAX - 8, i32::MAX - 7, i32::MAX, i32::MIN];
    for length in lengths {
        change(format!("length {length}"), &|record| record.length = Some(length));
        change(format!("key length {length}"), &|record| record.key.length = Some(length));
        change(format!("value length {length}"), &|record| record.value.length = Some(length));
        change(format!("header count {length}"), &|record| record.header_count = Some(length));
        if let Some((name, value)) = record.headers.first() {
            let (mut name, mut value) = (name.clone(), value.clone());
            (name.length, value.length) = (Some(length), None);
            change(format!("header name length {length}"), &|record| {
                record.headers[0].0.length = name.length;
            });
            value.length = Some(length);
            change(format!("header value length {length}"), &|record| {
                record.headers[0].1.length = value.length;
            });
        }
    }
    for attributes in [1, 2, 3, 4, 5, 7, 8, 16, 0x80, 0xff] {
        change(format!("attributes {attributes:#x}"), &|record| record.attributes = attributes);
    }
    for delta in
        [-1, -CREATED, -CREATED - 1, -CREATED - 2, i64::MAX, i64::MIN, 1 << 33, 1 << 45, i64::MAX - CREATED]
    {
        change(format!("timestamp delta {delta}"), &|record| record.timestamp_delta = delta);
    }
    for delta in [-1, 0, 1, 2, 3, 4, 1000, i32::MAX, i32::MIN] {
        change(format!("offset delta {delta}"), &|record| record.offset_delta = delta);
    }
    for at in 0..8 {
        for by in [1, 2, 4, 5, 9, 10] {
            change(format!("varint {at} padded by {by}"), &|record| record.padded = Some((at, by)));
        }
    }
    for tail in [1, 3, 60] {
        change(format!("{tail} bytes after it"), &|record| record.tail = vec![0; tail]);
    }
    change("a header with a name that is no text".to_owned(), &|record| {
        record.headers.push((Part::of(&[0xff, 0xfe]), Part::of(b"v")));
    });
    change("a header without a name".to_owned(), &|record| {
        record.headers.push((Part::default(), Part::of(b"v")));
    });
    change("the same header twice".to_owned(), &|record| {
        record.headers.extend([(Part::of(b"a"), Part::default()), (Part::of(b"a"), Part::default())]);
    });
    changes
}

fn payloads(codec: Compression, add: &mut impl FnMut(String, Draft)) {
    let whole = base(codec).compressed();
    let mut change = |what: String, payload: Vec<u8>| {
        add(format!("{codec}, payload {what}"), Draft { payload: Some(payload), ..base(codec) });
    };
    for at in 0..whole.len() {
        // Each byte of the frame of a codec's stream, and some other bytes.
        if at < 20 || at % 7 == 0 || at + 10 > whole.len() {
            for bit in [0, 3, 7] {
                let mut flipped = whole.clone();
                flipped[at] ^= 1 << bit;
                change(format!("byte {at} bit {bit} flipped"), flipped);
            }
        }
    }
    for cut in [0, 1, 2, 4, 7, 8, 10, 15, 18, 20, whole.len() / 2] {
        change(format!("begins with only {cut} bytes"), whole[..cut.min(whole.len())].to_vec());
    }
    for cut in 1..10 {
        change(format!("lacks {cut} bytes"), whole[..whole.len() - cut].to_vec());
    }
    for more in [1, 2, 3, 4, 5, 8, 17, 40] {
        change(format!("and {more} zeros"), [&whole[..], &vec![0; more]].concat());
        change(format!("and {more} ones"), [&whole[..], &vec![0xff; more]].concat());
    }
    change("twice".to_owned(), [&whole[..], &whole].concat());
    for other in Compression::ALL {
        change(format!("is {other}"), base(other).compressed());
    }
    let large: Vec<Rec> = (0..300)
        .map(|at| Rec { offset_delta: at, value: Part::of(&vec![at as u8; 999]), ..Rec::default() })
        .collect();
    add(format!("{codec}, 300 kB"), Draft { records: large.clone(), ..base(codec) });
    let mut lying = Draft { records: large, ..base(codec) };
    lying.records[250].value.length = Some(998);
    add(format!("{codec}, 300 kB with a lie near its end"), lying);
}

fn hand_made(add: &mut impl FnMut(String, Draft)) {
    let plain = base(Compression::None).plain();
    let (one, rest) = {
        let mut first = base(Compression::None);
        first.records.truncate(1);
        let length = first.plain().len();
        (plain[..length].to_vec(), plain[length..].to_vec())
    };
    let mut change = |codec: Compression, what: &str, payload: Vec<u8>| {
        add(format!("{codec} {what}"), Draft { payload: Some(payload), ..base(codec) });
    };
    let lz4 = Compression::Lz4;
    for (what, frame) in [
        ("made by hand", LZ4),
        ("in blocks of 20", Lz4 { block_bytes: 20, ..LZ4 }),
        ("with linked blocks", Lz4 { flags: 0x40, ..LZ4 }),
        ("with linked blocks of 20", Lz4 { flags: 0x40, block_bytes: 20, ..LZ4 }),
        ("with block checksums", Lz4 { flags: 0x70, ..LZ4 }),
        ("with wrong block checksums", Lz4 { flags: 0x70, wrong_block_checksum: true, ..LZ4 }),
        ("with a content size", Lz4 { flags: 0x68, ..LZ4 }),
        ("with a content size too small", Lz4 { flags: 0x68, content_size: -1, ..LZ4 }),
        ("with a content size too large", Lz4 { flags: 0x68, content_size: 1, ..LZ4 }),
        ("with a content size of nearly 2^63", Lz4 { flags: 0x68, content_size: i64::MAX - 500, ..LZ4 }),
        ("with a content checksum", Lz4 { flags: 0x64, ..LZ4 }),
        ("with a wrong content checksum", Lz4 { flags: 0x64, wrong_content_checksum: true, ..LZ4 }),
        ("with a dictionary", Lz4 { flags: 0x61, ..LZ4 }),
        ("with the reserved flag", Lz4 { flags: 0x62, ..LZ4 }),
        ("of version 0", Lz4 { flags: 0x20, ..LZ4 }),
        ("of version 2", Lz4 { flags: 0xa0, ..LZ4 }),
        ("with a wrong header checksum", Lz4 { wrong_header_checksum: true, ..LZ4 }),
        ("without an end", Lz4 { has_end: false, ..LZ4 }),
        ("with blocks of code 3", Lz4 { sizes: 0x30, ..LZ4 }),
        ("with blocks of code 5", Lz4 { sizes: 0x50, ..LZ4 }),
        ("with blocks of code 7", Lz4 { sizes: 0x70, ..LZ4 }),
        ("with blocks of code 8", Lz4 { sizes: 0x80, ..LZ4 }),
        ("with reserved sizes", Lz4 { sizes: 0x41, ..LZ4 }),
    ] {
        change(lz4, what, frame.frame(&plain));
        change(lz4, &format!("{what}, and another"), [frame.frame(&plain), LZ4.frame(b"more")].concat());
    }
    change(lz4, "in two frames", [LZ4.frame(&one), LZ4.frame(&rest)].concat());
    change(lz4, "after nothing", [LZ4.frame(b""), LZ4.frame(&plain)].concat());
    change(lz4, "after a skippable frame", [frames::skippable(b"skip"), LZ4.frame(&plain)].concat());
    change(lz4, "before a skippable frame", [LZ4.frame(&plain), frames::skippable(b"skip")].concat());

    let gzip = Compression::Gzip;
    let member = frames::gzip;
    for (what, flags, more) in [
        ("made by hand", 0, &b""[..]),
        ("called text", 1, b""),
        ("with a header checksum", 2, b""),
        ("with extras", 4, b"\x03\x00abc"),
        ("with a name", 8, b"name\0"),
        ("with a comment", 16, b"comment\0"),
        ("with all", 0x1f, b"\x03\x00abcname\0comment\0"),
        ("with a reserved flag", 0x20, b""),
        ("with another reserved flag", 0x80, b""),
    ] {
        change(gzip, what, member(&plain, flags, more, 0, 0));
    }
    change(gzip, "with a wrong checksum", member(&plain, 0, b"", 1, 0));
    change(gzip, "with a wrong size", member(&plain, 0, b"", 0, 1));
    change(gzip, "in two members", [member(&one, 0, b"", 0, 0), member(&rest, 0, b"", 0, 0)].concat());
    change(gzip, "and another", [member(&plain, 0, b"", 0, 0), member(b"more", 0, b"", 0, 0)].concat());
    change(gzip, "and an empty one", [member(&plain, 0, b"", 0, 0), member(b"", 0, b"", 0, 0)].concat());
    change(gzip, "after nothing", [member(b"", 0, b"", 0, 0), member(&plain, 0, b"", 0, 0)].concat());

    let snappy = Compression::Snappy;
    change(snappy, "made by hand", frames::snappy(&plain));
    for bytes in [20, 32_768] {
        for (version, compatible) in [(1, 1), (0, 1), (1, 0), (1, 2), (2, 1), (-1, -1)] {
            let what = format!("of xerial {version} {compatible} in chunks of {bytes}");
            let framed = frames::xerial(&plain, version, compatible, bytes);
            for more in [0, 1, 3] {
                change(snappy, &format!("{what} and {more} zeros"), [&framed[..], &vec![0; more]].concat());
            }
            change(snappy, &format!("{what} and a negative chunk"), [&framed[..], &[0xff; 4]].concat());
            change(snappy, &format!("{what} and a lost chunk"), [&framed[..], &[0, 0, 0, 9, 1]].concat());
            change(snappy, &format!("{what} and an empty chunk"), [&framed[..], &[0, 0, 0, 1, 0]].concat());
        }
    }
    let xerial = |content: &[u8]| frames::xerial(content, 1, 1, 32_768);
    change(snappy, "of xerial, nothing", xerial(b""));
    change(snappy, "of xerial in two streams", [xerial(&one), xerial(&rest)].concat());
    change(snappy, "of xerial and another", [xerial(&plain), xerial(b"more")].concat());
    change(snappy, "of xerial, cut in its header", xerial(&plain)[..12].to_vec());
    change(snappy, "twice in the raw format", [frames::snappy(&one), frames::snappy(&rest)].concat());

    let zstd = Compression::Zstd;
    let size = plain.len() as u32;
    for (what, content_size, checksum, window) in [
        ("made by hand", None, None, 0),
        ("with its size", Some(size), None, 0),
        ("with a size too small", Some(size - 1), None, 0),
        ("with a size too large", Some(size + 1), None, 0),
        ("with a wrong checksum", None, Some(1), 0),
        ("with a window of 128 MiB", None, None, 17 << 3),
        ("with a window of 256 MiB", None, None, 18 << 3),
        ("with a window of 1 TiB", None, None, 30 << 3),
    ] {
        change(zstd, what, frames::zstd(&plain, content_size, checksum, window));
    }
    let frame = |content: &[u8]| frames::zstd(content, None, None, 0);
    change(zstd, "in two frames", [frame(&one), frame(&rest)].concat());
    change(zstd, "and another", [frame(&plain), frame(b"more")].concat());
    change(zstd, "and an empty one", [frame(&plain), frame(b"")].concat());
    change(zstd, "after a skippable frame", [frames::skippable(b"skip"), frame(&plain)].concat());
    change(zstd, "before a skippable frame", [frame(&plain), frames::skippable(b"skip")].concat());
}

/// Bytes after the batch, and bytes that are not a batch.
fn around(add: &mut impl FnMut(String, Draft)) {
    for codec in [Compression::None, Compression::Lz4] {
        let whole = base(codec).bytes();
        for cut in [1, 8, 11, 12, 16, 17, 20, 60, whole.len() - 1, whole.len()] {
            let tail = whole[..cut].to_vec();
            add(format!("{codec} and {cut} bytes of another"), Draft { tail, ..base(codec) });
        }
        for (what, length, magic) in
            [("tiny", 5_i32, 2_u8), ("negative", -1, 2), ("of magic 9", 100, 9), ("of magic 0", 300, 0)]
        {
            let mut tail = whole[..17].to_vec();
            tail[8..12].copy_from_slice(&length.to_be_bytes());
            tail[16] = magic;
            add(format!("{codec} and the beginning of one {what}"), Draft { tail, ..base(codec) });
        }
        let mut broken = base(codec);
        broken.is_mended = false;
        add(format!("{codec} with no checksum"), broken.clone());
        broken.set(COUNT, 7);
        add(format!("{codec} with no checksum and a wrong count"), broken.clone());
        broken.set(BASE_OFFSET, 7);
        add(format!("{codec} with no checksum and a wrong base offset"), broken);
        let large = Part::of(&vec![b'x'; 1_100_000]);
        let mut draft = base(Compression::None);
        draft.records[0].value = large.clone();
        draft.set(COUNT, 1);
        add("too large and a wrong count".to_owned(), draft.clone());
        draft.is_mended = false;
        add("too large and no checksum".to_owned(), draft.clone());
        draft.set(BASE_OFFSET, 9);
        add("too large and a wrong base offset".to_owned(), draft);
        let mut draft = base(Compression::Lz4);
        draft.records[0].value = large;
        add("too large once decompressed".to_owned(), draft);
    }
}

/// A batch with one to three changes.
fn several(dice: &mut Dice) -> Draft {
    let codec = dice.of(&Compression::ALL);
    let mut draft = base(codec);
    if dice.below(3) == 0 {
        draft.producer = Some((900_000, 0, 0));
    }
    let count = 1 + dice.below(60);
    if dice.below(2) == 0 {
        draft.records = (0..count)
            .map(|at| {
                let value = (0..dice.below(300)).map(|_| dice.of(b"abc")).collect::<Vec<u8>>();
                Rec {
                    offset_delta: at as i32,
                    timestamp_delta: at as i64,
                    value: Part::of(&value),
                    ..Rec::default()
                }
            })
            .collect();
    }
    for _ in 0..=dice.below(3) {
        match dice.below(5) {
            0 => {
                let field = dice.of(&FIELDS);
                let value = dice.of(header_values(field));
                draft.set(field, value);
            }
            1 => draft.set(ATTRIBUTES, i64::from(codec.attributes()) ^ 1 << dice.below(16)),
            2 | 3 => {
                let at = dice.below(draft.records.len());
                let mut changes = record_changes(&draft.records[at]);
                let change = dice.below(changes.len());
                draft.records[at] = changes.swap_remove(change).1;
            }
            _ => {
                let mut payload = draft.compressed();
                if !payload.is_empty() {
                    let at = dice.below(payload.len());
                    match dice.below(4) {
                        0 => payload[at] ^= 1 << dice.below(8),
                        1 => payload.truncate(at),
                        2 => payload.insert(at, dice.next() as u8),
                        _ => drop(payload.remove(at)),
                    }
                }
                draft.payload = Some(payload);
            }
        }
    }
    draft
}
