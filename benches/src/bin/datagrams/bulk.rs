//! One sender, one receiver.

use std::error::Error;
use std::net::SocketAddr;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use waterwheel::udp::{DatagramHandler, DatagramSocket, SocketId, UdpOptions};
use waterwheel::{Context, HandlerKey, Reactor, Timer, TimerHandler};

use crate::thread::{stay_on, time_used};

/// What passes a usual path whole, with the headers of QUIC and the like (RFC 9000, 14.1).
const BYTES: usize = 1_200;

/// Datagrams of one turn of the sender.
const BURST: usize = 64;

type Failure = Box<dyn Error + Send + Sync>;

/// Datagrams, and the processor's nanoseconds for them.
#[derive(Clone, Copy, Default)]
struct Cost {
    count: u64,
    nanos: u64,
}

/// Sends a burst each turn until its time is over.
struct Sender {
    service: HandlerKey<Sender>,
    socket: Option<SocketId>,
    end: Instant,
}

impl Sender {
    fn burst(&mut self, cx: &mut Context<'_>) {
        if let Some(mut socket) = self.socket.and_then(|id| cx.socket(id)) {
            for _ in 0..BURST {
                socket.send(&[7; BYTES]);
            }
        }
        if Instant::now() < self.end {
            cx.post(self.service, Self::burst);
        } else {
            cx.stop();
        }
    }
}

impl DatagramHandler for Sender {
    fn on_datagram(&mut self, _: &mut DatagramSocket<'_>, _: SocketAddr, _: &[u8]) {}
}

/// Counts; ends when nothing has come for a while.
struct Receiver {
    service: HandlerKey<Receiver>,
    count: u64,
    seen: u64,
}

const SILENCE: Duration = Duration::from_millis(200);

impl DatagramHandler for Receiver {
    fn on_datagram(&mut self, _: &mut DatagramSocket<'_>, _: SocketAddr, bytes: &[u8]) {
        self.count += u64::from(bytes.len() == BYTES);
    }
}

impl TimerHandler for Receiver {
    fn on_handler_timer(&mut self, _: Timer, cx: &mut Context<'_>) {
        if self.count > 0 && self.count == self.seen {
            return cx.stop();
        }
        self.seen = self.count;
        cx.set_timer(self.service, SILENCE, 0);
    }
}

fn send(to: SocketAddr, options: UdpOptions, length: Duration) -> Result<Cost, Failure> {
    stay_on(1)?;
    let mut reactor = Reactor::new()?;
    let end = Instant::now() + length;
    let service = reactor.register_with(|service| Sender { service, socket: None, end });
    let (id, _) = reactor.connect_udp(to, service, options)?;
    reactor.context().post(service, move |sender: &mut Sender, cx| {
        sender.socket = Some(id);
        sender.burst(cx);
    });
    let before = time_used()?;
    reactor.run()?;
    Ok(Cost { count: reactor.stats().datagrams_sent, nanos: time_used()? - before })
}

fn receive(options: UdpOptions, tell: &mpsc::Sender<SocketAddr>) -> Result<Cost, Failure> {
    stay_on(0)?;
    let mut reactor = Reactor::new()?;
    let service = reactor.register_with(|service| Receiver { service, count: 0, seen: 0 });
    let (_, addr) = reactor.bind_udp("127.0.0.1:0", service, options)?;
    tell.send(addr)?;
    reactor.set_timer(service, SILENCE, 0);
    let before = time_used()?;
    reactor.run()?;
    let nanos = time_used()? - before;
    let count = reactor.handler_mut(service).ok_or("the handler is there")?.count;
    Ok(Cost { count, nanos })
}

fn run(is_batch: bool, length: Duration) -> Result<(Cost, Cost), Failure> {
    let options = UdpOptions::default().batch(is_batch);
    let its_options = options.clone();
    let (tell, told) = mpsc::channel();
    let receiver = thread::spawn(move || receive(its_options, &tell));
    let addr = told.recv().map_err(|_| "the receiver has failed")?;
    let sender = thread::spawn(move || send(addr, options, length));
    let sent = sender.join().map_err(|_| "the sender has panicked")??;
    let received = receiver.join().map_err(|_| "the receiver has panicked")??;
    Ok((sent, received))
}

/// Prints the table.
pub(crate) fn compare(rounds: u32, length: Duration) -> Result<(), Box<dyn Error>> {
    let mut sums = [(Cost::default(), Cost::default()); 2];
    for _ in 0..rounds {
        for (is_batch, sum) in [false, true].into_iter().zip(&mut sums) {
            let (sent, received) = run(is_batch, length).map_err(|error| error.to_string())?;
            for (sum, cost) in [(&mut sum.0, sent), (&mut sum.1, received)] {
                sum.count += cost.count;
                sum.nanos += cost.nanos;
            }
        }
    }
    println!("bulk, 1,200 bytes: CPU ns a datagram     sent/s  received/s");
    for (name, (sent, received)) in ["one call each", "batches"].into_iter().zip(sums) {
        let each = |cost: Cost| cost.nanos as f64 / cost.count.max(1) as f64;
        let rate = |cost: Cost| cost.count as f64 / (length.as_secs_f64() * f64::from(rounds));
        println!(
            "{name:14} sender {:6.0}  receiver {:6.0} {:10.0} {:11.0}",
            each(sent),
            each(received),
            rate(sent),
            rate(received)
        );
    }
    Ok(())
}
