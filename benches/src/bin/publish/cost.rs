//! The first table: processor time of a publish.

use std::error::Error;
use std::thread;
use std::time::Duration;

use crate::children::Process;

/// Publishes of one server before it is the other one's turn.
const BATCH: usize = 5;

/// Between two publishes, for the members to read.
const PAUSE: Duration = Duration::from_millis(50);

/// A server, its members, and the times of its batches, each in nanoseconds a member.
struct Side {
    server: Process,
    _members: Process,
    times: Vec<f64>,
}

impl Side {
    fn start(role: &str, count: usize) -> Result<Self, Box<dyn Error>> {
        let count = count.to_string();
        let mut server = Process::start(&[role, &count])?;
        let addr = server.line()?;
        let members = Process::start(&["members", &addr, &count])?;
        server.line()?; // all are there
        Ok(Self { server, _members: members, times: Vec::new() })
    }

    fn batch(&mut self, members: usize) -> Result<f64, Box<dyn Error>> {
        let mut sum = 0.0;
        for _ in 0..BATCH {
            thread::sleep(PAUSE);
            sum += self.server.ask("publish")?.parse::<f64>()?;
        }
        Ok(sum / (BATCH * members) as f64)
    }
}

pub(crate) fn compare(members: usize, rounds: usize) -> Result<(), Box<dyn Error>> {
    let mut room = Side::start("room", members)?;
    let mut raw = Side::start("raw", members)?;
    room.batch(members)?; // memory that is used for the first time
    raw.batch(members)?;
    for round in 0..rounds {
        // Neither is always the one that comes second.
        let mut order = [&mut room, &mut raw];
        order.rotate_left(round % 2);
        for side in order {
            let time = side.batch(members)?;
            side.times.push(time);
        }
    }
    let ratios = room.times.iter().zip(&raw.times).map(|(room, raw)| room / raw).collect();
    let (low, ratio, high) = quartiles(ratios);
    let (_, room, _) = quartiles(room.times);
    let (_, raw, _) = quartiles(raw.times);
    println!("64 bytes to {members} members, {rounds} rounds of {BATCH}, ns a member:");
    println!("  Room::publish   {room:7.0}");
    println!("  ready frames    {raw:7.0}");
    println!("  ratio           {ratio:7.3}   (quartiles {low:.3} and {high:.3})\n");
    Ok(())
}

fn quartiles(mut values: Vec<f64>) -> (f64, f64, f64) {
    values.sort_by(f64::total_cmp);
    let at = |part: usize| values.get(values.len() * part / 4).copied().unwrap_or(f64::NAN);
    (at(1), at(2), at(3))
}
