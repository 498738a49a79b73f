//! How the bytes of an answer are packed.

use std::io::Write as _;

use flate2::Compression;
use flate2::write::GzEncoder;

/// How metrics are packed on their way.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Encoding {
    /// As they are.
    #[default]
    Identity,
    /// gzip. Metrics of a cluster become a twentieth of their size.
    Gzip,
}

/// More parts of a header are not looked at.
const PARTS_MAX: usize = 32;

impl Encoding {
    /// All encodings.
    pub const ALL: [Self; 2] = [Self::Identity, Self::Gzip];

    /// The best one of those that the header `Accept-Encoding` of an HTTP client has.
    ///
    /// ```
    /// use milena_observe::exposition::Encoding;
    ///
    /// assert_eq!(Encoding::accepted("deflate, gzip;q=0.8"), Encoding::Gzip);
    /// assert_eq!(Encoding::accepted("gzip;q=0"), Encoding::Identity);
    /// assert_eq!(Encoding::accepted(""), Encoding::Identity);
    /// ```
    pub fn accepted(accept: &str) -> Self {
        let mut of_any = 0.0;
        for part in accept.split(',').take(PARTS_MAX) {
            let mut words = part.split(';').map(str::trim);
            let name = words.next().unwrap_or_default();
            let quality = words.find_map(|word| word.strip_prefix("q="));
            let quality: f64 = quality.map_or(1.0, |text| text.trim().parse().unwrap_or(0.0));
            match name {
                "gzip" | "x-gzip" => return if quality > 0.0 { Self::Gzip } else { Self::Identity },
                "*" => of_any = quality,
                _ => {}
            }
        }
        if of_any > 0.0 { Self::Gzip } else { Self::Identity }
    }

    /// The header `Content-Encoding` of an answer. None if it needs none.
    pub fn name(self) -> Option<&'static str> {
        match self {
            Self::Identity => None,
            Self::Gzip => Some("gzip"),
        }
    }

    /// Packs bytes.
    pub fn pack(self, bytes: Vec<u8>) -> Vec<u8> {
        match self {
            Self::Identity => bytes,
            Self::Gzip => {
                // A higher level takes four times as long for a tenth less.
                let mut gzip = GzEncoder::new(Vec::with_capacity(bytes.len() / 8), Compression::fast());
                gzip.write_all(&bytes).and_then(|()| gzip.finish()).expect("writing to memory does not fail")
            }
        }
    }
}
