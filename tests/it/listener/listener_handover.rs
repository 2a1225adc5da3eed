//! Listening sockets that come from elsewhere and go on elsewhere.

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use waterwheel::fleet::{Balance, Fleet, FleetHandle, FleetOptions, Spread};
use waterwheel::{Conn, ListenOptions, Reactor};

use crate::support::{Client, Rig, Script, many_descriptors};

const HOUR: Duration = Duration::from_secs(3_600);

/// Windows has no `SO_REUSEPORT`.
const SPREADS: [Spread; 2 + cfg!(unix) as usize] = [
    Spread::Shared,
    #[cfg(unix)]
    Spread::ReusePort,
    Spread::HandOver(Balance::RoundRobin),
];

fn echo() -> impl FnMut(&mut Conn<'_>, &[u8]) -> usize {
    |conn, input| {
        conn.write(input);
        input.len()
    }
}

/// Ends with the test.
struct Serving(Option<FleetHandle>);

impl Drop for Serving {
    fn drop(&mut self) {
        if let Some(fleet) = self.0.take() {
            fleet.stop();
            let _ = fleet.join();
        }
    }
}

/// Two reactors that serve these sockets, or one of their own if there are none.
fn serve(spread: Spread, sockets: Vec<TcpListener>) -> Serving {
    let options = FleetOptions::default().threads(Some(2)).spread(spread);
    let fleet = Fleet::new(options).unwrap().start(move |member| {
        let service = member.reactor().register(echo());
        for socket in &sockets {
            let addr = member.adopt(socket, service, ListenOptions::default())?;
            assert_eq!(addr, socket.local_addr()?);
        }
        if sockets.is_empty() {
            member.listen("127.0.0.1:0", service, ListenOptions::default())?;
        }
        Ok(())
    });
    Serving(Some(fleet.unwrap()))
}

#[track_caller]
fn expect_served(mut client: Client) {
    client.send(b"hello");
    client.expect(b"hello");
}

#[test]
fn a_fleet_serves_a_socket_that_others_have_bound() {
    for spread in SPREADS {
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = socket.local_addr().unwrap();
        let early = Client::connect(addr); // queues
        let serving = serve(spread, vec![socket]);
        expect_served(early);
        for _ in 0..10 {
            expect_served(Client::connect(addr));
        }
        // Once the fleet has ended, nobody has the socket any more.
        drop(serving);
        let error = TcpStream::connect(addr).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused, "{spread}");
    }
}

/// Those who come while nobody serves queue, and none is lost.
#[test]
fn a_fleet_takes_over_what_another_has_handed_on() {
    for spread in SPREADS {
        let old = serve(spread, Vec::new());
        let sockets = old.0.as_ref().unwrap().listeners().unwrap();
        let expected = if spread == Spread::ReusePort { 2 } else { 1 };
        assert_eq!(sockets.len(), expected, "{spread}");
        let addr = sockets[0].local_addr().unwrap();
        expect_served(Client::connect(addr));
        drop(old);
        let waiting: Vec<_> = (0..20).map(|_| Client::connect(addr)).collect();
        let new = serve(spread, sockets);
        waiting.into_iter().for_each(expect_served);
        // An adopted socket is one for all, also with SO_REUSEPORT.
        let sockets = new.0.as_ref().unwrap().listeners().unwrap();
        assert_eq!(sockets.len(), expected, "{spread}");
    }
}

#[test]
fn a_fleet_that_has_stopped_has_no_sockets_to_hand_on() {
    let mut serving = serve(Spread::Shared, Vec::new());
    let fleet = serving.0.take().unwrap();
    let remote = fleet.remote();
    fleet.stop();
    let _ = fleet.join();
    assert_eq!(remote.listeners().unwrap_err().kind(), io::ErrorKind::NotConnected);
}

#[test]
fn a_reactor_hands_its_sockets_on_in_order() {
    let mut old = Reactor::new().unwrap();
    let service = old.register(echo());
    let listen = |reactor: &mut Reactor| {
        reactor.listen("127.0.0.1:0", service, ListenOptions::default()).unwrap()
    };
    let addrs: Vec<SocketAddr> = (0..3).map(|_| listen(&mut old)).collect();
    let sockets = old.listeners().unwrap();
    let found: Vec<_> = sockets.iter().map(|socket| socket.local_addr().unwrap()).collect();
    assert_eq!(found, addrs);
    let waiting: Vec<_> = addrs.iter().map(|addr| Client::connect(*addr)).collect();
    drop(old);
    let _new = serve(Spread::Shared, sockets);
    waiting.into_iter().for_each(expect_served);
}

/// Closing does not take a socket off the poll while somebody else has it: the loop would wake for
/// each connection that is none of its business.
#[test]
fn a_reactor_that_drains_does_not_wake_for_a_socket_that_it_has_handed_on() {
    let mut rig = Rig::new(Script::new().shutdown(|_| {}));
    let socket = rig.reactor.listeners().unwrap().pop().unwrap();
    let (_lingers, id) = rig.client();
    rig.reactor.context().drain(HOUR);
    rig.turn();
    let before = rig.reactor.stats().events;
    let _clients: Vec<_> = (0..5).map(|_| Client::connect(rig.addr)).collect();
    // They are there, and it would be told at once.
    socket.accept().unwrap();
    assert!(rig.reactor.run_once(Some(Duration::ZERO)).unwrap());
    assert_eq!(rig.reactor.stats().events, before);
    assert!(rig.lives(id));
}

#[cfg(unix)]
mod between_processes {
    use std::io::Write;
    use std::os::unix::net::UnixStream;

    use waterwheel::{receive_listeners, send_listeners};

    use super::*;

    #[test]
    fn sockets_come_over_in_order() {
        let _many = many_descriptors();
        let (old, new) = UnixStream::pair().unwrap();
        let sockets: Vec<_> = (0..253).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        for count in [1, 3, 253] {
            send_listeners(&old, &sockets[..count]).unwrap();
            let received = receive_listeners(&new).unwrap();
            assert_eq!(received.len(), count);
            for (sent, received) in sockets.iter().zip(&received) {
                assert_eq!(sent.local_addr().unwrap(), received.local_addr().unwrap());
            }
        }
        // Two messages are not run together.
        send_listeners(&old, &sockets[..1]).unwrap();
        send_listeners(&old, &sockets[1..3]).unwrap();
        assert_eq!(receive_listeners(&new).unwrap().len(), 1);
        assert_eq!(receive_listeners(&new).unwrap().len(), 2);
    }

    #[test]
    fn what_is_no_hand_over_is_told() {
        let (mut old, new) = UnixStream::pair().unwrap();
        let none: [TcpListener; 0] = [];
        let error = send_listeners(&old, &none).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let many: Vec<_> = (0..254).map(|_| &socket).collect();
        let error = send_listeners(&old, &many).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        old.write_all(b"\x01").unwrap();
        let error = receive_listeners(&new).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        new.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
        let error = receive_listeners(&new).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        drop(old);
        let error = receive_listeners(&new).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
        let error = send_listeners(&new, &[socket]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    }
}
