//! A chat in the browser: rooms over WebSocket.
//!
//! ```text
//! cargo run --features http,ws --example chat_web
//! ```
//! Open <http://127.0.0.1:8080/> in two windows. Whoever names the same room hears each other.

use std::collections::HashMap;
use std::env;
use std::io::{self, Write};
use std::time::Duration;

use waterwheel::http::{self, Router, Server};
use waterwheel::ws::{self, CloseCode, Deflate, Ended, Frame, Message, Room, Slow, Socket};
use waterwheel::{Context, ListenOptions, Reactor, Timer};

/// A line of chat may be so long, in bytes, and so may a name.
const MAX_LINE: usize = 1_000;
const MAX_NAME: usize = 40;

/// So many rooms at once, and lines of a member before the others have their turn.
const MAX_ROOMS: usize = 1_000;
const TURN_LINES: u64 = 64;

/// The rooms, by name. A room is there while somebody is in it.
#[derive(Default)]
struct Chat {
    rooms: HashMap<String, Room>,
}

/// Who it is, and where.
struct Member {
    name: String,
    room: String,
    /// What it has said so far.
    lines: u64,
}

impl Chat {
    fn say(&mut self, room: &str, line: &str, cx: &mut Context<'_>) {
        if let Some(room) = self.rooms.get_mut(room) {
            // Framed once for all. Who does not read misses lines, and holds up nobody.
            room.publish(cx, &Frame::text(line), Slow::Skip);
        }
    }
}

impl ws::Handler for Chat {
    type State = Member;

    fn on_open(&mut self, member: &mut Member, socket: &mut Socket<'_>) {
        if self.rooms.len() >= MAX_ROOMS && !self.rooms.contains_key(&member.room) {
            return socket.close(CloseCode::POLICY, "there are rooms enough");
        }
        self.rooms.entry(member.room.clone()).or_default().join(socket);
        let line = format!("{} has come in", member.name);
        self.say(&member.room, &line, &mut socket.context());
    }

    fn on_message(&mut self, member: &mut Member, socket: &mut Socket<'_>, message: Message<'_>) {
        if let Some(text) = message.text() {
            let line = format!("{}: {text}", member.name);
            self.say(&member.room, &line, &mut socket.context());
        }
        member.lines += 1;
        if member.lines % TURN_LINES == 0 {
            socket.pause_reading();
            socket.set_timer(Duration::from_millis(1), 0);
        }
    }

    fn on_timer(&mut self, _: &mut Member, socket: &mut Socket<'_>, _: Timer) {
        socket.resume_reading();
    }

    fn on_close(&mut self, member: Member, ended: Ended<'_>, cx: &mut Context<'_>) {
        let Some(room) = self.rooms.get_mut(&member.room) else { return };
        room.leave(ended.closed.id);
        if room.is_empty() {
            self.rooms.remove(&member.room);
        } else {
            let line = format!("{} has left", member.name);
            self.say(&member.room, &line, cx);
        }
    }
}

/// The page. What others say is put in as text, and never as HTML.
const PAGE: &str = r#"<!doctype html>
<meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>chat</title>
<style>
  body { font: 1rem/1.5 system-ui, sans-serif; max-width: 40rem; margin: 2rem auto;
         padding: 0 1rem; color-scheme: light dark }
  #lines { min-height: 12rem; padding: 0; list-style: none; overflow-wrap: anywhere }
  form { display: flex; gap: .5rem; flex-wrap: wrap }
  [hidden] { display: none }
  input { font: inherit; flex: 1 1 8rem; padding: .3rem }
  button { font: inherit; padding: .3rem 1rem }
</style>
<h1>Chat</h1>
<form id="enter">
  <input name="name" placeholder="your name" maxlength="40" required autofocus>
  <input name="room" placeholder="room" maxlength="40" value="lobby" required>
  <button>Enter</button>
</form>
<ul id="lines" aria-live="polite"></ul>
<form id="say" hidden>
  <input name="line" placeholder="say something" maxlength="250" autocomplete="off">
  <button>Say</button>
</form>
<script>
  const byId = id => document.getElementById(id);
  const show = text => {
    const line = document.createElement("li");
    line.textContent = text;
    byId("lines").append(line);
    line.scrollIntoView();
  };
  byId("enter").onsubmit = event => {
    event.preventDefault();
    const form = new FormData(byId("enter"));
    const query = new URLSearchParams({ name: form.get("name") });
    const scheme = location.protocol === "https:" ? "wss" : "ws";
    const at = `${scheme}://${location.host}/chat/${encodeURIComponent(form.get("room"))}?${query}`;
    const socket = new WebSocket(at);
    socket.onmessage = event => show(event.data);
    socket.onclose = event => show(`the connection has ended: ${event.reason || event.code}`);
    socket.onopen = () => {
      byId("enter").hidden = true;
      byId("say").hidden = false;
      byId("say").elements.line.focus();
    };
    byId("say").onsubmit = event => {
      event.preventDefault();
      const input = byId("say").elements.line;
      if (input.value) socket.send(input.value);
      input.value = "";
    };
  };
</script>
"#;

fn main() -> io::Result<()> {
    env_logger::init();
    let addr = env::args().nth(1).unwrap_or_else(|| "127.0.0.1:8080".to_owned());
    let options =
        ws::Options::default().max_message_bytes(MAX_LINE).deflate(Some(Deflate::default()));
    let endpoint = ws::Endpoint::new(options);
    let routes = Router::new().get("/", |_, _, res| res.html(PAGE)).get(
        "/chat/{room}",
        move |_, req, res| {
            let name = req.query_value("name").unwrap_or_default();
            let (name, room) = (name.trim().to_owned(), req.param("room").to_owned());
            let is_named = (1..=MAX_NAME).contains(&name.len()) && room.len() <= MAX_NAME;
            if !is_named || !ws::is_same_origin(req) {
                res.status(403).text("a name and a room, and from this page\n");
                return;
            }
            endpoint.upgrade(req, res, Member { name, room, lines: 0 });
        },
    );
    let mut reactor = Reactor::new()?;
    let web = reactor.register(Server::new(Chat::default(), routes));
    let options = ListenOptions::default().limits(http::limits());
    let addr = reactor.listen(addr.as_str(), web, options)?;
    let _ = writeln!(io::stdout(), "listening on {addr}");
    reactor.run()
}
