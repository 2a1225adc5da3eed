//! HAProxy's own figures, from its socket.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::process::PATIENCE;

pub(crate) struct Socket(pub(crate) PathBuf);

impl Socket {
    /// Waits until it is there: its proxies listen a moment earlier.
    #[track_caller]
    pub(crate) fn wait(&self) {
        let start = Instant::now();
        while UnixStream::connect(&self.0).is_err() {
            assert!(start.elapsed() < PATIENCE, "{} does not come", self.0.display());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// One field of one line of `show stat`: of a proxy, and in it of a server or `FRONTEND`.
    #[track_caller]
    pub(crate) fn field(&self, proxy: &str, server: &str, name: &str) -> String {
        let mut stream = UnixStream::connect(&self.0).unwrap();
        stream.write_all(b"show stat\n").unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        let mut lines = text.trim_start_matches("# ").lines();
        let names = lines.next().unwrap();
        let place = names.split(',').position(|found| found == name).expect(names);
        let begin = format!("{proxy},{server},");
        let line = lines.find(|line| line.starts_with(&begin)).expect(&text);
        line.split(',').nth(place).unwrap().to_owned()
    }
}
