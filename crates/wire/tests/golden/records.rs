//! The records of the golden batches, which their generator lets other clients produce and which the test expects.

/// The timestamp of the first record; each next record is a second later.
pub(crate) const TIME: i64 = 1_700_000_000_000;

/// A record of a golden batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct GoldenRecord {
    /// Milliseconds since the epoch.
    pub(crate) timestamp: i64,
    /// Null and empty are different keys.
    pub(crate) key: Option<Vec<u8>>,
    /// Null and empty are different values.
    pub(crate) value: Option<Vec<u8>>,
    /// In order.
    pub(crate) headers: Vec<(String, Option<Vec<u8>>)>,
}

type HeaderRef<'a> = (&'a str, Option<&'a [u8]>);

/// Every kind of key, value and header; with `large`, also a value that fills several blocks of every codec.
pub(crate) fn records(large: bool) -> Vec<GoldenRecord> {
    let keys: [Option<&[u8]>; 4] = [None, Some(b""), Some(b"N14228"), Some(&[0, 255, 10])];
    let values: [Option<&[u8]>; 4] = [None, Some(b""), Some("Мілено".as_bytes()), Some(&[7; 300])];
    let headers: [&[HeaderRef<'_>]; 4] = [
        &[],
        &[("null", None), ("empty", Some(b""))],
        &[("same", Some(&[1])), ("same", Some(&[2]))],
        &[("", Some(b"no name")), ("довгий заголовок", Some(&[b'x'; 200]))],
    ];
    let long = large.then(|| lines(100_000));
    let combinations = keys.iter().flat_map(|key| values.iter().map(move |value| (*key, *value)));
    let records = combinations.chain(long.as_ref().map(|long| (Some(&b"long"[..]), Some(&long[..]))));
    records
        .enumerate()
        .map(|(index, (key, value))| GoldenRecord {
            timestamp: TIME + index as i64 * 1000,
            key: key.map(<[u8]>::to_vec),
            value: value.map(<[u8]>::to_vec),
            headers: (headers[index % headers.len()].iter())
                .map(|(name, value)| ((*name).to_owned(), value.map(<[u8]>::to_vec)))
                .collect(),
        })
        .collect()
}

/// Lines of text, all different and all alike.
fn lines(bytes: usize) -> Vec<u8> {
    let line = |number: usize| {
        let distance = number * 7919 % 2475;
        format!("{{\"flight\":{number},\"carrier\":\"UA\",\"origin\":\"EWR\",\"distance\":{distance}}}\n")
    };
    let mut text: Vec<u8> = (0..bytes / 50).flat_map(|number| line(number).into_bytes()).collect();
    text.truncate(bytes);
    text
}
