//! Unix sockets: what becomes of their files, who may connect, and every way a connection goes.

mod datagram_files;
mod datagrams;
mod dial;
mod files;
mod lost_peers;
mod peers;
mod post;
#[cfg(target_os = "linux")]
mod slow_receivers;
mod streams;

use std::fs;
use std::io;
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use waterwheel::ConnId;
use waterwheel::unix::{UnixAddr, UnixListenOptions};

use crate::support::{Client, PATIENCE, Rig, Script};

/// A folder of the test's own; goes with it.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("ww-unix-{}-{}", std::process::id(), COUNT.fetch_add(1, Relaxed));
        let path = std::env::temp_dir().join(name);
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A rig that listens on a path as well.
#[track_caller]
fn rig_at(path: &Path, script: Script) -> Rig {
    let mut rig = Rig::new(script);
    listen(&mut rig, path).unwrap();
    rig
}

fn listen(rig: &mut Rig, addr: impl Into<UnixAddr>) -> io::Result<UnixAddr> {
    rig.reactor.listen_unix(addr, rig.service, UnixListenOptions::default())
}

fn own_uid() -> u32 {
    let folder = Folder::new();
    fs::metadata(&folder.0).unwrap().uid()
}

/// The client's calls are those of a TCP stream.
fn client_of(stream: UnixStream) -> Client {
    let stream = TcpStream::from(OwnedFd::from(stream));
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    Client { stream }
}

/// A client that has been accepted, and its connection.
#[track_caller]
fn client_at(rig: &mut Rig, path: &Path) -> (Client, ConnId) {
    let before = rig.journal.opened().len();
    let client = client_of(UnixStream::connect(path).unwrap());
    rig.until("accepted", |rig| rig.journal.opened().len() > before);
    (client, rig.journal.last())
}

#[track_caller]
fn expect_echo(rig: &mut Rig, path: &Path) {
    let (mut client, _) = client_at(rig, path);
    client.send(b"hello");
    rig.expect(&mut client, b"hello");
}

/// A listener that accepts nobody, and so many clients that no other one finds room.
fn with_full_queue(path: &Path) -> (UnixListener, Vec<OwnedFd>) {
    use socket2::{Domain, SockAddr, Socket, Type};
    let addr = SockAddr::unix(path).unwrap();
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
    socket.bind(&addr).unwrap();
    socket.listen(0).unwrap();
    let mut clients = Vec::new();
    loop {
        let client = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
        client.set_nonblocking(true).unwrap();
        if client.connect(&addr).is_err() {
            return (OwnedFd::from(socket).into(), clients);
        }
        clients.push(client.into());
    }
}
