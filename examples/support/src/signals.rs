//! SIGINT and SIGTERM: the first drains the reactor, the second ends the process at once,
//! with exit code 1: what was under way is cut. SIGXFSZ is an error of the write it comes with.

use std::io;
use std::time::Duration;

use waterwheel::Reactor;
use waterwheel::fleet::Fleet;

/// Drains the reactor when the process is asked to end; what is left after `deadline` is cut.
///
/// The handler writes into a pipe that the reactor watches, so there is no second thread: with
/// one, glibc takes a longer way through every system call.
#[cfg(unix)]
pub fn drain_on_signals(reactor: &mut Reactor, deadline: Duration) -> io::Result<()> {
    reactor.drain_when_readable(bell()?, deadline)
}

/// Drains all reactors of a fleet when the process is asked to end.
#[cfg(unix)]
pub fn drain_fleet_on_signals(fleet: &mut Fleet, deadline: Duration) -> io::Result<()> {
    fleet.drain_when_readable(bell()?, deadline);
    Ok(())
}

/// A descriptor that becomes readable at the first signal.
#[cfg(unix)]
fn bell() -> io::Result<std::os::fd::OwnedFd> {
    use std::os::unix::net::UnixStream;
    use std::sync::Arc;
    use std::sync::atomic::AtomicBool;

    use signal_hook::consts::{SIGINT, SIGTERM, SIGXFSZ};
    use signal_hook::{flag, low_level};

    // A file at the limit of its size (`ulimit -f`) must not end the process, which is what this
    // signal does: once it is caught, the write fails with EFBIG.
    flag::register(SIGXFSZ, Arc::default())?;
    let (reader, writer) = UnixStream::pair()?;
    let is_second = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        flag::register_conditional_shutdown(signal, 1, Arc::clone(&is_second))?;
        flag::register(signal, Arc::clone(&is_second))?;
        low_level::pipe::register(signal, writer.try_clone()?)?;
    }
    Ok(reader.into())
}

/// Drains the reactor through a thread, which the system starts anyway.
#[cfg(windows)]
pub fn drain_on_signals(reactor: &mut Reactor, deadline: Duration) -> io::Result<()> {
    let remote = reactor.remote();
    ctrlc::set_handler(move || {
        if remote.drain(deadline).is_err() {
            std::process::exit(1);
        }
    })
    .map_err(io::Error::other)
}

/// On Windows a fleet ends as the system ends it.
#[cfg(windows)]
pub fn drain_fleet_on_signals(_: &mut Fleet, _: Duration) -> io::Result<()> {
    Ok(())
}
