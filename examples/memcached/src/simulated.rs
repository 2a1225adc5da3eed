//! The server in simulated worlds. Clients that others wrote try it in `tests/programs/run`.

use std::time::Duration;

use waterwheel::sim::{Faults, PeerEnd, Script, Seeds};

/// Asks in many worlds. In those that lose nothing the answer is whole within a minute; in the
/// others a part is never taken for the whole.
fn expect(script: &Script, wanted: impl AsRef<[u8]>) {
    for (faults, loses) in [(Faults::harmless(), false), (Faults::all(), true)] {
        Seeds::new(100).faults(faults).run(|sim| {
            let serve = |reactor: &mut _| crate::serve(reactor, "0.0.0.0:11211", 8 << 20);
            let (_, addr) = sim.host("server", serve)?;
            let peer = sim.peer(addr, script.clone().finish().read_to_end());
            sim.run(Duration::from_secs(60));
            let answer = sim.received(peer);
            assert!(wanted.as_ref().starts_with(&answer), "{}", answer.escape_ascii());
            let is_finished = sim.end_of(peer) == PeerEnd::Finished;
            assert!(is_finished || loses, "{} bytes", answer.len());
            assert!(!is_finished || answer == wanted.as_ref(), "{} bytes", answer.len());
            Ok(())
        });
    }
}

#[test]
fn commands_and_values_come_a_byte_at_a_time() {
    let commands = "set a 1 0 4\r\n\r\nxy\r\nset a x 0 4\r\n\r\nxy\r\nget a\r\nincr a 1\r\n";
    let answers = "STORED\r\nCLIENT_ERROR bad command line format\r\n\
        VALUE a 1 4\r\n\r\nxy\r\nEND\r\n\
        CLIENT_ERROR cannot increment or decrement non-numeric value\r\n";
    expect(&Script::new().dribble(commands, Duration::from_millis(1)), answers);
}

#[test]
fn commands_without_an_answer_come_many_at_a_time() {
    let set = "set n 0 0 1 noreply\r\n0\r\n".to_owned();
    let commands = set + &"incr n 1 noreply\r\n".repeat(2_000) + "get n\r\n";
    expect(&Script::new().send(commands), "VALUE n 0 4\r\n2000\r\nEND\r\n");
}

#[test]
fn a_client_that_does_not_read_gets_all_in_the_end() {
    let value = "v".repeat(100_000);
    let set = Script::new().send(format!("set v 0 0 100000\r\n{value}\r\n")).read(8);
    let get = set.stop_reading().send("get v v v\r\nget v v v\r\n");
    let answer = format!("VALUE v 0 100000\r\n{value}\r\n").repeat(3) + "END\r\n";
    let wanted = "STORED\r\n".to_owned() + &answer.repeat(2);
    expect(&get.wait(Duration::from_secs(1)).resume_reading(), wanted);
}

/// What memcached itself answers: only behind a key is the word an option, and a number may have
/// spaces around it, as its own have that became shorter.
#[test]
fn a_key_may_be_called_noreply_and_a_number_be_padded() {
    let commands = "set noreply 0 0 1\r\n5\r\ndelete noreply\r\ndelete noreply\r\n\
        set n 0 0 3\r\n 9 \r\nincr n 1\r\ndelete n noreply\r\nget n\r\n";
    let answers = "STORED\r\nDELETED\r\nNOT_FOUND\r\nSTORED\r\n10\r\nEND\r\n";
    expect(&Script::new().send(commands), answers);
}
