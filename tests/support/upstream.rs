//! Addresses to connect to, where somebody listens or nobody does.

use std::net::{SocketAddr, TcpListener};

use socket2::{Domain, Socket, Type};

pub(crate) fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    (listener, addr)
}

/// An address of this machine where nobody listens; nobody else gets it while the socket lives,
/// which may begin to listen.
pub(crate) fn nobody() -> (Socket, SocketAddr) {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
    socket.bind(&any.into()).unwrap();
    let addr = socket.local_addr().unwrap().as_socket().unwrap();
    (socket, addr)
}
