//! A real server on a free port: started, killed with the test, started again.

use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Longest wait for a server to listen.
const PATIENCE: Duration = Duration::from_secs(30);

/// A server process; dropped, it is killed.
#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
    pub(crate) addr: SocketAddr,
    /// Files of its own, removed with it.
    dir: Option<PathBuf>,
}

impl Server {
    /// A Redis server; `None`, with a word on why, where there is none.
    pub(crate) fn redis(addr: SocketAddr) -> Option<Self> {
        let port = addr.port().to_string();
        let mut command = Command::new("redis-server");
        command.args(["--port", &port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]);
        Self::start(&mut command, addr, None)
    }

    /// An nginx with keepalive; `None` likewise.
    pub(crate) fn nginx(addr: SocketAddr) -> Option<Self> {
        let name = format!("waterwheel-nginx-{}-{}", std::process::id(), addr.port());
        let dir = std::env::temp_dir().join(name);
        fs::create_dir_all(&dir).expect("a directory");
        let text = include_str!("nginx.conf")
            .replace("PORT", &addr.port().to_string())
            .replace("DIR", dir.to_str().expect("a plain name"));
        let conf = dir.join("nginx.conf");
        fs::write(&conf, text).expect("a file");
        let path = ["/usr/sbin/nginx", "nginx"].into_iter().find(|path| is_there(path))?;
        let mut command = Command::new(path);
        command.arg("-p").arg(&dir).arg("-e").arg(dir.join("error.log")).arg("-c").arg(conf);
        Self::start(&mut command, addr, Some(dir))
    }

    fn start(command: &mut Command, addr: SocketAddr, dir: Option<PathBuf>) -> Option<Self> {
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = match command.spawn() {
            Ok(child) => child,
            Err(error) => {
                println!("skipped: {:?}: {error}", command.get_program());
                return None;
            }
        };
        let mut server = Self { child, addr, dir };
        let start = Instant::now();
        while TcpStream::connect(addr).is_err() {
            let ended = server.child.try_wait().expect("it can be asked");
            assert!(ended.is_none() && start.elapsed() < PATIENCE, "{command:?}: {ended:?}");
            std::thread::yield_now();
        }
        Some(server)
    }

    /// Kills it, as a crash would, and waits until it is gone.
    pub(crate) fn kill(&mut self) {
        self.child.kill().expect("it runs");
        self.child.wait().expect("it ends");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It has ended already, perhaps.
        self.end_politely();
        let _ = self.child.kill();
        let _ = self.child.wait();
        if let Some(dir) = &self.dir {
            let _ = fs::remove_dir_all(dir);
        }
    }
}

impl Server {
    /// A killed nginx would leave its workers.
    fn end_politely(&mut self) {
        if self.dir.is_none() || !matches!(self.child.try_wait(), Ok(None)) {
            return;
        }
        let id = self.child.id().to_string();
        let _ = Command::new("kill").args(["-TERM", &id]).status();
        let start = Instant::now();
        while matches!(self.child.try_wait(), Ok(None)) && start.elapsed() < PATIENCE {
            std::thread::yield_now();
        }
    }
}

fn is_there(program: &str) -> bool {
    let silent = Command::new(program).arg("-v").stderr(Stdio::null()).status();
    let is_there = silent.is_ok();
    if !is_there {
        println!("no {program}; what wants it is skipped");
    }
    is_there
}

/// An address that was free a moment ago.
pub(crate) fn free_addr() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("an address")
}
