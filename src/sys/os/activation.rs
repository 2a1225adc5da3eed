//! Listening sockets that a service manager hands to this process.

use std::io;

/// Returns the listening TCP sockets that a service manager, such as systemd, has bound for this
/// process (`LISTEN_FDS`), in their order. There are none if the process was started otherwise,
/// and none at a second call.
///
/// Call this first thing in `main`, before there are threads, because the variables that describe
/// the sockets are taken out of the environment.
///
/// Pass the sockets to [`Reactor::adopt`](crate::Reactor::adopt) or
/// [`Member::adopt`](crate::fleet::Member::adopt). While the service restarts, the sockets stay
/// open and connections queue: no client is refused.
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
pub fn activated_listeners() -> io::Result<Vec<std::net::TcpListener>> {
    let mut given = listenfd::ListenFd::from_env();
    let mut listeners = Vec::with_capacity(given.len());
    for index in 0..given.len() {
        let Some(listener) = given.take_tcp_listener(index)? else { continue };
        #[cfg(any(target_os = "linux", target_os = "android"))]
        if !socket2::SockRef::from(&listener).is_listener()? {
            let text = format!("socket {index} that was given to this process does not listen");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        listeners.push(listener);
    }
    Ok(listeners)
}
