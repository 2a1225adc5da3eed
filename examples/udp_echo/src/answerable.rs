//! Whom an echo may be sent to.

use std::net::SocketAddr;

/// The first port that is not for services of the system, such as the echo of inetd at 7.
const FIRST_USER_PORT: u16 = 1_024;

/// Whether an answer to this source starts no exchange without end with a service of the system,
/// or with a program of this kind at the same port. The address of the source is not looked at,
/// because such a program may receive elsewhere. One that answers at another port from 1024 on
/// cannot be told from a client.
pub(crate) fn is_answerable(from: SocketAddr, own_ports: &[u16]) -> bool {
    from.port() >= FIRST_USER_PORT && !own_ports.contains(&from.port())
}
