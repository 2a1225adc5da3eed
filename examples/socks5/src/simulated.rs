//! The proxy in simulated worlds, where a minute is over at once. Clients that others wrote try it
//! in `tests/programs/run`.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use waterwheel::sim::{Faults, PeerEnd, PeerId, Script, Seeds, Simulation};

/// What the proxy says before a tunnel is there: the method, and the address of its own end.
const REPLIES: usize = 2 + 10;

/// More than what buffers and queues on the way take.
const LARGE: usize = 1 << 20;

/// A client that asks for a tunnel, and what it does then.
fn through(sim: &mut Simulation, to: SocketAddr, then: impl Fn(Script) -> Script) -> PeerId {
    let serve = |reactor: &mut _| crate::serve(reactor, "0.0.0.0:1080", None);
    let (_, addr) = sim.host("proxy", serve).unwrap();
    let IpAddr::V4(ip) = to.ip() else { panic!("{to}") };
    let request = [&[5, 1, 0, 1], &ip.octets()[..], &to.port().to_be_bytes()].concat();
    let begun = Script::new().send([5, 1, 0]).read(2).send(request).read(REPLIES);
    let peer = sim.peer(addr, then(begun));
    sim.run(Duration::from_secs(250));
    peer
}

#[track_caller]
fn expect(client: impl Fn(Script) -> Script, server: &Script, answer_bytes: usize) {
    Seeds::new(5).faults(Faults::harmless()).run(|sim| {
        let to = sim.listening_peer(8, server.clone());
        let peer = through(sim, to, &client);
        let bytes = sim.received(peer).len();
        assert_eq!((sim.end_of(peer), bytes), (PeerEnd::Finished, REPLIES + answer_bytes));
        Ok(())
    });
}

#[test]
fn a_server_may_answer_after_two_minutes() {
    let late = Script::new().read(4).wait(Duration::from_secs(120)).send("late").finish();
    expect(|client| client.send("what").finish().read_to_end(), &late.read_to_end(), 4);
}

#[test]
fn a_download_may_be_paused_for_two_minutes() {
    let pauses = |client: Script| {
        let paused = client.stop_reading().wait(Duration::from_secs(120));
        paused.resume_reading().read_to_end().finish()
    };
    expect(pauses, &Script::new().send(vec![7; LARGE]).finish().read_to_end(), LARGE);
}

#[test]
fn an_upload_may_be_held_up_for_two_minutes() {
    let pauses = Script::new().stop_reading().wait(Duration::from_secs(120)).resume_reading();
    let uploads = |client: Script| client.send(vec![7; LARGE]).finish().read_to_end();
    expect(uploads, &pauses.read(LARGE).send("got").finish().read_to_end(), 3);
}
