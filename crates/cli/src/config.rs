//! The user's configuration: where the profiles file is, reading and writing it, and which profile a command uses.

use std::env;
use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use crate::exit::{Exit, Failure};
use crate::output::tell;
use crate::profiles::{Profile, Profiles, TEXT_BYTES_MAX, secrets};

/// The file, if it is not in its usual place; empty for none at all.
const LOCATION: &str = "MILENA_CONFIG";
/// The profile to use.
const PROFILE: &str = "MILENA_PROFILE";

/// The profiles file, which need not exist.
#[derive(Clone)]
pub(crate) struct Config {
    pub(crate) path: PathBuf,
    pub(crate) profiles: Profiles,
}

/// The profile that a command uses.
#[derive(Clone, Debug)]
pub(crate) struct Chosen {
    pub(crate) profile: Profile,
    pub(crate) by: By,
}

/// Who chose the profile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum By {
    /// `--profile`.
    Flag,
    /// `MILENA_PROFILE`.
    Variable,
    /// `milena profile use`, some time ago.
    Current,
}

impl Config {
    /// Reads the file. None if there is no place for one.
    ///
    /// It is read once: a command acts on the cluster that was checked, even if the file changes meanwhile or is a pipe.
    pub(crate) fn read() -> Result<Option<Self>, Failure> {
        static READ: OnceLock<Option<Config>> = OnceLock::new();
        if let Some(read) = READ.get() {
            return Ok(read.clone());
        }
        let read = Self::read_anew()?;
        Ok(READ.get_or_init(|| read).clone())
    }

    fn read_anew() -> Result<Option<Self>, Failure> {
        let Some(path) = location() else { return Ok(None) };
        let Some(text) = text(&path)? else { return Ok(Some(Self { path, profiles: Profiles::default() })) };
        let profiles = Profiles::parse(&text)
            .map_err(|why| Failure::usage(format!("the profiles in {}: {why}", path.display())))?;
        let config = Self { path, profiles };
        config.warn_of_readers();
        Ok(Some(config))
    }

    /// As [`read`](Self::read), for a command that needs a place to write to.
    pub(crate) fn open() -> Result<Self, Failure> {
        let none = || Failure::usage(format!("there is no place for profiles: set HOME or {LOCATION}"));
        Self::read()?.ok_or_else(none)
    }

    /// Writes the file as a whole: another process sees the old one or the new one.
    pub(crate) fn write(&self) -> Result<(), Failure> {
        let wrong =
            |error: std::io::Error| Failure::failed(format!("cannot write {}: {error}", self.path.display()));
        let text = self.profiles.text();
        // Such a file would not be read again.
        if text.len() as u64 > TEXT_BYTES_MAX {
            let error = format!("{} would be longer than {TEXT_BYTES_MAX} bytes", self.path.display());
            return Err(Failure::usage(error)
                .hint("Remove profiles, or name files instead of writing their content."));
        }
        // The target of a link is replaced, not the link.
        let path = fs::canonicalize(&self.path).unwrap_or_else(|_| self.path.clone());
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        if let Some(parent) = parent {
            fs::create_dir_all(parent).map_err(wrong)?;
        }
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let fresh = path.with_file_name(format!(".{name}.{}", std::process::id()));
        let written = write_to(&fresh, text.as_bytes()).and_then(|()| {
            if let Ok(old) = fs::metadata(&path) {
                fs::set_permissions(&fresh, old.permissions())?;
            }
            fs::rename(&fresh, &path)
        });
        if written.is_err() {
            let _ = fs::remove_file(&fresh);
        }
        written.map_err(wrong)
    }

    /// The profile of this name.
    pub(crate) fn profile(&self, name: &str) -> Result<Profile, Failure> {
        self.profiles.profile(name).ok_or_else(|| {
            let known: Vec<_> = self.names();
            let failure = Failure::not_found(format!("{} has no profile {name:?}", self.path.display()));
            match &*known {
                [] => failure.hint("It has none; `milena profile set` makes one."),
                names => failure.hint(format!("It has {}.", names.join(", "))),
            }
        })
    }

    fn names(&self) -> Vec<String> {
        self.profiles.all().unwrap_or_default().into_iter().map(|profile| profile.name).collect()
    }

    #[cfg(unix)]
    fn warn_of_readers(&self) {
        use std::os::unix::fs::MetadataExt as _;
        let is_open = fs::metadata(&self.path).is_ok_and(|metadata| metadata.mode() & 0o077 != 0);
        let is_secret = |profile: &Profile| {
            profile.properties.iter().any(|(name, value)| secrets::is_inline(name, value))
        };
        if is_open && self.profiles.all().is_ok_and(|profiles| profiles.iter().any(is_secret)) {
            let path = self.path.display();
            tell(format_args!(
                "warning: {path} has secrets, and other users can read it; run chmod 600 {path}"
            ));
        }
    }

    #[cfg(not(unix))]
    fn warn_of_readers(&self) {}
}

/// The profile to use: of `--profile`, else of `MILENA_PROFILE`, else the current one.
pub(crate) fn chosen(flag: Option<&str>) -> Result<Option<Chosen>, Failure> {
    let variable = variable(PROFILE)?;
    let asked = flag.map(|name| (name.to_owned(), By::Flag));
    let asked = asked.or_else(|| variable.map(|name| (name, By::Variable)));
    let Some(config) = Config::read()? else {
        let missing =
            |(name, _)| Failure::not_found(format!("there is no profile {name:?}: set HOME or {LOCATION}"));
        return asked.map_or(Ok(None), |asked| Err(missing(asked)));
    };
    let current = || config.profiles.current().map(|name| (name.to_owned(), By::Current));
    let Some((name, by)) = asked.or_else(current) else { return Ok(None) };
    Ok(Some(Chosen { profile: config.profile(&name)?, by }))
}

/// Whether a profile is asked for by its name.
pub(crate) fn is_asked(flag: Option<&str>) -> Result<bool, Failure> {
    Ok(flag.is_some() || variable(PROFILE)?.is_some())
}

/// The value of a variable of the environment; none if it is empty.
pub(crate) fn variable(name: &str) -> Result<Option<String>, Failure> {
    match env::var(name) {
        Ok(value) => Ok(Some(value).filter(|value| !value.trim().is_empty())),
        Err(env::VarError::NotPresent) => Ok(None),
        Err(env::VarError::NotUnicode(_)) => Err(Failure::usage(format!("{name} is not UTF-8"))),
    }
}

/// Where the file is. XDG's base directories say that a path which is not absolute is ignored.
fn location() -> Option<PathBuf> {
    if let Some(path) = env::var_os(LOCATION) {
        return Some(PathBuf::from(path)).filter(|path| !path.as_os_str().is_empty());
    }
    let directory = env::var_os("XDG_CONFIG_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    let home = || env::var_os("HOME").or_else(|| env::var_os("USERPROFILE")).filter(|home| !home.is_empty());
    let directory = directory.or_else(|| Some(PathBuf::from(home()?).join(".config")))?;
    Some(directory.join("milena").join("config.toml"))
}

/// The text of a file; none if it does not exist. It is not read further than a limit.
pub(crate) fn text(path: &Path) -> Result<Option<String>, Failure> {
    let wrong = |why: String| Failure::failed(format!("cannot read {}: {why}", path.display()));
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(TEXT_BYTES_MAX + 1).read_to_end(&mut bytes));
    match read {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(wrong(error.to_string())),
        Ok(read) if read as u64 > TEXT_BYTES_MAX => {
            return Err(wrong(format!("it is longer than {TEXT_BYTES_MAX} bytes")).with_exit(Exit::Usage));
        }
        Ok(_) => {}
    }
    String::from_utf8(bytes).map(Some).map_err(|_| wrong("it is not UTF-8".into()).with_exit(Exit::Usage))
}

/// Writes a new file, which only its owner may read.
fn write_to(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut options = File::options();
    options.write(true).create_new(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt as _;
        options.mode(0o600);
    }
    let mut file = options.open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}
