//! TCP sockets of the operating system.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use mio::net::TcpStream;
use socket2::{Protocol, SockRef, TcpKeepalive, Type};

use super::{Listener, Stream, linux, system};
use crate::options::{ConnectOptions, Keepalive, ListenOptions, TcpOptions};

/// How many connections the kernel queues for a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Backlog {
    /// What the options ask for; `None` for as many as the system takes.
    pub(crate) asked: Option<u32>,
    /// What the system takes at the most, where that can be known.
    pub(crate) system_most: Option<u32>,
}

/// Begins to connect.
pub(crate) fn connect(addr: SocketAddr, options: &ConnectOptions) -> io::Result<Stream> {
    let socket = linux::new_socket(addr, Type::STREAM, Protocol::TCP)?;
    // A new socket has neither of the two. Keepalive is for those that last, and follows then.
    if options.tcp.nodelay {
        socket.set_tcp_nodelay(true)?;
    }
    set_rare_options(&SockRef::from(&socket), &options.tcp)?;
    if let Some(source) = options.source {
        socket.bind(&source.into()).map_err(|error| {
            let text = format!("cannot use {source} as the source address: {error}");
            io::Error::new(error.kind(), text)
        })?;
    }
    match socket.connect(&addr.into()) {
        Err(error) if !system::is_in_progress(&error) => Err(error),
        _ => Ok(TcpStream::from_std(socket.into()).into()),
    }
}

/// Whether a connection is up; `None` while that is open. A socket has a peer, of whichever family,
/// only while it is up: one call then. Why another is not up, its error tells. The notes at
/// `mio::net::TcpStream::connect` have the two the other way round.
pub(crate) fn connected(stream: &Stream) -> Option<io::Result<()>> {
    let socket = SockRef::from(stream);
    let Err(no_peer) = socket.peer_addr() else { return Some(Ok(())) };
    match socket.take_error() {
        Ok(Some(error)) | Err(error) => Some(Err(error)),
        Ok(None) if no_peer.kind() == io::ErrorKind::NotConnected => None,
        Ok(None) if system::is_in_progress(&no_peer) => None,
        Ok(None) => Some(Err(no_peer)),
    }
}

/// Makes the coming close send RST.
pub(crate) fn reset_on_close(stream: &Stream) -> io::Result<()> {
    SockRef::from(stream).set_linger(Some(Duration::ZERO))
}

/// Sets every option that has a value, each by one call.
pub(crate) fn set_options<'a>(
    socket: impl Into<SockRef<'a>>,
    options: &TcpOptions,
) -> io::Result<()> {
    let socket = socket.into();
    socket.set_tcp_nodelay(options.nodelay)?;
    if let Some(keepalive) = &options.keepalive {
        set_keepalive(&socket, keepalive)?;
    }
    set_rare_options(&socket, options)
}

/// Sets the options that have no value unless the user gives one.
fn set_rare_options(socket: &SockRef<'_>, options: &TcpOptions) -> io::Result<()> {
    if let Some(timeout) = options.user_timeout {
        linux::set_user_timeout(socket, timeout)?;
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

/// Has TCP probe a silent peer.
pub(crate) fn keep_alive(stream: &Stream, keepalive: &Keepalive) -> io::Result<()> {
    set_keepalive(&SockRef::from(stream), keepalive)
}

fn set_keepalive(socket: &SockRef<'_>, keepalive: &Keepalive) -> io::Result<()> {
    let times = TcpKeepalive::new().with_time(keepalive.idle);
    #[cfg(not(any(target_os = "openbsd", target_os = "haiku", target_os = "vita")))]
    let times = times.with_interval(keepalive.interval).with_retries(keepalive.probes);
    match socket.set_tcp_keepalive(&times) {
        // The count is set last: the times are set by then.
        Err(error) if system::is_fixed_option(&error) => Ok(()),
        result => result,
    }
}

/// The largest backlog that listen(2) can be asked for; the system lowers it to its own cap.
const MAX_BACKLOG: i32 = i32::MAX;

/// The backlog that listen(2) is asked for.
pub(crate) fn backlog(asked: Option<u32>) -> i32 {
    asked.map_or(MAX_BACKLOG, |backlog| i32::try_from(backlog).unwrap_or(MAX_BACKLOG))
}

/// Binds and listens; returns the backlog too.
pub(crate) fn bind(addr: SocketAddr, options: &ListenOptions) -> io::Result<(Listener, Backlog)> {
    let socket = linux::new_socket(addr, Type::STREAM, Protocol::TCP)?;
    socket.set_reuse_address(options.reuse_address)?;
    if options.reuse_port {
        system::set_reuse_port(&socket)?;
    }
    if let (Some(only_v6), true) = (options.only_v6, addr.is_ipv6()) {
        socket.set_only_v6(only_v6)?;
    }
    // Buffer sizes govern the window scale, which is agreed in the handshake: set them first.
    set_options(&socket, &options.tcp)?;
    socket.bind(&addr.into())?;
    socket.listen(backlog(options.backlog))?;
    let backlog = Backlog { asked: options.backlog, system_most: linux::largest_backlog() };
    Ok((Listener::from_std(socket.into()), backlog))
}

/// Takes over a socket that was bound and set to listen elsewhere.
pub(crate) fn adopt(
    listener: std::net::TcpListener,
    options: &ListenOptions,
) -> io::Result<Listener> {
    listener.set_nonblocking(true)?;
    set_options(&listener, &options.tcp)?;
    Ok(Listener::from_std(listener))
}

/// Another handle on the same socket.
pub(crate) fn duplicate(listener: &Listener) -> io::Result<std::net::TcpListener> {
    Ok(SockRef::from(listener).try_clone()?.into())
}
