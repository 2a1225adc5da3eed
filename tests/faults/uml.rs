//! A machine of our own: user-mode Linux, a kernel that runs as an ordinary program, on the files
//! of the host. What the host's kernel lacks is there (a network emulator, a table of millions of
//! files), and what goes wrong in it stays in it.
//!
//! A test boots a machine that runs the same test of this same program once more; inside, it does
//! what it is there for. What it prints comes back in a file, as does how it ended.

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, geteuid, kill_process_group};

use crate::tools;

/// Set inside a machine.
const INSIDE: &str = "WATERWHEEL_MACHINE";

/// What a machine may take to boot and to halt, besides what its test may take.
const OVERHEAD: Duration = Duration::from_secs(30);

/// How often the host looks whether a machine has halted.
const NAP: Duration = Duration::from_millis(50);

/// Mounts what the host's folders cannot stand for, and lifts the limits on open files. What is
/// printed reaches the host within a second or two, so that it can be watched, and is there also
/// if the machine has to be killed.
const PROLOGUE: &str = r#"
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t tmpfs tmpfs /run
load() { busybox insmod "$(find /usr/lib/uml/modules/"$(uname -r)" -name "$1.ko")"; }
machine() {
set -e
sysctl -q -w vm.dirty_writeback_centisecs=100 vm.dirty_expire_centisecs=100
sysctl -q -w fs.nr_open=4000000 fs.file-max=6000000 net.core.somaxconn=65535
ulimit -Hn 2500000
ulimit -n 2500000
ip link set lo up
"#;

/// A machine that runs one test of this program.
#[derive(Debug)]
pub(crate) struct Machine {
    /// The test's path, as the test harness knows it.
    test: &'static str,
    memory: String,
    /// Longest time that the test may take inside.
    deadline: Duration,
    /// Lines of shell, run before the test; `load NAME` loads a module of the kernel.
    setup: String,
}

impl Machine {
    pub(crate) fn new(test: &'static str, memory: &str, deadline: Duration) -> Self {
        Self { test, memory: memory.to_owned(), deadline, setup: String::new() }
    }

    pub(crate) fn setup(mut self, lines: &str) -> Self {
        self.setup.push_str(lines);
        self
    }

    /// Boots, runs the test, halts, and gives what it printed. A test that fails inside, or is not
    /// done in time, fails here, and so does one that cannot be run.
    #[track_caller]
    pub(crate) fn run(self) -> String {
        for tool in ["linux.uml", "busybox", "ip"] {
            tools::need_tool(tool);
        }
        assert!(geteuid().is_root(), "only root may read and write all that a machine does");
        let folder = self.folder();
        fs::remove_dir_all(&folder).or_else(missing_is_fine).expect("an empty folder");
        fs::create_dir_all(&folder).expect("a folder");
        self.write_init(&folder).expect("the init script");
        let is_in_time = self.boot(&folder);
        let output = fs::read_to_string(folder.join("output")).unwrap_or_default();
        let status = fs::read_to_string(folder.join("exit")).unwrap_or_default();
        assert!(is_in_time, "{}: the machine did not halt in time\n{output}", self.test);
        assert_eq!(status.trim(), "0", "{}: failed inside\n{output}", self.test);
        output
    }

    fn folder(&self) -> PathBuf {
        let name = self.test.replace("::", "-");
        Path::new(env!("CARGO_MANIFEST_DIR")).join("target/faults/machines").join(name)
    }

    fn write_init(&self, folder: &Path) -> io::Result<()> {
        let mut text = format!("#!/bin/sh\nexec >{0}/output 2>&1\n{PROLOGUE}", folder.display());
        text.push_str(&self.setup);
        let scale = std::env::var("WATERWHEEL_FAULTS").unwrap_or_default();
        let program = std::env::current_exe()?;
        let lines = format!(
            "\nexport {INSIDE}=1 WATERWHEEL_FAULTS={scale}\n\
             cd {}\n\
             exec timeout -s KILL {} {} --exact {} --include-ignored --nocapture\n}}\n\
             (machine)\n\
             echo $? >{}/exit\n\
             sync\n\
             halt -f\n",
            env!("CARGO_MANIFEST_DIR"),
            self.deadline.as_secs(),
            program.display(),
            self.test,
            folder.display(),
        );
        text.push_str(&lines);
        let path = folder.join("init");
        fs::write(&path, text)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755))
    }

    /// Whether the machine halted by itself; if not, it is killed.
    fn boot(&self, folder: &Path) -> bool {
        let console = fs::File::create(folder.join("console")).expect("a file");
        let child = Command::new("linux.uml")
            .arg(format!("mem={}", self.memory))
            .args(["root=/dev/root", "rootfstype=hostfs", "hostfs=/", "rw", "quiet", "con=null"])
            // Room in the kernel's table of connections, which it would size by memory.
            .arg("thash_entries=1048576")
            .arg(format!("init={}/init", folder.display()))
            .arg(format!("uml_dir={}", folder.display()))
            .stdin(Stdio::null())
            .stdout(console.try_clone().expect("a file"))
            .stderr(console)
            // A machine is a family of processes, to be killed together.
            .process_group(0)
            .spawn()
            .expect("linux.uml starts");
        Running(child).wait(self.deadline + OVERHEAD)
    }
}

/// A machine that is killed with all its processes when this goes.
struct Running(Child);

impl Running {
    fn wait(mut self, patience: Duration) -> bool {
        let start = Instant::now();
        while start.elapsed() < patience {
            if self.0.try_wait().expect("a child").is_some() {
                return true;
            }
            std::thread::sleep(NAP);
        }
        false
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let pid = i32::try_from(self.0.id()).expect("a process id");
        // There is none left of one that has halted.
        let _ = kill_process_group(Pid::from_raw(pid).expect("not zero"), Signal::KILL);
        let _ = self.0.wait();
    }
}

/// Whether this program runs in a machine, and the test is to do what it is there for.
pub(crate) fn is_inside() -> bool {
    std::env::var_os(INSIDE).is_some()
}

/// The lines of a table in what a machine has printed.
pub(crate) fn table(title: &str, output: &str) -> String {
    let mut text = format!("# {title}\n\n");
    for line in output.lines().filter(|line| line.starts_with('|')) {
        writeln!(text, "{line}").expect("a string");
    }
    text
}

fn missing_is_fine(error: io::Error) -> io::Result<()> {
    match error.kind() {
        io::ErrorKind::NotFound => Ok(()),
        _ => Err(error),
    }
}
