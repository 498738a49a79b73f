//! A codec and its level: what is compared.

use std::fmt;

use milena::Compression;

/// A codec, and its level if it has levels that make a difference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Candidate {
    pub(crate) codec: Compression,
    pub(crate) level: Option<i32>,
}

/// As many as there is time for, and as people read in a table.
const CANDIDATES_MAX: usize = 64;

/// The levels that are compared unless the command line names others. Of lz4 there is one: this client has one compressor for all
/// levels.
fn usual_levels(codec: Compression) -> &'static [i32] {
    match codec {
        Compression::None | Compression::Snappy | Compression::Lz4 => &[],
        Compression::Gzip => &[1, 6, 9],
        Compression::Zstd => &[1, 3, 6, 9, 12, 15, 19],
    }
}

impl Candidate {
    pub(crate) const NONE: Self = Self { codec: Compression::None, level: None };

    /// The usual levels of all codecs, each codec's from the fastest on.
    pub(crate) fn usual() -> Vec<Self> {
        let order =
            [Compression::None, Compression::Snappy, Compression::Lz4, Compression::Gzip, Compression::Zstd];
        order.into_iter().flat_map(Self::usual_of).collect()
    }

    fn usual_of(codec: Compression) -> Vec<Self> {
        match usual_levels(codec) {
            [] => vec![Self { codec, level: None }],
            levels => levels.iter().map(|level| Self { codec, level: Some(*level) }).collect(),
        }
    }

    /// Reads what `--codec` says, several times: `zstd`, `zstd:1,3,19`, `gzip:1..9`. Without compression is always among them, because
    /// the others are compared with it.
    ///
    /// # Errors
    /// A sentence that says what is wrong.
    pub(crate) fn parse_all(texts: &[String]) -> Result<Vec<Self>, String> {
        if texts.is_empty() {
            return Ok(Self::usual());
        }
        let mut all = vec![Self::NONE];
        for text in texts {
            for candidate in Self::parse(text)? {
                if !all.contains(&candidate) {
                    all.push(candidate);
                }
                if all.len() > CANDIDATES_MAX {
                    return Err(format!("these are over {CANDIDATES_MAX} codecs and levels: name fewer"));
                }
            }
        }
        Ok(all)
    }

    fn parse(text: &str) -> Result<Vec<Self>, String> {
        let (name, levels) = text.split_once(':').map_or((text, None), |(name, levels)| (name, Some(levels)));
        let codec: Compression = name.parse().map_err(|error| format!("{name:?} is {error}"))?;
        let Some(levels) = levels else { return Ok(Self::usual_of(codec)) };
        let Some(bounds) = codec.levels().filter(|_| codec != Compression::Lz4) else {
            let why = match codec {
                Compression::Lz4 => "this client has one compressor for all levels of lz4",
                _ => "it has no levels",
            };
            return Err(format!("{text:?}: {why}; write {name:?}"));
        };
        let mut all = Vec::new();
        for part in levels.split(',') {
            let number = |text: &str| {
                let level = text.trim().parse::<i32>();
                level.ok().filter(|level| bounds.contains(level)).ok_or_else(|| {
                    let (least, most) = (bounds.start(), bounds.end());
                    format!("{text:?} is no level of {name}, whose levels are {least} to {most}")
                })
            };
            let (first, last) = match part.split_once("..") {
                Some((first, last)) => (number(first)?, number(last)?),
                None => (number(part)?, number(part)?),
            };
            // One more than allowed is enough to be refused.
            all.extend(
                (first..=last).take(CANDIDATES_MAX + 1).map(|level| Self { codec, level: Some(level) }),
            );
        }
        Ok(all)
    }

    /// The producer's settings by their names in Java's client, which this client knows too.
    pub(crate) fn properties(self) -> Vec<(String, String)> {
        let Self { codec, level } = self;
        let mut all = vec![("compression.type".to_owned(), codec.to_string())];
        let level = level.filter(|level| codec.default_level() != Some(*level));
        all.extend(level.map(|level| (format!("compression.{codec}.level"), level.to_string())));
        all
    }
}

impl fmt::Display for Candidate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.level {
            Some(level) => f.pad(&format!("{} {level}", self.codec)),
            None => f.pad(self.codec.name()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(texts: &[&str]) -> Result<String, String> {
        let texts: Vec<_> = texts.iter().map(|text| (*text).to_owned()).collect();
        let all = Candidate::parse_all(&texts)?;
        Ok(all.iter().map(ToString::to_string).collect::<Vec<_>>().join("|"))
    }

    #[test]
    fn codecs_and_levels_are_read() {
        let usual = parsed(&[]).expect("the usual ones");
        assert!(usual.starts_with("none|snappy|lz4|gzip 1|gzip 6|gzip 9|zstd 1|zstd 3"), "{usual}");
        for (texts, expect) in [
            (&["lz4"][..], "none|lz4"),
            (&["none", "lz4", "lz4"], "none|lz4"),
            (&["zstd:3,-5..-3"], "none|zstd 3|zstd -5|zstd -4|zstd -3"),
            (&["gzip", "snappy"], "none|gzip 1|gzip 6|gzip 9|snappy"),
        ] {
            assert_eq!(parsed(texts).as_deref(), Ok(expect), "{texts:?}");
        }
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (text, says) in [
            ("brotli", "\"brotli\" is not a compression"),
            ("gzip:10", "\"10\" is no level of gzip, whose levels are 1 to 9"),
            ("gzip:", "is no level of gzip"),
            ("zstd:1..", "is no level of zstd"),
            ("snappy:1", "it has no levels"),
            ("lz4:9", "one compressor"),
            ("zstd:-131072..22", "over 64"),
        ] {
            let error = parsed(&[text]).expect_err(text);
            assert!(error.contains(says), "{text}: {error}");
        }
    }

    #[test]
    fn properties_name_a_level_that_is_not_the_default() {
        let properties = |codec, level| {
            let all = Candidate { codec, level }.properties();
            all.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(properties(Compression::Zstd, Some(3)), "compression.type=zstd");
        assert_eq!(properties(Compression::Zstd, Some(9)), "compression.type=zstd compression.zstd.level=9");
        assert_eq!(properties(Compression::None, None), "compression.type=none");
    }
}
