//! The files that AWS's tools share: `~/.aws/credentials` and `~/.aws/config`.
//!
//! ```text
//!  [default]                      [profile dev]
//!  aws_access_key_id = AKID…      region = eu-west-1
//! ```
//!
//! A value is a secret or not, so no error has one.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use zeroize::Zeroizing;

/// The settings of one profile, from both files.
#[derive(Default)]
pub(super) struct Profile(BTreeMap<String, Zeroizing<String>>);

/// Which of the files a text is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// `[NAME]` begins a profile.
    Credentials,
    /// `[profile NAME]` begins a profile, and `[default]` the default one.
    Config,
}

/// A longer file is hardly one of profiles.
const FILE_BYTES_MAX: u64 = 1 << 20;

impl Profile {
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(|value| value.as_str()).filter(|value| !value.is_empty())
    }

    /// Adds what `text` says of the profile `name`. What is there stays: the file of credentials is read first, and goes before.
    /// Whether the file has the profile.
    pub(super) fn add(&mut self, text: &str, name: &str, kind: Kind) -> bool {
        let (mut is_in, mut is_there) = (false, false);
        for line in text.lines() {
            // A line that begins with a blank continues a setting that has parts, of which none is read here.
            if line.starts_with([' ', '\t', '#', ';']) {
                continue;
            }
            if let Some(header) =
                line.strip_prefix('[').and_then(|rest| rest.split_once(']')).map(|(head, _)| head)
            {
                is_in = kind.names(header.trim()) == Some(name);
                is_there |= is_in;
                continue;
            }
            let Some((setting, value)) = line.split_once('=').filter(|_| is_in) else { continue };
            // A comment may follow after a blank.
            let end = value.find(" #").into_iter().chain(value.find("\t#")).chain(value.find(" ;")).min();
            let value = value[..end.unwrap_or(value.len())].trim();
            let setting = setting.trim().to_ascii_lowercase();
            self.0.entry(setting).or_insert_with(|| Zeroizing::new(value.to_owned()));
        }
        is_there
    }
}

impl Kind {
    /// The profile that a header begins.
    fn names(self, header: &str) -> Option<&str> {
        match (self, header.split_once(char::is_whitespace)) {
            (Self::Config, Some(("profile", name))) => {
                let name = name.trim();
                Some(name.strip_prefix('"').and_then(|name| name.strip_suffix('"')).unwrap_or(name))
            }
            (Self::Config, _) => (header == "default").then_some(header),
            (Self::Credentials, _) => Some(header),
        }
    }
}

/// The text of a file of profiles or of a token, or none if there is no such file.
pub(super) fn read(path: &Path) -> Result<Option<Zeroizing<String>>, String> {
    let wrong = |why: &str| format!("the file {path:?} cannot be read: {why}");
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(wrong(&error.to_string())),
    };
    let mut text = Zeroizing::new(String::with_capacity(16 << 10));
    let read =
        file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text).map_err(|error| wrong(&error.to_string()))?;
    if read as u64 > FILE_BYTES_MAX {
        return Err(wrong(&format!("it is longer than {FILE_BYTES_MAX} bytes")));
    }
    Ok(Some(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn profiles_are_read_as_awss_tools_write_them() {
        let credentials = "# keys\n[default]\naws_access_key_id = AKID1\naws_secret_access_key=s3cr3t+/=\n\n[dev]\nAWS_ACCESS_KEY_ID=AKID2 # mine\n";
        let config = "[default]\nregion = us-east-1\ns3 =\n  max_concurrent_requests = 20\n[profile dev]\nregion=eu-west-1\naws_access_key_id=AKID3\n\
                      [profile \"a b\"]\nregion = x\n[dev]\nregion=no\n[services local]\nregion=no";
        let check = |name: &str, expected: &[(&str, &str)]| {
            let mut profile = Profile::default();
            let is_there =
                [profile.add(credentials, name, Kind::Credentials), profile.add(config, name, Kind::Config)];
            assert_eq!(is_there.contains(&true), !expected.is_empty(), "{name}");
            for (setting, value) in expected {
                assert_eq!(profile.get(setting), Some(*value), "{name}: {setting}");
            }
            assert_eq!(profile.get("max_concurrent_requests"), None);
        };
        check(
            "default",
            &[
                ("aws_access_key_id", "AKID1"),
                ("aws_secret_access_key", "s3cr3t+/="),
                ("region", "us-east-1"),
            ],
        );
        // The file of credentials goes before the other one.
        check("dev", &[("aws_access_key_id", "AKID2"), ("region", "eu-west-1")]);
        check("a b", &[("region", "x")]);
        check("local", &[]);
        check("prod", &[]);
    }
}
