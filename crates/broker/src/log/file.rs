//! Reads and writes at a position, and the replacement of whole files.
//!
//! No function moves the file's cursor, so readers and the writer can share one handle.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::path::Path;

/// Reads `buffer.len()` bytes at `position`, or fewer at the end of the file. Returns how many.
pub(crate) fn read_at(file: &File, buffer: &mut [u8], position: u64) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match read_some(file, &mut buffer[filled..], position + filled as u64) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// Writes all of `bytes` at `position`.
pub(crate) fn write_at(file: &File, mut bytes: &[u8], mut position: u64) -> io::Result<()> {
    while !bytes.is_empty() {
        match write_some(file, bytes, position) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(count) => {
                bytes = &bytes[count..];
                position += count as u64;
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(unix)]
fn read_some(file: &File, buffer: &mut [u8], position: u64) -> io::Result<usize> {
    std::os::unix::fs::FileExt::read_at(file, buffer, position)
}

#[cfg(unix)]
fn write_some(file: &File, bytes: &[u8], position: u64) -> io::Result<usize> {
    std::os::unix::fs::FileExt::write_at(file, bytes, position)
}

#[cfg(windows)]
fn read_some(file: &File, buffer: &mut [u8], position: u64) -> io::Result<usize> {
    std::os::windows::fs::FileExt::seek_read(file, buffer, position)
}

#[cfg(windows)]
fn write_some(file: &File, bytes: &[u8], position: u64) -> io::Result<usize> {
    std::os::windows::fs::FileExt::seek_write(file, bytes, position)
}

/// Replaces the file at `path`. A crash at any moment leaves the old content or the new one, never a mixture: the new
/// content is written beside it and synced, then the file is renamed and the directory is synced.
pub(crate) fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    replace_by(File::options().write(true).create(true).truncate(true), path, content)
}

/// The same for a file that only its owner may read.
pub(crate) fn replace_private(path: &Path, content: &[u8]) -> io::Result<()> {
    // An older file beside it, which a crash has left, keeps the permissions that it has.
    let _ = fs::remove_file(path.with_added_extension("tmp"));
    let mut options = File::options();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    replace_by(&options, path, content)
}

fn replace_by(options: &OpenOptions, path: &Path, content: &[u8]) -> io::Result<()> {
    let beside = path.with_added_extension("tmp");
    let mut file = options.open(&beside)?;
    file.write_all(content)?;
    file.sync_all()?;
    drop(file);
    fs::rename(&beside, path)?;
    sync_dir(path.parent().unwrap_or(Path::new(".")))
}

/// Replaces a file that can be made again from other files. Readers see the old content or the new one, but a power cut
/// may lose the file.
pub(crate) fn replace_derived(path: &Path, content: &[u8]) -> io::Result<()> {
    let beside = path.with_added_extension("tmp");
    fs::write(&beside, content)?;
    fs::rename(&beside, path)
}

/// Makes renames and new names in a directory durable.
pub(crate) fn sync_dir(path: &Path) -> io::Result<()> {
    // Windows cannot open a directory as a file, and has no need to sync it.
    if cfg!(unix) { File::open(path)?.sync_all() } else { Ok(()) }
}
