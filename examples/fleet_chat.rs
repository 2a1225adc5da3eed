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
    Conn, Context, Handler, HandlerKey, IdleKind, Limits, ListenOptions, Peer, Receive, frame,
};

/// Longest line, in bytes: a client that sends a longer one is closed.
const MAX_LINE_BYTES: usize = 1_024;

/// Longest silence of a client when a new process has taken over.
const SILENCE: Duration = Duration::from_secs(2);

/// The room, as one of the reactors has it.
struct Room {
    key: HandlerKey<Room>,
    everyone: Option<FleetSender<Arc<[u8]>>>,
}

impl Handler for Room {
    type State = ();

    fn on_accept(&mut self, _: &Peer) -> Option<()> {
        Some(())
    }

    fn on_open(&mut self, (): &mut (), conn: &mut Conn<'_>) {
        conn.write(b"* you are in\n");
    }

    fn on_data(&mut self, (): &mut (), conn: &mut Conn<'_>, input: &[u8]) -> usize {
        let mut lines = frame::lines(input, MAX_LINE_BYTES);
        for line in lines.by_ref() {
            if let (Ok(line), Some(everyone)) = (line, &self.everyone) {
                everyone.send_to_all([line, b"\n"].concat().into());
            } else {
                conn.close();
            }
        }
        lines.consumed()
    }

    /// Who has just come, and was not heard yet, may still say something.
    fn on_shutdown(&mut self, (): &mut (), conn: &mut Conn<'_>) {
        conn.set_idle_timeout(IdleKind::Read, Some(SILENCE)).expect("it is in range");
    }
}

impl Receive<Arc<[u8]>> for Room {
    fn on_message(&mut self, line: Arc<[u8]>, cx: &mut Context<'_>) {
        cx.with_each(self.key, |(), conn| {
            conn.write(&line);
        });
    }
}

fn main() -> anyhow::Result<()> {
    env_logger::init();
    let mut args = env::args().skip(1);
    ensure!(args.len() <= 2, "usage: fleet_chat [HOST:PORT [SOCKET]]");
    let addr = args.next().unwrap_or_else(|| "127.0.0.1:7008".to_owned());
    let set_up = move |member: &mut Member<'_>| {
        let room = member.reactor().register_with(|key| Room { key, everyone: None });
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
