//! A page that counts, and goes on where it was after the server was started anew: events with ids,
//! and the field Last-Event-ID.
//!
//! ```text
//! cargo run --features http --example http_events
//! curl -N -H 'Last-Event-ID: 41' http://127.0.0.1:8080/events
//! ```

use std::io::{self, Write};
use std::time::Duration;

use waterwheel::http::{Event, ReplyId, Router, Server};
use waterwheel::{Context, HandlerKey, ListenOptions, Reactor, Timer, TimerHandler, Written, http};

/// Between two events of a page.
const EVERY: Duration = Duration::from_millis(2);

const PAGE: &str = "<!doctype html><title>events</title><h1></h1><script>
new EventSource('/events').onmessage = (event) => {
    document.querySelector('h1').textContent = event.data;
};
</script>";

/// The pages that listen, and the number of the last event of each.
#[derive(Default)]
struct App {
    pages: Vec<(ReplyId, u64)>,
}

/// Has the server go on, by a timer of its own.
struct Ticker {
    web: Option<HandlerKey<Server<App>>>,
}

impl TimerHandler for Ticker {
    fn on_handler_timer(&mut self, _: Timer, cx: &mut Context<'_>) {
        if let Some(web) = self.web {
            cx.post(web, go_on);
        }
    }
}

/// Sends each page its next event. One that reads too slowly waits for the next round.
fn go_on(server: &mut Server<App>, cx: &mut Context<'_>) {
    // The last first, because the last takes the place of one that has gone.
    for at in (0..server.app().pages.len()).rev() {
        let (id, last) = server.app().pages[at];
        let next = last.wrapping_add(1); // a client may have sent any number
        let number = next.to_string();
        let event = Event::new(&number).id(&number);
        match server.answer(cx, id, |_, res| res.send_event(&event)) {
            Some(Written::Below | Written::Above) => server.app().pages[at].1 = next,
            Some(_) => {}
            None => drop(server.app().pages.swap_remove(at)),
        }
    }
}

fn main() -> io::Result<()> {
    env_logger::init();
    let routes = Router::new().get("/", |_, _, res| res.bytes("text/html", PAGE.as_bytes())).get(
        "/events",
        |app: &mut App, req, res| {
            let last = req.header("last-event-id").and_then(|id| id.parse().ok()).unwrap_or(0);
            res.header("Access-Control-Allow-Origin", "*"); // pages of others may listen
            app.pages.push((res.events(Some(Duration::from_secs(15))), last));
            res.send_event(&Event::new("").retry(Duration::from_millis(100)));
        },
    );
    let addr = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:8080".to_owned());
    let mut reactor = Reactor::new()?;
    let ticker = reactor.register(Ticker { web: None });
    let web = reactor.register(Server::new(App::default(), routes));
    reactor.handler_mut(ticker).expect("it is registered").web = Some(web);
    reactor.set_periodic_timer(ticker, EVERY, 0);
    let options = ListenOptions::default().limits(http::limits());
    let addr = reactor.listen(&addr[..], web, options)?;
    let _ = writeln!(io::stdout(), "listening on {addr}");
    reactor.run()
}
