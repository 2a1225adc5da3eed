//! Curves of connections.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use waterwheel::{Closed, Conn, ConnId, Context, Handler, Limits, ListenOptions, Peer, Reactor};

use crate::curve::{Curve, Measure};
use crate::rig::{Server, connect, ping_pong};

/// Messages of a run.
const MESSAGES: usize = 20_000;

/// As servers have them: an idle limit, so that each connection has a place in the timer wheel.
fn options() -> ListenOptions {
    let limits = Limits::default().all_idle(Some(Duration::from_secs(600)));
    ListenOptions::default().limits(limits)
}

type Echo = fn(&mut Conn<'_>, &[u8]) -> usize;

fn echo(conn: &mut Conn<'_>, input: &[u8]) -> usize {
    conn.write(input);
    input.len()
}

fn serve_echo() -> (Server<Echo>, SocketAddr) {
    serve(|| echo as Echo)
}

fn serve<H: Handler>(handler: impl FnOnce() -> H + Send + 'static) -> (Server<H>, SocketAddr) {
    Server::start(move |reactor: &mut Reactor| {
        let key = reactor.register(handler());
        (key, reactor.listen("127.0.0.1:0", key, options()).expect("it listens"))
    })
}

/// Connections that are idle beside the one that speaks.
pub(crate) fn held(measure: &Measure) -> Curve {
    let what = ("idle connections held", "a message of 64 bytes");
    measure.curve(what, &[1, 10, 100, 1_000, 9_000], |held| {
        let (server, addr) = serve_echo();
        let _idle: Vec<_> = (0..held).map(|_| connect(addr)).collect();
        let mut client = connect(addr);
        ping_pong(&mut client, &[7; 64], 64, 1);
        (server.cost(|| ping_pong(&mut client, &[7; 64], 64, MESSAGES)), MESSAGES)
    })
}

/// Listening sockets beside the one that is connected to: accept, a message, close.
pub(crate) fn listeners(measure: &Measure) -> Curve {
    const CONNECTIONS: usize = 2_000;
    let what = ("listening sockets", "a connection with one message");
    measure.curve(what, &[1, 10, 100, 1_000, 5_000], |listeners| {
        let (server, addr) = Server::start(move |reactor: &mut Reactor| {
            let key = reactor.register(echo as Echo);
            let listen = |_| reactor.listen("127.0.0.1:0", key, options()).expect("it listens");
            (key, (0..listeners).map(listen).last().expect("at least one"))
        });
        let connections = || {
            for _ in 0..CONNECTIONS {
                ping_pong(&mut connect(addr), &[7; 64], 64, 1);
            }
        };
        (server.cost(connections), CONNECTIONS)
    })
}

/// Bytes of a message: the cost is of 1 KiB, so that a flat curve says that no byte costs more
/// because there are many. Small messages cost their system calls.
pub(crate) fn message_bytes(measure: &Measure) -> Curve {
    const SIZES: [usize; 6] = [1 << 10, 4 << 10, 16 << 10, 64 << 10, 256 << 10, 1 << 20];
    measure.curve(("bytes of a message", "1 KiB echoed"), &SIZES, |bytes| {
        let (server, addr) = serve_echo();
        let mut client = connect(addr);
        let times = (64 << 20) / bytes / 4;
        let cost = server.cost(|| echo_both_ways(&mut client, bytes, times));
        (cost, (bytes * times) >> 10)
    })
}

/// Sends messages on one thread and reads their echo on another.
fn echo_both_ways(client: &mut TcpStream, bytes: usize, times: usize) {
    let mut reading = client.try_clone().expect("another handle");
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let mut room = vec![0; bytes];
            for _ in 0..times {
                reading.read_exact(&mut room).expect("the echo");
            }
        });
        let message = vec![7; bytes];
        for _ in 0..times {
            client.write_all(&message).expect("it is taken");
        }
    });
}

/// Calls of `write` in one callback, of 16 bytes each.
pub(crate) fn writes_of_a_callback(measure: &Measure) -> Curve {
    let what = ("writes in one callback", "a write of 16 bytes");
    measure.curve(what, &[1, 10, 100, 1_000, 10_000], |writes| {
        let (server, addr) = serve(move || {
            move |conn: &mut Conn<'_>, input: &[u8]| {
                for _ in 0..writes {
                    conn.write(&[7; 16]);
                }
                input.len()
            }
        });
        let mut client = connect(addr);
        let times = (400_000 / writes).min(MESSAGES);
        (server.cost(|| ping_pong(&mut client, b"?", 16 * writes, times)), writes * times)
    })
}

/// Messages that a client sends before it reads.
pub(crate) fn pipeline_depth(measure: &Measure) -> Curve {
    let what = ("messages in flight", "a message of 16 bytes");
    measure.curve(what, &[1, 4, 16, 64, 256, 1_024], |depth| {
        let (server, addr) = serve(|| {
            |conn: &mut Conn<'_>, input: &[u8]| {
                let whole = input.chunks_exact(16);
                let used = 16 * whole.len();
                for message in whole {
                    conn.write(message);
                }
                used
            }
        });
        let mut client = connect(addr);
        let batch = vec![7; 16 * depth];
        let times = (400_000 / depth).min(MESSAGES);
        (server.cost(|| ping_pong(&mut client, &batch, batch.len(), times)), depth * times)
    })
}

/// Input that a handler leaves until a message is whole: the cost of each further KiB.
pub(crate) fn unconsumed_input(measure: &Measure) -> Curve {
    const PIECE: usize = 1 << 10;
    let what = ("KiB that wait to be consumed", "1 KiB more");
    measure.curve(what, &[1, 4, 16, 64, 256, 1_024], |pieces| {
        let (server, addr) = serve(move || {
            move |conn: &mut Conn<'_>, input: &[u8]| {
                conn.write(b"."); // each piece is asked for
                if input.len() < pieces * PIECE { 0 } else { pieces * PIECE }
            }
        });
        let mut client = connect(addr);
        let times = (MESSAGES / pieces).max(1) * pieces;
        (server.cost(|| ping_pong(&mut client, &[7; PIECE], 1, times)), times)
    })
}

/// Writes what comes from one to all.
#[derive(Default)]
struct Broadcast {
    members: Vec<ConnId>,
}

impl Handler for Broadcast {
    type State = ();

    fn on_accept(&mut self, _: &Peer) -> Option<()> {
        Some(())
    }

    fn on_open(&mut self, _: &mut (), conn: &mut Conn<'_>) {
        self.members.push(conn.id());
    }

    fn on_data(&mut self, _: &mut (), conn: &mut Conn<'_>, input: &[u8]) -> usize {
        let mut cx = conn.context();
        for &id in &self.members {
            if let Some(mut member) = cx.conn(id) {
                member.write(input);
            }
        }
        input.len()
    }

    fn on_close(&mut self, _: (), closed: Closed, _: &mut Context<'_>) {
        self.members.retain(|&id| id != closed.id);
    }
}

/// Members of a broadcast of 64 bytes. All read, now and then: a send to a peer whose buffers are
/// full would be cheaper.
pub(crate) fn members_of_a_broadcast(measure: &Measure) -> Curve {
    const ROUNDS: usize = 20;
    let what = ("members of a broadcast", "64 bytes to a member");
    measure.curve(what, &[1, 10, 100, 1_000, 9_000], |members| {
        let (server, addr) = serve(Broadcast::default);
        let mut others: Vec<_> = (2..members).map(|_| connect(addr)).collect();
        let mut last = (members > 1).then(|| connect(addr));
        let mut client = connect(addr);
        while server.on_loop(|broadcast, _| broadcast.members.len()) < members {}
        let batches = (MESSAGES / members / ROUNDS).max(1);
        let mut cost = Duration::ZERO;
        for _ in 0..batches {
            cost += server.cost(|| {
                for _ in 0..ROUNDS {
                    ping_pong(&mut client, &[7; 64], 64, 1);
                    // All leaves in order, in more than one turn: then it has left.
                    last.iter_mut().for_each(|it| it.read_exact(&mut [0; 64]).expect("it comes"));
                }
            });
            let read = |other: &mut TcpStream| other.read_exact(&mut [0; 64 * ROUNDS]);
            others.iter_mut().try_for_each(read).expect("all of it");
        }
        (cost, members * ROUNDS * batches)
    })
}
