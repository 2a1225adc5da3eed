//! Whom an echo may be sent to.

use std::net::SocketAddr;

/// The first port that is not for services of the system, such as the echo of inetd at 7.
const FIRST_USER_PORT: u16 = 1_024;

/// Whether an answer to this source can start no exchange without end. The address of the source
/// is not looked at, because a program of the same kind may receive at the same port elsewhere.
pub(crate) fn is_answerable(from: SocketAddr, own_ports: &[u16]) -> bool {
    from.port() >= FIRST_USER_PORT && !own_ports.contains(&from.port())
}
