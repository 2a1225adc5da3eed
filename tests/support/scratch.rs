//! Files of a test.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::PathBuf;
use std::process;
use std::sync::atomic::{AtomicU32, Ordering};

/// A path that no other test uses.
pub(crate) fn scratch_path() -> PathBuf {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    std::env::temp_dir().join(format!("waterwheel-{}-{number}", process::id()))
}

/// A file with this in it, to read and to write, that is gone with its last descriptor.
#[track_caller]
pub(crate) fn scratch_file(bytes: &[u8]) -> File {
    let path = scratch_path();
    let mut options = OpenOptions::new();
    let mut file = options.read(true).write(true).create_new(true).open(&path).expect("a file");
    file.write_all(bytes).expect("room for a file");
    // Where an open file cannot be removed it stays.
    let _ = fs::remove_file(&path);
    file
}
