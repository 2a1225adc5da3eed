//! SIGTERM drains. One test, and one signal: a second would end the process.

use std::io::Read;
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use signal_hook::consts::SIGTERM;
use waterwheel::fleet::{Fleet, FleetOptions};
use waterwheel::{Conn, ListenOptions, Reactor};

use crate::support::PATIENCE;

const DEADLINE: Duration = Duration::from_secs(10);

#[test]
fn a_reactor_and_a_fleet_drain_when_the_process_is_asked_to_end() {
    let sink = || |_: &mut Conn<'_>, input: &[u8]| input.len();
    let mut fleet = Fleet::new(FleetOptions::default().threads(Some(2))).unwrap();
    fleet.drain_on_signals(DEADLINE).unwrap();
    let fleet = fleet
        .start(move |member| {
            let key = member.reactor().register(sink());
            member.listen("127.0.0.1:0", key, ListenOptions::default()).map(|_| ())
        })
        .unwrap();
    let (tell, addr) = channel();
    let alone = thread::spawn(move || {
        let mut reactor = Reactor::new().unwrap();
        let key = reactor.register(sink());
        let addr = reactor.listen("127.0.0.1:0", key, ListenOptions::default()).unwrap();
        reactor.drain_on_signals(DEADLINE).unwrap();
        tell.send(addr).unwrap();
        reactor.run().unwrap();
    });
    let mut client = std::net::TcpStream::connect(addr.recv_timeout(PATIENCE).unwrap()).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    signal_hook::low_level::raise(SIGTERM).unwrap();
    assert_eq!(client.read(&mut [0]).unwrap(), 0, "a drain ends with FIN");
    drop(client);
    alone.join().unwrap();
    assert!(fleet.join().failures.is_empty());
}
