//! A restart that no client notices: the new process gets the listening sockets of the old one.

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use crate::fleet::options::invalid;
use crate::fleet::{Fleet, FleetRemote, FleetStats, Member, Spread, lock};
use crate::sys::{Before, Control, ControlWaker};

impl Fleet {
    /// Runs the fleet as [`run`](Self::run) does, until another process that is started with the
    /// same `path` takes over. No client is refused or reset by that. To install a new version,
    /// start it: the old process ends by itself.
    ///
    /// `path` is the path of a Unix socket, over which the two processes talk. A restart has three
    /// steps:
    /// 1. The new process connects to `path` and gets the listening sockets of the old process. If
    ///    no process answers there, it is the first one: it makes the socket at `path`, and begins
    ///    without listening sockets.
    /// 2. The new process runs `set_up` for each reactor. A [`Member::listen`] on an address on
    ///    which the old process listens uses that socket, with its queue of connections. Any other
    ///    address is bound. A socket of the old process that no `listen` names is closed. Sockets
    ///    of other kinds are not handed on: for UDP use
    ///    [`UdpOptions::reuse_port`](crate::udp::UdpOptions), with which both processes can bind.
    /// 3. When all its reactors are ready, the new process replaces the socket at `path` and tells
    ///    the old process. The old process drains for at most `drain`, and returns from this call.
    ///    For a moment both processes accept connections.
    ///
    /// If the new process fails before step 3, for example in `set_up`, the old process goes on and
    /// waits for another one. If two new processes start at once, the second takes over from the
    /// first. It waits until the first is ready, for at most 30 s.
    ///
    /// The default [`on_shutdown`](crate::Handler::on_shutdown) closes every connection, even if
    /// the client's first request is still on its way. To serve such a client, override
    /// `on_shutdown`: set an idle limit there, for example of two seconds, instead of closing.
    ///
    /// The socket at `path` has mode 0600, so only its owner can use it. Each side also checks the
    /// user of the other process, and refuses other users except root. The new socket replaces only
    /// a socket on which no process listens, or the socket of the old process. While a process
    /// looks at `path` and changes it, it locks the file `path.lock` (flock(2)), which is removed
    /// afterwards; a successor makes its socket at `path.new`, and renames it. So of processes that
    /// start at once none displaces another. `path` should be in a directory in which other users
    /// cannot write, such as `/run/NAME`. A thread with the name `NAME-control`
    /// ([`FleetOptions::name`]) waits at this socket.
    ///
    /// # Examples
    /// Started twice, the second process takes over:
    /// ```no_run
    /// use std::time::Duration;
    /// use waterwheel::fleet::{Fleet, FleetOptions};
    /// use waterwheel::{Conn, ListenOptions};
    ///
    /// let fleet = Fleet::new(FleetOptions::default())?;
    /// fleet.run_replaceable("/run/echo/control", Duration::from_secs(30), |member| {
    ///     let echo = member.reactor().register(|conn: &mut Conn<'_>, input: &[u8]| {
    ///         conn.write(input);
    ///         input.len()
    ///     });
    ///     member.listen("127.0.0.1:7000", echo, ListenOptions::default())?;
    ///     Ok(())
    /// })?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    /// - Those of [`run`](Self::run).
    /// - `InvalidInput`: the spread is [`Spread::ReusePort`], whose sockets cannot be handed on
    ///   without resets; or the fleet listens on more than 253 addresses.
    /// - `AlreadyExists`: there is a file at `path` that is no socket, or other processes have
    ///   taken `path` again and again.
    /// - `WouldBlock` or `TimedOut`: the process at `path` was not ready within 30 s, or another
    ///   process has held the lock for so long.
    /// - `PermissionDenied`: a process of another user answers there, or this user may not write to
    ///   the directory.
    /// - `NotFound`: the directory does not exist.
    /// - Others of the system: the file system has no Unix sockets, or no locks.
    ///
    /// # Platform notes
    /// Unix only. The user of the other process is checked on Linux and Android. Elsewhere only the
    /// modes of the socket and of its directory protect it. On macOS and the BSDs a process that
    /// waits for a successor, while 128 more ask, is not told from one that has ended.
    ///
    /// [`FleetOptions::name`]: crate::fleet::FleetOptions
    pub fn run_replaceable<F>(
        mut self,
        path: impl AsRef<Path>,
        drain: Duration,
        set_up: F,
    ) -> io::Result<FleetStats>
    where
        F: Fn(&mut Member<'_>) -> io::Result<()> + Send + Sync + 'static,
    {
        if self.options.spread == Spread::ReusePort {
            let text = "option spread is ReusePort, which cannot be replaced without resets; use \
                        Shared or HandOver";
            return Err(invalid(text));
        }
        let path = path.as_ref();
        let name = format!("{}-control", self.options.name);
        let (before, listeners) = Before::find(path)?;
        self.inherited = listeners;
        self.max_addresses = Control::MAX_SOCKETS; // or it could not be taken over from
        let fleet = self.start(set_up)?;
        let begun = Waiting::begin(path, before, name, fleet.remote(), drain);
        if begun.is_err() {
            fleet.stop(); // the old process, if there is one, serves on
        }
        let stats = fleet.join().into_result();
        begun?.end();
        stats
    }
}

/// The thread that waits for a successor.
struct Waiting {
    waker: ControlWaker,
    is_over: IsOver,
}

/// Whether no successor is waited for any more. The lock is held while the socket at the path is
/// closed, or looked for there: the number of a closed one may be that of a successor's.
type IsOver = Arc<Mutex<bool>>;

impl Waiting {
    fn begin(
        path: &Path,
        before: Before,
        name: String,
        fleet: FleetRemote,
        drain: Duration,
    ) -> io::Result<Self> {
        let (control, predecessor) = match before {
            Before::Nothing(control) => (control, None),
            Before::Predecessor(it) => (Control::bind(path, Some(&it))?, Some(it)),
        };
        let waker = control.waker();
        let is_over = IsOver::default();
        let ends = Arc::clone(&is_over);
        thread::Builder::new().name(name).spawn(move || serve(control, &fleet, drain, &ends))?;
        if let Some(predecessor) = predecessor {
            // One that has ended meanwhile needs no word.
            let _ = predecessor.dismiss();
        }
        Ok(Self { waker, is_over })
    }

    /// The fleet has ended.
    fn end(self) {
        let mut is_over = lock(&self.is_over);
        if !std::mem::replace(&mut *is_over, true) {
            // The thread is not waited for: one that has handed the sockets on may hear late that
            // its successor has failed.
            self.waker.wake();
        }
    }
}

/// Hands the sockets on to whoever asks, until one has said that it serves; then the fleet drains.
fn serve(control: Control, fleet: &FleetRemote, drain: Duration, is_over: &IsOver) {
    loop {
        let asking = control.accept();
        if *lock(is_over) {
            return;
        }
        let done = asking.and_then(|successor| successor.hand_on(&fleet.listeners()?));
        match done {
            Ok(()) => {
                log::info!("a successor serves: this process drains");
                let mut is_over = lock(is_over);
                *is_over = true;
                drop(control);
                drop(is_over);
                return fleet.drain(drain);
            }
            Err(error) => {
                log::warn!("a successor has not made it: {error}");
                // Without a descriptor, accepting fails at once, and again.
                thread::sleep(Duration::from_millis(10));
            }
        }
    }
}
