//! What an accepted socket inherits from its listener, and what an outgoing one is given, looked at
//! from outside the library.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use rustix::process::{PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open};
use socket2::SockRef;
use waterwheel::{ConnectOptions, Keepalive, ListenOptions, Reactor, TcpOptions};

use crate::own::in_own_process;
use crate::support::{Client, Rig, Script};

/// Every option away from the system's default and from the library's.
fn unusual_options() -> TcpOptions {
    let keepalive = Keepalive::default()
        .idle(Duration::from_secs(77))
        .interval(Duration::from_secs(11))
        .probes(7);
    TcpOptions::default()
        .nodelay(true)
        .keepalive(Some(keepalive))
        .user_timeout(Some(Duration::from_millis(12_345)))
        .send_buffer_bytes(Some(30_000))
        .receive_buffer_bytes(Some(20_000))
        .linger(Some(Duration::from_secs(3)))
}

/// The socket of this process that is connected to `client`; `None` if the system does not
/// let a process look at itself.
fn socket_of(client: &Client) -> Option<TcpStream> {
    socket_connected_to(client.addr())
}

fn socket_connected_to(wanted: SocketAddr) -> Option<TcpStream> {
    let process = pidfd_open(getpid(), PidfdFlags::empty()).ok()?;
    for entry in std::fs::read_dir("/proc/self/fd").ok()? {
        let number = entry.ok()?.file_name().into_string().ok()?.parse().ok()?;
        match pidfd_getfd(&process, number, PidfdGetfdFlags::empty()) {
            Ok(file) => {
                let stream = TcpStream::from(file);
                if stream.peer_addr().is_ok_and(|peer| peer == wanted) {
                    return Some(stream);
                }
            }
            Err(rustix::io::Errno::BADF) => {} // closed meanwhile
            Err(_) => return None,
        }
    }
    panic!("no socket is connected to {wanted}");
}

#[track_caller]
fn expect_unusual_options(socket: &TcpStream) {
    let socket = SockRef::from(socket);
    assert!(socket.tcp_nodelay().unwrap());
    assert!(socket.keepalive().unwrap());
    let seconds = Duration::from_secs;
    assert_eq!(socket.tcp_keepalive_time().unwrap(), seconds(77));
    assert_eq!(socket.tcp_keepalive_interval().unwrap(), seconds(11));
    assert_eq!(socket.tcp_keepalive_retries().unwrap(), 7);
    let timeout = socket.tcp_user_timeout().unwrap();
    assert_eq!(timeout, Some(Duration::from_millis(12_345)));
    // Linux doubles what is asked for, to account for its bookkeeping.
    assert_eq!(socket.send_buffer_size().unwrap(), 60_000);
    assert_eq!(socket.recv_buffer_size().unwrap(), 40_000);
    assert_eq!(socket.linger().unwrap(), Some(seconds(3)));
}

#[test]
fn an_accepted_socket_has_every_option_of_its_listener() {
    in_own_process(|| {
        let options = ListenOptions::default().tcp(unusual_options());
        let mut rig = Rig::with_listen(Script::new(), options);
        let (client, _) = rig.client();
        if let Some(socket) = socket_of(&client) {
            expect_unusual_options(&socket);
        }
    });
}

#[test]
fn by_default_an_accepted_socket_sends_at_once_and_probes_a_silent_peer() {
    in_own_process(|| {
        let mut rig = Rig::new(Script::new());
        let (client, _) = rig.client();
        if let Some(socket) = socket_of(&client) {
            let socket = SockRef::from(&socket);
            assert!(socket.tcp_nodelay().unwrap());
            assert!(socket.keepalive().unwrap());
            assert_eq!(socket.tcp_keepalive_time().unwrap().as_secs(), 60);
            assert_eq!(socket.tcp_keepalive_interval().unwrap().as_secs(), 15);
            assert_eq!(socket.tcp_keepalive_retries().unwrap(), 4);
            assert_eq!(socket.linger().unwrap(), None);
        }
    });
}

#[test]
fn options_that_are_off_stay_off() {
    in_own_process(|| {
        let tcp = TcpOptions::default().nodelay(false).keepalive(None);
        let mut rig = Rig::with_listen(Script::new(), ListenOptions::default().tcp(tcp));
        let (client, _) = rig.client();
        if let Some(socket) = socket_of(&client) {
            let socket = SockRef::from(&socket);
            assert!(!socket.tcp_nodelay().unwrap());
            assert!(!socket.keepalive().unwrap());
        }
    });
}

/// The listener is shared with the test, which accepts from it like the reactor would.
#[test]
fn an_adopted_listener_hands_its_new_options_on() {
    in_own_process(|| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut reactor = Reactor::new().unwrap();
        let service = reactor.register(Script::new());
        let options = ListenOptions::default().tcp(unusual_options());
        let shared = listener.try_clone().unwrap();
        let addr = reactor.adopt(shared, service, options).unwrap();
        let client = Client::connect(addr);
        let (socket, peer) = listener.accept().unwrap();
        assert_eq!(peer, client.addr());
        expect_unusual_options(&socket);
    });
}

/// A connection to `server` that has come up, and its socket.
fn dialled(server: &TcpListener, options: &ConnectOptions) -> (Reactor, Option<TcpStream>) {
    let mut reactor = Reactor::new().unwrap();
    let service = reactor.register(Script::new());
    let addr = server.local_addr().unwrap();
    reactor.connect(addr, service, 0, options);
    while reactor.stats().connected == 0 {
        assert!(reactor.run_once(Some(Duration::from_secs(10))).unwrap());
    }
    (reactor, socket_connected_to(addr))
}

#[test]
fn an_outgoing_socket_has_its_options_at_once_and_keepalive_when_it_has_lasted() {
    in_own_process(|| {
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        let options = ConnectOptions::default().tcp(unusual_options());
        let (mut reactor, socket) = dialled(&server, &options);
        let Some(socket) = socket else { return };
        assert!(SockRef::from(&socket).tcp_nodelay().unwrap());
        assert!(!SockRef::from(&socket).keepalive().unwrap(), "it is new");
        let begun = Instant::now();
        while !SockRef::from(&socket).keepalive().unwrap() {
            assert!(begun.elapsed() < Duration::from_secs(20), "keepalive is never set");
            assert!(reactor.run_once(Some(Duration::from_secs(1))).unwrap());
        }
        expect_unusual_options(&socket);
    });
}

#[test]
fn an_outgoing_socket_without_keepalive_stays_without() {
    in_own_process(|| {
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        let tcp = TcpOptions::default().nodelay(false).keepalive(None);
        let (mut reactor, socket) = dialled(&server, &ConnectOptions::default().tcp(tcp));
        let Some(socket) = socket else { return };
        assert_eq!(reactor.context().loop_state().deferred, 0, "nothing is to follow");
        assert!(!SockRef::from(&socket).tcp_nodelay().unwrap());
        assert!(!SockRef::from(&socket).keepalive().unwrap());
    });
}
