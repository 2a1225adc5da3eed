//! The operating system, through mio, socket2 and rustix.

mod affinity;
#[cfg(all(feature = "batch", target_os = "linux", not(mio_unsupported_force_poll_poll)))]
mod batch;
mod credentials;
mod datagram;
mod multicast;
mod resolve;
mod sendfile;
mod sock_diag;
#[cfg(unix)]
mod unix;
mod unregistered;

use std::fs::File;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use mio::event::Source;
use mio::{Interest, Token};
use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};

use super::{Backlog, Shortage};
use crate::options::{ConnectOptions, Keepalive, ListenOptions, TcpOptions};

pub(crate) use affinity::{allowed_cores, pin_to};
#[cfg(all(feature = "batch", target_os = "linux", not(mio_unsupported_force_poll_poll)))]
pub(super) use batch::{receive_batch, send_batch, send_segments, sends_segments};
pub use credentials::Credentials;
pub(super) use datagram::{
    DatagramSocket, bind_udp, connect_udp, is_let_go, join, leave, receive_from, send_to, watch,
};
pub(super) use mio::Events;
pub(super) use mio::Poll as Poller;
pub(super) use mio::Waker;
pub(super) use mio::event::Event;
pub(super) use mio::net::{TcpListener as Listener, TcpStream as Stream};
pub(crate) use resolve::Answer;
pub(super) use resolve::resolve;
pub(crate) use sendfile::{FileSink, range_of};
#[cfg(unix)]
pub(crate) use unix::UnixDatagrams;
#[cfg(unix)]
pub(crate) use unix::{Local, not_handed_on};
#[cfg(unix)]
pub use unix::{receive_listeners, send_listeners};
pub(crate) use unregistered::Loose;

/// Targets where mio hands edges through from epoll or kqueue instead of emulating them.
pub(super) const EDGES_ARE_NATIVE: bool = cfg!(all(
    any(
        target_os = "linux",
        target_os = "android",
        target_os = "macos",
        target_os = "ios",
        target_os = "freebsd",
        target_os = "netbsd",
        target_os = "openbsd",
        target_os = "dragonfly",
    ),
    not(mio_unsupported_force_poll_poll)
));

/// Linux copies the listener's socket options to the accepted socket; others promise no such
/// thing for all of them.
pub(super) const OPTIONS_ARE_INHERITED: bool =
    cfg!(any(target_os = "linux", target_os = "android"));

pub(super) fn connect(addr: SocketAddr, options: &ConnectOptions) -> io::Result<Stream> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    set_options(&socket, &options.tcp)?;
    if let Some(source) = options.source {
        socket.bind(&source.into()).map_err(|error| {
            let text = format!("cannot use {source} as the source address: {error}");
            io::Error::new(error.kind(), text)
        })?;
    }
    match socket.connect(&addr.into()) {
        Err(error) if !is_in_progress(&error) => Err(error),
        _ => Ok(Stream::from_std(socket.into())),
    }
}

/// The standard library's keys for hashing are random.
pub(super) fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}

#[cfg(unix)]
pub(super) fn is_in_progress(error: &io::Error) -> bool {
    error.raw_os_error() == Some(rustix::io::Errno::INPROGRESS.raw_os_error())
}

#[cfg(not(unix))]
fn is_in_progress(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::WouldBlock
}

/// See the notes at `mio::net::TcpStream::connect`: an error first, then whether there is a peer.
pub(super) fn connected(stream: &Stream) -> Option<io::Result<()>> {
    match stream.take_error() {
        Ok(Some(error)) | Err(error) => return Some(Err(error)),
        Ok(None) => {}
    }
    // Of whichever family.
    match SockRef::from(stream).peer_addr() {
        Ok(_) => Some(Ok(())),
        Err(error) if error.kind() == io::ErrorKind::NotConnected => None,
        Err(error) if is_in_progress(&error) => None,
        Err(error) => Some(Err(error)),
    }
}

/// One read. The system is called directly: libc looks at each call whether the thread may be
/// cancelled, which costs more than the rest of the way in a process with more than one thread.
/// mio need not know, since it hands native edges through.
#[cfg(all(any(target_os = "linux", target_os = "android"), not(mio_unsupported_force_poll_poll)))]
#[inline(always)]
pub(super) fn receive(stream: &mut Stream, buffer: &mut [u8]) -> io::Result<usize> {
    Ok(rustix::net::recv(stream, buffer, rustix::net::RecvFlags::empty())?.1)
}

/// One write, likewise. A peer that is gone is an error of the write and no signal.
#[cfg(all(any(target_os = "linux", target_os = "android"), not(mio_unsupported_force_poll_poll)))]
#[inline(always)]
pub(super) fn send(stream: &mut Stream, bytes: &[u8]) -> io::Result<usize> {
    Ok(rustix::net::send(stream, bytes, rustix::net::SendFlags::NOSIGNAL)?)
}

/// One write of several parts, likewise.
#[cfg(all(any(target_os = "linux", target_os = "android"), not(mio_unsupported_force_poll_poll)))]
pub(super) fn send_vectored(stream: &mut Stream, parts: &[io::IoSlice<'_>]) -> io::Result<usize> {
    let mut ancillary = rustix::net::SendAncillaryBuffer::default();
    let flags = rustix::net::SendFlags::NOSIGNAL;
    Ok(rustix::net::sendmsg(stream, parts, &mut ancillary, flags)?)
}

/// One write of several parts.
#[cfg(any(not(any(target_os = "linux", target_os = "android")), mio_unsupported_force_poll_poll))]
pub(super) fn send_vectored(stream: &mut Stream, parts: &[io::IoSlice<'_>]) -> io::Result<usize> {
    io::Write::write_vectored(stream, parts)
}

/// One read.
#[cfg(any(not(any(target_os = "linux", target_os = "android")), mio_unsupported_force_poll_poll))]
pub(super) fn receive(stream: &mut Stream, buffer: &mut [u8]) -> io::Result<usize> {
    io::Read::read(stream, buffer)
}

/// One write.
#[cfg(any(not(any(target_os = "linux", target_os = "android")), mio_unsupported_force_poll_poll))]
pub(super) fn send(stream: &mut Stream, bytes: &[u8]) -> io::Result<usize> {
    io::Write::write(stream, bytes)
}

pub(super) fn reset_on_close(stream: &Stream) -> io::Result<()> {
    SockRef::from(stream).set_linger(Some(Duration::ZERO))
}

/// Sets every option that is given, each by one call.
pub(super) fn set_options<'a>(
    socket: impl Into<SockRef<'a>>,
    options: &TcpOptions,
) -> io::Result<()> {
    let socket = socket.into();
    socket.set_tcp_nodelay(options.nodelay)?;
    if let Some(keepalive) = &options.keepalive {
        set_keepalive(&socket, keepalive)?;
    }
    #[cfg(any(target_os = "linux", target_os = "android"))]
    if options.user_timeout.is_some() {
        socket.set_tcp_user_timeout(options.user_timeout)?;
    }
    if let Some(bytes) = options.send_buffer_bytes {
        socket.set_send_buffer_size(bytes)?;
    }
    if let Some(bytes) = options.receive_buffer_bytes {
        socket.set_recv_buffer_size(bytes)?;
    }
    if options.linger.is_some() {
        socket.set_linger(options.linger)?;
    }
    Ok(())
}

fn set_keepalive(socket: &SockRef<'_>, keepalive: &Keepalive) -> io::Result<()> {
    let times = TcpKeepalive::new().with_time(keepalive.idle);
    #[cfg(not(any(target_os = "openbsd", target_os = "haiku", target_os = "vita")))]
    let times = times.with_interval(keepalive.interval).with_retries(keepalive.probes);
    match socket.set_tcp_keepalive(&times) {
        // Before version 1703 of Windows 10, and so on Windows Server 2016, the count is fixed at
        // ten. It is set last: the times are set by then.
        Err(error) if cfg!(windows) && error.raw_os_error() == Some(NO_SUCH_OPTION) => Ok(()),
        result => result,
    }
}

/// `WSAENOPROTOOPT`, for which there is no kind.
const NO_SUCH_OPTION: i32 = 10042;

/// The largest backlog that listen(2) can be asked for; the system lowers it to its own cap.
const LARGEST_BACKLOG: i32 = i32::MAX;

/// What listen(2) is asked for.
pub(super) fn backlog(asked: Option<u32>) -> i32 {
    asked.map_or(LARGEST_BACKLOG, |backlog| i32::try_from(backlog).unwrap_or(LARGEST_BACKLOG))
}

pub(super) fn bind(addr: SocketAddr, options: &ListenOptions) -> io::Result<(Listener, Backlog)> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    socket.set_reuse_address(options.reuse_address)?;
    if options.reuse_port {
        set_reuse_port(&socket)?;
    }
    if let (Some(only_v6), true) = (options.only_v6, addr.is_ipv6()) {
        socket.set_only_v6(only_v6)?;
    }
    // Buffer sizes govern the window scale, which is agreed in the handshake: set them first.
    set_options(&socket, &options.tcp)?;
    socket.bind(&addr.into())?;
    socket.listen(backlog(options.backlog))?;
    let backlog = Backlog { asked: options.backlog, system_most: largest_backlog() };
    Ok((Listener::from_std(socket.into()), backlog))
}

#[cfg(all(unix, not(any(target_os = "solaris", target_os = "illumos", target_os = "cygwin"))))]
fn set_reuse_port(socket: &Socket) -> io::Result<()> {
    socket.set_reuse_port(true)
}

#[cfg(not(all(
    unix,
    not(any(target_os = "solaris", target_os = "illumos", target_os = "cygwin"))
)))]
fn set_reuse_port(_: &Socket) -> io::Result<()> {
    let text = "option reuse_port is true; this platform has no SO_REUSEPORT, leave it false";
    Err(io::Error::new(io::ErrorKind::Unsupported, text))
}

#[cfg(any(target_os = "linux", target_os = "android"))]
pub(super) fn largest_backlog() -> Option<u32> {
    std::fs::read_to_string("/proc/sys/net/core/somaxconn").ok()?.trim().parse().ok()
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub(super) fn largest_backlog() -> Option<u32> {
    None
}

pub(super) fn adopt(
    listener: std::net::TcpListener,
    options: &ListenOptions,
) -> io::Result<Listener> {
    listener.set_nonblocking(true)?;
    set_options(&listener, &options.tcp)?;
    Ok(Listener::from_std(listener))
}

pub(super) fn duplicate(listener: &Listener) -> io::Result<std::net::TcpListener> {
    Ok(SockRef::from(listener).try_clone()?.into())
}

/// The listening TCP sockets that systemd, or whoever speaks its protocol (`LISTEN_FDS`), has
/// bound and given to this process, in their order; none if it was started otherwise. A second
/// call gives none. Call it first thing in `main`, before there are threads: the variables that
/// tell of the sockets are taken out of the environment.
///
/// Give them to [`Reactor::adopt`](crate::Reactor::adopt) or
/// [`Member::adopt`](crate::Member::adopt). While the service restarts, the sockets stay open and
/// connections queue: nobody is refused.
///
/// # Examples
/// ```
/// for listener in waterwheel::activated_listeners()? {
///     println!("was given {}", listener.local_addr()?);
/// }
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// # Errors
/// - `InvalidInput`: one of them is no TCP socket that listens; the text says which.
///
/// # Platform notes
/// The protocol is `sd_listen_fds(3)`. On Windows it is that of the crate `listenfd`.
#[cfg(feature = "activation")]
pub fn activated_listeners() -> io::Result<Vec<std::net::TcpListener>> {
    let mut given = listenfd::ListenFd::from_env();
    let mut listeners = Vec::with_capacity(given.len());
    for index in 0..given.len() {
        let Some(listener) = given.take_tcp_listener(index)? else { continue };
        #[cfg(any(target_os = "linux", target_os = "android"))]
        if !SockRef::from(&listener).is_listener()? {
            let text = format!("socket {index} that was given to this process does not listen");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        listeners.push(listener);
    }
    Ok(listeners)
}

pub(super) fn waker(poller: &Poller, token: usize) -> io::Result<Waker> {
    Waker::new(poller.registry(), Token(token))
}

fn interest(writable: bool) -> Interest {
    if writable { Interest::READABLE | Interest::WRITABLE } else { Interest::READABLE }
}

pub(super) fn add(
    poller: &Poller,
    source: &mut impl Source,
    token: usize,
    writable: bool,
) -> io::Result<()> {
    poller.registry().register(source, Token(token), interest(writable))
}

pub(super) fn remove(poller: &Poller, source: &mut impl Source) -> io::Result<()> {
    poller.registry().deregister(source)
}

#[cfg(unix)]
pub(super) fn add_fd(poller: &Poller, fd: &std::os::fd::OwnedFd, token: usize) -> io::Result<()> {
    use std::os::fd::AsRawFd;
    let fd = fd.as_raw_fd();
    poller.registry().register(&mut mio::unix::SourceFd(&fd), Token(token), Interest::READABLE)
}

#[cfg(unix)]
pub(super) fn remove_fd(poller: &Poller, fd: &std::os::fd::OwnedFd) -> io::Result<()> {
    use std::os::fd::AsRawFd;
    let fd = fd.as_raw_fd();
    poller.registry().deregister(&mut mio::unix::SourceFd(&fd))
}

pub(super) fn change(
    poller: &Poller,
    source: &mut impl Source,
    token: usize,
    writable: bool,
) -> io::Result<()> {
    poller.registry().reregister(source, Token(token), interest(writable))
}

pub(super) fn poll(
    poller: &mut Poller,
    events: &mut Events,
    timeout: Option<Duration>,
) -> io::Result<()> {
    match poller.poll(events, timeout) {
        Err(error) if error.kind() == io::ErrorKind::Interrupted => {
            events.clear();
            Ok(())
        }
        result => result,
    }
}

/// The monotonic clock of the operating system.
#[derive(Debug)]
pub(crate) struct Clock(Instant);

impl Clock {
    pub(super) fn new() -> Self {
        Self(Instant::now())
    }

    pub(super) fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }
}

/// A descriptor in reserve, to be given up when none is left for accept.
#[derive(Debug)]
pub(crate) struct Spare(
    #[expect(dead_code, reason = "it is held for the descriptor, not for what it opens")] File,
);

impl Spare {
    /// Opens one, if there is one to be had and the platform has a file for it.
    pub(super) fn open() -> Option<Self> {
        File::open(if cfg!(windows) { "NUL" } else { "/dev/null" }).ok().map(Self)
    }
}

/// How many descriptors this process may have open; `None` where there is no such limit.
#[cfg(unix)]
pub(super) fn open_file_limit() -> Option<u64> {
    file_limits().current
}

/// The soft and the hard limit. Linux is asked through /proc where that is mounted: a sandbox may
/// forbid the system call, whose failure rustix takes for impossible and reads as any number.
#[cfg(unix)]
fn file_limits() -> rustix::process::Rlimit {
    let text = match cfg!(any(target_os = "linux", target_os = "android")) {
        true => std::fs::read_to_string("/proc/self/limits").unwrap_or_default(),
        false => String::new(),
    };
    parse_file_limits(&text)
        .unwrap_or_else(|| rustix::process::getrlimit(rustix::process::Resource::Nofile))
}

/// The line of /proc/self/limits, such as `Max open files  1024  20000  files`.
#[cfg(unix)]
fn parse_file_limits(text: &str) -> Option<rustix::process::Rlimit> {
    let line = text.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    let mut numbers = line.split_whitespace().map(|word| match word {
        "unlimited" => Some(None),
        word => word.parse().ok().map(Some),
    });
    let (current, maximum) = (numbers.next()??, numbers.next()??);
    Some(rustix::process::Rlimit { current, maximum })
}

#[cfg(not(unix))]
pub(super) fn open_file_limit() -> Option<u64> {
    None
}

/// Raises the soft limit of open files to the hard one and returns what it reached.
///
/// Each connection is an open file, so the limit bounds the connections of the process. Call it
/// before the reactor is made, since its cap of connections follows the limit. `None` means that
/// there is no limit.
///
/// # Examples
/// ```
/// match waterwheel::raise_open_file_limit()? {
///     Some(files) => println!("at most {files} open files"),
///     None => println!("no limit on open files"),
/// }
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// # Errors
/// - The system's, if it forbids what its hard limit allows; the limit is then as before.
///
/// # Platform notes
/// macOS allows no more than `OPEN_MAX` whatever its hard limit says, and answers with an error.
/// On Windows there is no such limit.
#[cfg(unix)]
pub fn raise_open_file_limit() -> io::Result<Option<u64>> {
    use rustix::process::{Resource, Rlimit, setrlimit};
    let limit = file_limits();
    if limit.current != limit.maximum {
        setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })
            .map_err(io::Error::from)?;
    }
    Ok(limit.maximum)
}

/// There is no limit of open files on this platform: returns `None`.
///
/// # Errors
/// None on this platform.
#[cfg(not(unix))]
pub fn raise_open_file_limit() -> io::Result<Option<u64>> {
    Ok(None)
}

impl Shortage {
    /// What an error of accept says.
    #[cfg(unix)]
    pub(crate) fn of(error: &io::Error) -> Self {
        use rustix::io::Errno;
        match error.raw_os_error().map(Errno::from_raw_os_error) {
            Some(Errno::MFILE | Errno::NFILE) => Self::Descriptors,
            Some(Errno::PROTO | Errno::NOPROTOOPT | Errno::OPNOTSUPP | Errno::HOSTDOWN) => {
                Self::Connection
            }
            _ => Self::Other,
        }
    }

    /// What an error of accept says: 10024 is `WSAEMFILE`.
    #[cfg(not(unix))]
    pub(crate) fn of(error: &io::Error) -> Self {
        match error.raw_os_error() {
            Some(10_024) => Self::Descriptors,
            _ => Self::Other,
        }
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn limits_are_read_from_their_line() {
        let text = "Limit  Soft Limit  Hard Limit  Units\n\
            Max open files            1024                 unlimited            files\n";
        let limits = parse_file_limits(text).unwrap();
        assert_eq!((limits.current, limits.maximum), (Some(1_024), None));
        for text in ["", "Max open files", "Max open files  1024", "Max open files x y files"] {
            assert!(parse_file_limits(text).is_none(), "{text:?}");
        }
    }

    #[test]
    fn both_ways_of_asking_agree() {
        let asked = rustix::process::getrlimit(rustix::process::Resource::Nofile);
        let read = file_limits();
        assert_eq!((read.current, read.maximum), (asked.current, asked.maximum));
    }
}
