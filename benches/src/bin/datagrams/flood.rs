//! How late a timer is beside a flood.

use std::error::Error;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use waterwheel::udp::{DatagramHandler, DatagramSocket, UdpOptions};
use waterwheel::{Context, HandlerKey, Reactor, Timer, TimerHandler};

use crate::thread::{stay_on, time_used};

const PERIOD: Duration = Duration::from_millis(10);

/// What a run is like.
#[derive(Clone, Copy)]
struct Mode {
    name: &'static str,
    is_flooded: bool,
    is_batch: bool,
}

const MODES: [Mode; 3] = [
    Mode { name: "quiet", is_flooded: false, is_batch: false },
    Mode { name: "flood, one call each", is_flooded: true, is_batch: false },
    Mode { name: "flood, batches", is_flooded: true, is_batch: true },
];

/// What a server has to tell.
struct Told {
    late: Histogram<u64>,
    received: u64,
    nanos: u64,
}

/// Sends back what comes, and looks at its timer.
struct Echo {
    service: HandlerKey<Echo>,
    late: Histogram<u64>,
    due: Instant,
    end: Instant,
}

impl DatagramHandler for Echo {
    fn on_datagram(&mut self, socket: &mut DatagramSocket<'_>, from: SocketAddr, bytes: &[u8]) {
        socket.send_to(from, bytes);
    }
}

impl TimerHandler for Echo {
    fn on_handler_timer(&mut self, _: Timer, cx: &mut Context<'_>) {
        let now = Instant::now();
        self.late.saturating_record(now.duration_since(self.due).as_nanos() as u64);
        if now < self.end {
            self.due = Instant::now() + PERIOD;
            cx.set_timer(self.service, PERIOD, 0);
        } else {
            cx.stop();
        }
    }
}

fn serve(
    mode: Mode,
    length: Duration,
    tell: impl FnOnce(SocketAddr),
) -> Result<Told, Box<dyn Error + Send + Sync>> {
    stay_on(0)?;
    let mut reactor = Reactor::new()?;
    let late = Histogram::new_with_bounds(1, 10_000_000_000, 3)?;
    let now = Instant::now();
    let service = reactor.register_with(|service| Echo {
        service,
        late,
        due: now + PERIOD,
        end: now + length,
    });
    let options = UdpOptions::default().batch(mode.is_batch);
    let (_, addr) = reactor.bind_udp("127.0.0.1:0", service, options)?;
    tell(addr);
    reactor.set_timer(service, PERIOD, 0);
    let before = time_used()?;
    reactor.run()?;
    let nanos = time_used()? - before;
    let received = reactor.stats().datagrams_received;
    let late = reactor.handler_mut(service).ok_or("the handler is there")?.late.clone();
    Ok(Told { late, received, nanos })
}

fn run(mode: Mode, length: Duration) -> Result<Told, Box<dyn Error + Send + Sync>> {
    let is_over = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&is_over);
    let mut flooder = None;
    let told = thread::scope(|scope| {
        let server = scope.spawn(|| {
            serve(mode, length, |addr| {
                if mode.is_flooded {
                    flooder = Some(thread::spawn(move || flood(addr, &seen)));
                }
            })
        });
        server.join().map_err(|_| "the server has panicked")?
    });
    is_over.store(true, Ordering::Relaxed);
    if let Some(flooder) = flooder {
        flooder.join().map_err(|_| "the flooder has panicked")??;
    }
    told
}

/// Sends without end; what comes back is dropped by the kernel when its buffer is full.
fn flood(addr: SocketAddr, is_over: &AtomicBool) -> Result<(), Box<dyn Error + Send + Sync>> {
    stay_on(1)?;
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    while !is_over.load(Ordering::Relaxed) {
        socket.send_to(&[7; 64], addr)?;
    }
    Ok(())
}

/// Prints the table.
pub(crate) fn compare(rounds: u32, length: Duration) -> Result<(), Box<dyn Error>> {
    let mut sums = Vec::new();
    for mode in MODES {
        let late = Histogram::<u64>::new_with_bounds(1, 10_000_000_000, 3)?;
        sums.push((mode, Told { late, received: 0, nanos: 0 }));
    }
    for _ in 0..rounds {
        for (mode, sum) in &mut sums {
            let told = run(*mode, length).map_err(|error| error.to_string())?;
            sum.late.add(&told.late)?;
            sum.received += told.received;
            sum.nanos += told.nanos;
        }
    }
    println!("a timer of 10 ms: late by, in ms                      datagrams/s  CPU us each");
    for (mode, told) in sums {
        let late = |quantile| told.late.value_at_quantile(quantile) as f64 / 1e6;
        let seconds = length.as_secs_f64() * f64::from(rounds);
        println!(
            "{:22} p50 {:5.2}  p99 {:5.2}  max {:6.2} {:10.0} {:12.2}",
            mode.name,
            late(0.5),
            late(0.99),
            told.late.max() as f64 / 1e6,
            told.received as f64 / seconds,
            told.nanos as f64 / 1e3 / told.received.max(1) as f64,
        );
    }
    Ok(())
}
