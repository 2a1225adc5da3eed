//! Refusals with words, whatever the network and the kernel do: whole and with FIN, or a reset.

use std::rc::Rc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use waterwheel::sim::{Fault, Faults, PeerEnd, Script, Seeds, Simulation, TestLayer};
use waterwheel::{Conn, Handler, ListenOptions, Peer, Reactor};

const WORDS: &[u8] = b"the room is full, try again later\n";

/// Refuses every client but each third.
struct Choosy {
    count: u32,
}

impl Handler for Choosy {
    type State = ();

    fn on_accept(&mut self, _: &Peer) -> Option<()> {
        self.count += 1;
        (self.count % 3 == 0).then_some(())
    }

    fn on_refuse(&mut self, _: &Peer) -> &[u8] {
        WORDS
    }

    fn on_data(&mut self, (): &mut (), conn: &mut Conn<'_>, input: &[u8]) -> usize {
        conn.write(input);
        input.len()
    }
}

fn serve(reactor: &mut Reactor, options: ListenOptions) -> std::io::Result<std::net::SocketAddr> {
    let choosy = reactor.register(Choosy { count: 0 });
    reactor.listen("0.0.0.0:7000", choosy, options)
}

/// What the clients do: nothing, or send early, late or much.
fn scripts() -> [Script; 4] {
    let new = Script::new;
    [
        new().read_to_end().close(),
        new().send("hello").finish().read_to_end().close(),
        new().wait(Duration::from_millis(2)).send("hello").finish().read_to_end().close(),
        new().send(vec![b'x'; 300_000]).finish().read_to_end().close(),
    ]
}

#[test]
fn without_faults_silent_and_early_clients_read_the_words_and_an_end() {
    Seeds::new(200).faults(Faults::none()).run(|sim| {
        let (_, addr) = sim.host("server", |reactor| serve(reactor, ListenOptions::default()))?;
        let silent = sim.peer(addr, Script::new().read_to_end());
        let early = sim.peer(addr, Script::new().read_to_end());
        sim.run(Duration::from_secs(1));
        for peer in [silent, early] {
            assert_eq!(sim.received(peer), WORDS);
            assert_eq!(sim.end_of(peer), PeerEnd::Finished);
        }
        Ok(())
    });
}

#[test]
fn a_part_of_the_words_never_ends_with_fin() {
    let (whole, cut) = (AtomicU32::new(0), AtomicU32::new(0));
    Seeds::new(500).faults(Faults::all()).run(|sim| {
        sim.allow_unfinished(); // those that are accepted say nothing
        let (_, addr) = sim.host("server", |reactor| serve(reactor, ListenOptions::default()))?;
        for script in scripts() {
            sim.peer(addr, script);
        }
        let readers: Vec<_> = (0..4).map(|_| sim.peer(addr, Script::new().read_to_end())).collect();
        sim.run(Duration::from_secs(600));
        for &peer in &readers {
            let (received, end) = (sim.received(peer), sim.end_of(peer));
            assert!(WORDS.starts_with(&received), "{}", String::from_utf8_lossy(&received));
            match end {
                PeerEnd::Finished => {
                    assert_eq!(received, WORDS);
                    whole.fetch_add(1, Relaxed);
                }
                PeerEnd::Broken if !sim.was_hurt(peer) => {
                    cut.fetch_add(1, Relaxed);
                }
                _ => {}
            }
        }
        Ok(())
    });
    let (whole, cut) = (whole.into_inner(), cut.into_inner());
    assert!(whole > 100 && cut > 10, "{whole} whole, {cut} reset: the seeds have not tried both");
}

#[test]
fn behind_a_layer_the_words_pass_through_it() {
    Seeds::new(200).faults(Faults::harmless()).run(|sim| {
        let options = TestLayer::new().listen(ListenOptions::default());
        let (_, addr) = sim.host("server", |reactor| serve(reactor, options))?;
        let (hello, confirmation) = (TestLayer::hello(), TestLayer::confirmation());
        let script = Script::new().send([hello, confirmation].concat()).read_to_end().close();
        let peer = sim.peer(addr, script);
        sim.run(Duration::from_secs(600));
        let received = sim.received(peer);
        let (plain, is_ended) = TestLayer::plain(&received);
        assert_eq!(plain, WORDS);
        assert!(is_ended, "the layer's own end is said, too");
        Ok(())
    });
}

/// Gives each connection a share.
struct Shares(Rc<()>);

impl Handler for Shares {
    type State = Rc<()>;

    fn on_accept(&mut self, _: &Peer) -> Option<Rc<()>> {
        Some(Rc::clone(&self.0))
    }

    fn on_data(&mut self, _: &mut Rc<()>, _: &mut Conn<'_>, input: &[u8]) -> usize {
        input.len()
    }
}

#[test]
fn a_connection_that_the_poll_does_not_take_gives_back_the_state_that_it_got() {
    let mut refused = 0;
    for seed in 0..60 {
        let mut sim = Simulation::new(seed, Faults::none().with(Fault::RegisterError));
        let share = Rc::new(());
        let (host, addr) = sim
            .host("server", |reactor| {
                let shares = reactor.register(Shares(Rc::clone(&share)));
                reactor.listen("0.0.0.0:7000", shares, ListenOptions::default())
            })
            .unwrap();
        for _ in 0..4 {
            sim.peer(addr, Script::new().send("hello").finish().read_to_end());
        }
        sim.run(Duration::from_secs(600));
        refused += sim.with(host, |reactor| reactor.stats().refused);
        assert_eq!(Rc::strong_count(&share), 2, "seed {seed}: this one and the handler's");
        sim.finish();
    }
    assert!(refused > 0);
}
