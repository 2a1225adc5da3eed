//! The proxies and the echo server behind them as processes: where they run, and their end.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::io::{self, BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{self, Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// How long a process may take to listen.
const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Clone, Copy)]
pub(crate) enum Proxy {
    Haproxy,
    Waterwheel,
}

impl Proxy {
    /// The first is what the other is compared with.
    pub(crate) const ALL: [Self; 2] = [Self::Haproxy, Self::Waterwheel];
}

/// The echo server, and what is needed to start a proxy before it.
pub(crate) struct Site {
    haproxy: PathBuf,
    own: PathBuf,
    /// Commands that put something right and become the program named after them.
    prefix: Vec<&'static str>,
    echo: Process,
    /// HAProxy's configuration.
    config: PathBuf,
    is_pinned: bool,
}

impl Site {
    /// `None`, and a word about it, if there is no HAProxy.
    pub(crate) fn new() -> io::Result<Option<Self>> {
        let places = ["/usr/sbin/haproxy", "/usr/local/sbin/haproxy", "/usr/bin/haproxy"];
        let Some(haproxy) = places.iter().map(PathBuf::from).find(|file| file.is_file()) else {
            println!("skipped: HAProxy is not installed (Debian package haproxy)");
            return Ok(None);
        };
        let program = env::current_exe()?;
        let own = program.with_file_name("proxy");
        if !own.is_file() {
            let text = format!("{own:?} is not there: cargo build --release -p proxy");
            return Err(io::Error::other(text));
        }
        let mut prefix = Vec::new();
        // A process must not outlive a parent that was killed and could not see to it.
        let with_parent = ["setpriv", "--pdeathsig", "KILL"];
        if succeeds(&[&with_parent[..], &["true"]].concat()) {
            prefix.extend(with_parent);
        }
        let cpu_0 = ["taskset", "-c", "0"];
        let own_id = process::id().to_string();
        let is_pinned = thread::available_parallelism()?.get() > 1
            && succeeds(&[&cpu_0[..], &["true"]].concat())
            && succeeds(&["taskset", "-p", "-c", "1", &own_id]);
        // The echo server stays beside the load, so that it takes nothing from the proxy.
        let mut echo = spawn(&prefix, &program, &["serve".into()], Stdio::piped())?;
        let output = echo.0.stdout.take().expect("standard output is piped");
        let mut line = String::new();
        BufReader::new(output).read_line(&mut line)?;
        let no_addr = |_| io::Error::other("the echo server did not start");
        let addr = line.trim().parse().map_err(no_addr)?;
        if is_pinned {
            prefix.extend(cpu_0);
        }
        let config = env::temp_dir().join(format!("waterwheel-bench-{own_id}.cfg"));
        let echo = Process { child: echo, addr };
        Ok(Some(Self { haproxy, own, prefix, echo, config, is_pinned }))
    }

    pub(crate) fn is_pinned(&self) -> bool {
        self.is_pinned
    }

    /// Starts a proxy before the echo server, and waits until it listens.
    pub(crate) fn start(&self, proxy: Proxy) -> io::Result<Process> {
        let addr = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
        let (program, args): (&Path, Vec<OsString>) = match proxy {
            Proxy::Haproxy => {
                self.write_config(addr)?;
                (&self.haproxy, vec!["-db".into(), "-f".into(), self.config.clone().into()])
            }
            Proxy::Waterwheel => {
                let (listen, connect) = (addr.to_string(), self.echo.addr.to_string());
                let args = ["--listen".into(), listen.into(), "--connect".into(), connect.into()];
                (&self.own, args.into())
            }
        };
        let child = spawn(&self.prefix, program, &args, Stdio::null())?;
        let began = Instant::now();
        while let Err(error) = TcpStream::connect(addr) {
            if began.elapsed() > PATIENCE {
                return Err(error);
            }
            thread::sleep(Duration::from_millis(5));
        }
        Ok(Process { child, addr })
    }

    /// Nothing but what TCP mode needs; an idle timeout on both, as the other proxy has.
    fn write_config(&self, addr: SocketAddr) -> io::Result<()> {
        let echo = self.echo.addr;
        let mut file = fs::File::create(&self.config)?;
        write!(
            file,
            "global\n    nbthread 1\n    maxconn 4000\n\
             defaults\n    mode tcp\n    timeout connect 5s\n    timeout client 300s\n    \
             timeout server 300s\n\
             listen proxy\n    bind {addr}\n    server echo {echo}\n"
        )
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.config); // it may not have been written
    }
}

/// A process that runs; it is killed and waited for when this is dropped.
pub(crate) struct Process {
    child: Reaped,
    /// Where it listens.
    pub(crate) addr: SocketAddr,
}

impl Process {
    /// The processor time that all its threads have had.
    pub(crate) fn cpu_time(&self) -> io::Result<Duration> {
        let mut nanos = 0;
        for task in fs::read_dir(format!("/proc/{}/task", self.child.0.id()))? {
            let text = fs::read_to_string(task?.path().join("schedstat"))?;
            let field = text.split_whitespace().next().and_then(|text| text.parse::<u64>().ok());
            nanos += field.ok_or_else(|| io::Error::other("schedstat has no figure"))?;
        }
        Ok(Duration::from_nanos(nanos))
    }
}

struct Reaped(Child);

impl Drop for Reaped {
    fn drop(&mut self) {
        // Both fail only if the process is gone already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn spawn(prefix: &[&str], program: &Path, args: &[OsString], out: Stdio) -> io::Result<Reaped> {
    let mut words = prefix.iter().map(Path::new).chain([program]);
    let first = words.next().expect("the program is one of the words");
    let mut command = Command::new(first);
    command.args(words).args(args).stdin(Stdio::null()).stdout(out).stderr(Stdio::null());
    command.spawn().map(Reaped)
}

/// Whether a command is there and content.
fn succeeds(words: &[&str]) -> bool {
    let mut command = Command::new(words[0]);
    command.args(&words[1..]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}
