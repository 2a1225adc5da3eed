//! The room.

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use waterwheel::http::{self, Router, Server};
use waterwheel::ws::{self, Endpoint, Frame, Message, Options, Room, Slow, Socket};
use waterwheel::{Context, ListenOptions, Reactor};

use crate::children::{publish_on_demand, say};

struct Feed {
    room: Room,
}

impl ws::Handler for Feed {
    type State = ();

    fn on_open(&mut self, (): &mut (), socket: &mut Socket<'_>) {
        self.room.join(socket);
    }

    fn on_message(&mut self, (): &mut (), _: &mut Socket<'_>, _: Message<'_>) {}
}

pub(crate) fn serve(count: usize) -> Result<(), Box<dyn Error>> {
    let endpoint = Endpoint::new(Options::default().ping_interval(None));
    let routes = Router::new().get("/", move |_: &mut Feed, req, res| {
        endpoint.upgrade(req, res, ());
    });
    let mut reactor = Reactor::new()?;
    let web = reactor.register(Server::new(Feed { room: Room::default() }, routes));
    let options = ListenOptions::default().limits(http::limits());
    say(&reactor.listen("127.0.0.1:0", web, options)?.to_string())?;
    while reactor.handler_mut(web).is_none_or(|web| web.app().room.len() < count) {
        reactor.run_once(None)?;
    }
    say("all are there")?;
    let (remote, sent) = (reactor.remote(), Arc::new(AtomicUsize::new(0)));
    publish_on_demand(|| {
        let told = Arc::clone(&sent);
        sent.store(0, Relaxed);
        remote.with(web, move |web: &mut Server<Feed>, cx: &mut Context<'_>| {
            let frame = Frame::binary(&[7; 64]);
            told.store(web.app().room.publish(cx, &frame, Slow::Skip).sent, Relaxed);
        })?;
        // What is published leaves at the ends of this turn and of those that follow.
        let before = reactor.stats().writes;
        while reactor.stats().writes < before + count as u64 {
            reactor.run_once(Some(Duration::ZERO))?;
        }
        if sent.load(Relaxed) != count {
            return Err("a member was left out".into());
        }
        Ok(())
    })
}
