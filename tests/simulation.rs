//! The reactor in a simulated world.
#![cfg(feature = "sim")]

use std::time::Duration;

use waterwheel::sim::{Faults, Script, Seeds};
use waterwheel::{Conn, ListenOptions, frame};

#[test]
fn lines_are_answered() {
    Seeds::new(2_000).faults(Faults::harmless()).run(|sim| {
        let (_, addr) = sim.host("server", |reactor| {
            let capitals = reactor.register(|conn: &mut Conn<'_>, input: &[u8]| {
                let mut lines = frame::lines(input, 80);
                for line in lines.by_ref().flatten() {
                    conn.write(&line.to_ascii_uppercase());
                    conn.write(b"\n");
                }
                lines.consumed()
            });
            reactor.listen("0.0.0.0:7000", capitals, ListenOptions::default())
        })?;
        let script = Script::new().send("hello\nwor").wait(Duration::from_millis(5)).send("ld\n");
        let peer = sim.peer(addr, script.read(12).finish().read_to_end());
        sim.run(Duration::from_secs(60));
        assert_eq!(sim.received(peer), b"HELLO\nWORLD\n");
        Ok(())
    });
}
