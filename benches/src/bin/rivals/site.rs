//! Servers as processes: where they run, how long they have run, and their end.

use std::env;
use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{self, Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::contests::{Contest, Server};
use crate::loads::dns;

/// How long a process may take to listen.
const PATIENCE: Duration = Duration::from_secs(10);

/// Ticks a second of the times in `/proc/PID/stat`: USER_HZ, which is the same on all machines
/// that have a /proc as read here.
const TICKS: u64 = 100;

/// What is needed to start servers.
pub(crate) struct Site {
    /// Where the examples are.
    folder: PathBuf,
    /// Commands that put something right and become the program named after them.
    prefix: Vec<&'static str>,
    is_pinned: bool,
    /// The DNS server that forwarders ask.
    dns_server: SocketAddr,
    /// For mosquitto's configuration and what strace counts.
    scratch: PathBuf,
}

impl Site {
    /// An error if a program is missing.
    pub(crate) fn new(contests: &[&Contest]) -> io::Result<Self> {
        let folder = env::current_exe()?.parent().map(PathBuf::from).unwrap_or_default();
        let scratch = env::temp_dir().join(format!("waterwheel-rivals-{}", process::id()));
        fs::create_dir_all(&scratch)?;
        let mut site = Self {
            folder,
            prefix: Vec::new(),
            is_pinned: false,
            dns_server: (Ipv4Addr::LOCALHOST, 0).into(),
            scratch,
        };
        let servers = contests.iter().flat_map(|contest| &contest.servers);
        let missing: Vec<String> = servers.filter_map(|server| site.missing(server)).collect();
        if !missing.is_empty() {
            return Err(io::Error::other(missing.join("; ")));
        }
        // A process must not outlive a parent that was killed and could not see to it.
        let with_parent = ["setpriv", "--pdeathsig", "KILL"];
        if succeeds(&[&with_parent[..], &["true"]].concat()) {
            site.prefix.extend(with_parent);
        }
        let (cpu_0, own_id) = (["taskset", "-c", "0"], process::id().to_string());
        site.is_pinned = thread::available_parallelism()?.get() > 1
            && succeeds(&[&cpu_0[..], &["true"]].concat())
            && succeeds(&["taskset", "-p", "-c", "1", &own_id]);
        if site.is_pinned {
            site.prefix.extend(cpu_0);
        }
        site.dns_server = dns::serve()?; // beside the load
        Ok(site)
    }

    pub(crate) fn is_pinned(&self) -> bool {
        self.is_pinned
    }

    pub(crate) fn dns_server(&self) -> SocketAddr {
        self.dns_server
    }

    pub(crate) fn scratch(&self) -> &Path {
        &self.scratch
    }

    /// Writes a configuration with defaults but for where it listens, and without Nagle's
    /// algorithm, with which each window would wait for a delayed acknowledgement. Returns its
    /// path.
    pub(crate) fn mosquitto_config(&self, addr: SocketAddr) -> String {
        let path = self.scratch.join("mosquitto.conf");
        let text = format!(
            "listener {} 127.0.0.1\nallow_anonymous true\npersistence false\nlog_type none\n\
             user root\nset_tcp_nodelay true\n",
            addr.port()
        );
        // Without it mosquitto does not start, which is told then.
        let _ = fs::write(&path, text);
        path.display().to_string()
    }

    /// Starts a server, and waits until it listens.
    pub(crate) fn start(&self, server: &Server) -> io::Result<Process> {
        let addr = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
        let program = self.find(server).ok_or_else(|| io::Error::other("it is gone"))?;
        let mut words = self.prefix.iter().map(Path::new).chain([&*program]);
        let first = words.next().expect("the program is one of the words");
        let child = Command::new(first)
            .args(words)
            .args((server.args)(self, addr))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        let process = Process { child, addr };
        let began = Instant::now();
        while let Err(error) = TcpStream::connect(addr) {
            if began.elapsed() > PATIENCE {
                let text = format!("{} does not listen at {addr}: {error}", program.display());
                return Err(io::Error::other(text));
            }
            thread::sleep(Duration::from_millis(5));
        }
        Ok(process)
    }

    fn find(&self, server: &Server) -> Option<PathBuf> {
        let folders: &[&Path] = match server.package {
            None => &[&self.folder],
            Some(_) => &[Path::new("/usr/bin"), Path::new("/usr/sbin")],
        };
        folders.iter().map(|folder| folder.join(server.name)).find(|path| path.is_file())
    }

    fn missing(&self, server: &Server) -> Option<String> {
        if self.find(server).is_some() {
            return None;
        }
        let (name, folder) = (server.name, self.folder.display());
        Some(match server.package {
            Some(package) => format!("{name} is not installed (Debian package {package})"),
            None => format!("{name} is not in {folder}: cargo build --release -p {name}"),
        })
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.scratch);
    }
}

/// A server that runs; it is killed and waited for when this is dropped.
pub(crate) struct Process {
    child: Child,
    /// Where it listens.
    pub(crate) addr: SocketAddr,
}

impl Process {
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Whether another process traces all its threads.
    pub(crate) fn is_traced(&self) -> io::Result<bool> {
        let mut is_traced = true;
        for task in fs::read_dir(format!("/proc/{}/task", self.id()))? {
            // A thread may end meanwhile.
            let text = fs::read_to_string(task?.path().join("status")).unwrap_or_default();
            is_traced &= !text.contains("TracerPid:\t0\n");
        }
        Ok(is_traced)
    }

    /// The processor time of all its threads, those that have ended among them.
    pub(crate) fn cpu_time(&self) -> io::Result<Duration> {
        let text = fs::read_to_string(format!("/proc/{}/stat", self.id()))?;
        let bad = || io::Error::other(format!("/proc/PID/stat is {text:?}"));
        // The name of the program stands in brackets, and may have anything in it.
        let (_, fields) = text.rsplit_once(')').ok_or_else(bad)?;
        let times = fields.split_whitespace().skip(11).take(2);
        let ticks: Option<u64> = times.map(|field| field.parse::<u64>().ok()).sum();
        Ok(Duration::from_millis(ticks.ok_or_else(bad)? * 1000 / TICKS))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail only if the process is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Whether a command is there and content.
fn succeeds(words: &[&str]) -> bool {
    let mut command = Command::new(words[0]);
    command.args(&words[1..]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}
