//! A chat on all cores: what a client says goes to the clients of every reactor. Started again, the
//! new process takes the listening sockets over, and no client that comes meanwhile is refused.
//!
//! ```text
//! cargo run --example fleet_chat -- 127.0.0.1:7008 /tmp/fleet_chat.sock
//! nc 127.0.0.1 7008        # in two terminals; then start the program again
//! ```

use std::env;
use std::io::{self, Write};
use std::sync::Arc;
use std::time::Duration;

use anyhow::ensure;
use waterwheel::fleet::{Fleet, FleetOptions, FleetSender, Member};
use waterwheel::{
    Conn, Context, Handler, HandlerKey, IdleKind, Limits, ListenOptions, Peer, Receive, Timer,
    frame,
};

/// Longest line, in bytes: a client that sends a longer one is closed.
const MAX_LINE_BYTES: usize = 1_024;

/// Lines of a client that are taken at once, and the time in which the others have their turn then.
const MAX_LINES: usize = 64;
const TURN: Duration = Duration::from_millis(1);

/// Longest silence of a client when a new process has taken over.
const SILENCE: Duration = Duration::from_secs(2);

/// The room, as one of the reactors has it.
struct Room {
    key: HandlerKey<Room>,
    /// How many reactors there are.
    members: usize,
    everyone: Option<FleetSender<Arc<[u8]>>>,
}

impl Room {
    /// Passes a line on to the reactors that have not got it, the first of them in `next`. Returns
    /// false if one has no room for it: that must catch up first.
    fn say(&self, next: &mut usize, line: &[u8]) -> bool {
        let Some(everyone) = &self.everyone else { return false };
        let line: Arc<[u8]> = [line, b"\n"].concat().into();
        while *next < self.members {
            if everyone.send_to(*next, Arc::clone(&line)).full > 0 {
                return false;
            }
            *next += 1;
        }
        *next = 0;
        true
    }
}

impl Handler for Room {
    /// The first reactor that has not got the line at the front of the input.
    type State = usize;

    fn on_accept(&mut self, _: &Peer) -> Option<usize> {
        Some(0)
    }

    fn on_open(&mut self, _: &mut usize, conn: &mut Conn<'_>) {
        conn.write(b"* you are in\n");
    }

    fn on_data(&mut self, next: &mut usize, conn: &mut Conn<'_>, input: &[u8]) -> usize {
        let mut lines = frame::lines(input, MAX_LINE_BYTES);
        for _ in 0..MAX_LINES {
            let taken = lines.consumed();
            match lines.next() {
                Some(Ok(line)) if self.say(next, line) => {}
                Some(Ok(_)) => return wait(conn, taken), // it comes again
                Some(Err(_)) => {
                    conn.close();
                    return input.len();
                }
                None => return taken,
            }
        }
        wait(conn, lines.consumed())
    }

    fn on_timer(&mut self, _: &mut usize, conn: &mut Conn<'_>, _: Timer) {
        conn.resume_reading();
    }

    /// Who has just come, and was not heard yet, may still say something.
    fn on_shutdown(&mut self, _: &mut usize, conn: &mut Conn<'_>) {
        conn.set_idle_timeout(IdleKind::Read, Some(SILENCE)).expect("it is in range");
    }
}

impl Receive<Arc<[u8]>> for Room {
    fn on_message(&mut self, line: Arc<[u8]>, cx: &mut Context<'_>) {
        cx.with_each(self.key, |_, conn| {
            conn.write(&line);
        });
    }
}

/// Reads no more for a moment: what is left of the input, and what the kernel has, stays there.
fn wait(conn: &mut Conn<'_>, taken: usize) -> usize {
    conn.pause_reading();
    conn.set_timer(TURN, 0);
    taken
}

fn main() -> anyhow::Result<()> {
    env_logger::init();
    let mut args = env::args().skip(1);
    ensure!(args.len() <= 2, "usage: fleet_chat [HOST:PORT [SOCKET]]");
    let addr = args.next().unwrap_or_else(|| "127.0.0.1:7008".to_owned());
    let set_up = move |member: &mut Member<'_>| {
        let members = member.members();
        let room = member.reactor().register_with(|key| Room { key, members, everyone: None });
        let everyone = member.channel(room, 1_024)?;
        member.reactor().handler_mut(room).expect("it is registered").everyone = Some(everyone);
        // A client may only listen.
        let limits = Limits::internet().first_byte_timeout(None).pause_at_high_mark(false);
        let addr = member.listen(&addr, room, ListenOptions::default().limits(limits))?;
        if member.index() == 0 {
            let _ = writeln!(io::stdout(), "listening on {addr}");
        }
        Ok(())
    };
    let fleet = Fleet::new(FleetOptions::default())?;
    #[cfg(unix)]
    fleet.run_replaceable(
        args.next().unwrap_or_else(|| "/tmp/fleet_chat.sock".to_owned()),
        Duration::from_secs(10), // for those who are here then
        set_up,
    )?;
    #[cfg(not(unix))]
    fleet.run(set_up)?;
    Ok(())
}
