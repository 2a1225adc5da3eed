//! A restart that no client notices: the new process gets the listening sockets of the old one.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread;
use std::time::Duration;

use crate::fleet::options::invalid;
use crate::fleet::{Fleet, FleetRemote, FleetStats, Member, Spread};
use crate::sys::{Control, ControlWaker, Predecessor};

impl Fleet {
    /// Runs the fleet as [`run`](Self::run) does, until a process that is started later with the
    /// same `path` takes over. No client is refused or reset meanwhile. To install a new version,
    /// start it: the old process ends by itself.
    ///
    /// `path` is the path of a Unix socket, over which the two processes talk. What happens:
    /// 1. The new process finds the old one at `path` and gets its listening sockets, or begins
    ///    anew if there is no process.
    /// 2. It runs `set_up` for each reactor. A [`Member::listen`] on an address that the old
    ///    process listens on uses its socket, with the same queue of connections; another address
    ///    is bound. An address of the old process that no `listen` names is closed.
    /// 3. When all reactors are ready the new process takes `path` over and tells the old one,
    ///    which drains for at most `drain` and returns from this call. Both accept for a moment.
    ///
    /// If the new process fails before that, in `set_up` for example, the old one serves on, and
    /// waits for another. If two new processes start at once, the second takes over from the first.
    ///
    /// The default [`on_shutdown`](crate::Handler::on_shutdown) closes every connection, even if
    /// the client's first request is still on its way. To serve such a client, override
    /// `on_shutdown`, and set an idle limit there, for example of two seconds, in place of closing.
    ///
    /// Only its owner can use the socket at `path` (mode 0600), and each side checks the user of
    /// the other process: a process of another user, except root, is refused. The new socket
    /// replaces only one without a listening process, or that of the process whose sockets it got.
    /// Put it in a directory in which other users cannot write, such as `/run/NAME`. A thread of
    /// the process, `NAME-control`, waits there.
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
    ///   without resets.
    /// - `AlreadyExists`: something that is no socket is at `path`.
    /// - `PermissionDenied`: a process of another user's answers there, or the directory is not
    ///   this user's to write to.
    ///
    /// # Platform notes
    /// Unix only. The user of the other process is checked on Linux and Android. Elsewhere only the
    /// modes of the socket and of its directory protect it.
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
        let predecessor = match Predecessor::ask(path)? {
            Some((predecessor, listeners)) => {
                self.inherited = listeners;
                Some(predecessor)
            }
            None => None,
        };
        let fleet = self.start(set_up)?;
        let begun = Waiting::begin(path, predecessor, name, fleet.remote(), drain);
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
    is_over: Arc<AtomicBool>,
}

impl Waiting {
    fn begin(
        path: &Path,
        predecessor: Option<Predecessor>,
        name: String,
        fleet: FleetRemote,
        drain: Duration,
    ) -> io::Result<Self> {
        let control = Control::bind(path, predecessor.as_ref())?;
        let waker = control.waker();
        let is_over = Arc::new(AtomicBool::new(false));
        let ends = Arc::clone(&is_over);
        thread::Builder::new().name(name).spawn(move || serve(&control, &fleet, drain, &ends))?;
        if let Some(predecessor) = predecessor {
            // One that has ended meanwhile needs no word.
            let _ = predecessor.dismiss();
        }
        Ok(Self { waker, is_over })
    }

    /// The fleet has ended.
    fn end(self) {
        self.is_over.store(true, SeqCst);
        // The thread is not waited for: one that has handed the sockets on may hear late that its
        // successor has failed.
        self.waker.wake();
    }
}

/// Hands the sockets on to whoever asks, until one has said that it serves; then the fleet drains.
fn serve(control: &Control, fleet: &FleetRemote, drain: Duration, is_over: &AtomicBool) {
    loop {
        let asking = control.accept();
        if is_over.load(SeqCst) {
            return;
        }
        let done = asking.and_then(|successor| successor.hand_on(&fleet.listeners()?));
        match done {
            Ok(()) => {
                log::info!("a successor serves: this process drains");
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
