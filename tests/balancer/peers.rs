//! Real servers as processes, on free ports of loopback, from the configurations beside this file.
#![allow(dead_code)] // Each test program uses a part of it.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{self, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};
use std::{env, fs};

use crate::process::{PATIENCE, Process};

/// A directory that goes with its guard.
pub(crate) struct Dir(PathBuf);

impl Dir {
    pub(crate) fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let dir = env::temp_dir().join(format!("waterwheel-{}-{number}", process::id()));
        fs::create_dir_all(&dir).unwrap();
        Self(dir)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0); // a rest in the temporary directory does no harm
    }
}

/// Where a program of Debian's is; `None`, and a word about it, if it is not installed.
pub(crate) fn find(name: &str, package: &str) -> Option<PathBuf> {
    let mut path = env::var_os("PATH").unwrap_or_default();
    path.push(":/usr/sbin:/sbin");
    let found = env::split_paths(&path).map(|dir| dir.join(name)).find(|file| file.is_file());
    if found.is_none() {
        println!("skipped: {name} is not installed (Debian package {package})");
    }
    found
}

/// Ports that nobody listens on.
pub(crate) fn free_ports<const N: usize>() -> [u16; N] {
    let held = [(); N].map(|()| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap());
    held.map(|listener| listener.local_addr().unwrap().port())
}

pub(crate) fn local(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

/// Waits until somebody listens.
#[track_caller]
pub(crate) fn await_listener(addr: SocketAddr) {
    let start = Instant::now();
    while TcpStream::connect_timeout(&addr, PATIENCE).is_err() {
        assert!(start.elapsed() < PATIENCE, "nobody listens on {addr}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Puts what is given for each word into a configuration of this package, and writes it down.
pub(crate) fn configure(dir: &Dir, from: &str, words: &[(&str, String)]) -> PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(from);
    let mut text = fs::read_to_string(&path).unwrap();
    for (word, value) in words {
        assert!(text.contains(word), "{from} has no {word}");
        text = text.replace(word, value);
    }
    let file = dir.path(path.file_name().unwrap().to_str().unwrap());
    fs::write(&file, text).unwrap();
    file
}

/// HAProxy in the foreground.
pub(crate) fn haproxy(program: &Path, config: &Path) -> Process {
    let check = Command::new(program).arg("-c").arg("-f").arg(config).output().unwrap();
    assert!(check.status.success(), "{}", String::from_utf8_lossy(&check.stderr));
    Process::spawn(Command::new(program).arg("-db").arg("-f").arg(config))
}

/// nginx in the foreground; `None` if it cannot load what the configuration wants.
pub(crate) fn nginx(program: &Path, config: &Path, dir: &Dir) -> Option<Process> {
    let arg = |command: &mut Command| {
        command.arg("-c").arg(config).arg("-e").arg(dir.path("error.log"));
    };
    let mut check = Command::new(program);
    arg(&mut check);
    let check = check.arg("-t").stdout(Stdio::null()).output().unwrap();
    let text = String::from_utf8_lossy(&check.stderr);
    if text.contains("ngx_stream_module") {
        println!("skipped: nginx has no stream module (Debian package libnginx-mod-stream)");
        return None;
    }
    assert!(check.status.success(), "{text}");
    let mut command = Command::new(program);
    arg(&mut command);
    Some(Process::spawn(command.args(["-g", "daemon off;"])))
}
