//! Publishers, each with a subscriber, QoS 1 on both sides.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};

use super::{Load, ask, connect, expect};

/// Messages under way for each publisher: under what mosquitto holds back.
const WINDOW: usize = 10;

const PAYLOAD: [u8; 64] = [b'm'; 64];

struct Pairs {
    /// A publisher, its subscriber, and their topic.
    pairs: Vec<(TcpStream, TcpStream, String)>,
    window: usize,
    next_id: u16,
}

/// A packet whose length takes one byte.
fn packet(first: u8, parts: &[&[u8]]) -> Vec<u8> {
    let body = parts.concat();
    [&[first, body.len() as u8], &body[..]].concat()
}

/// A text behind its length.
fn text(text: &str) -> Vec<u8> {
    [&(text.len() as u16).to_be_bytes(), text.as_bytes()].concat()
}

fn publish(topic: &str, id: u16) -> Vec<u8> {
    packet(0x32, &[&text(topic), &id.to_be_bytes(), &PAYLOAD])
}

pub(crate) fn start(addr: SocketAddr, lanes: usize) -> io::Result<Box<dyn Load>> {
    let join = |name: &str| -> io::Result<TcpStream> {
        let stream = connect(addr)?;
        let hello = packet(0x10, &[&text("MQTT"), &[4, 2, 0, 60], &text(name)]);
        ask(&stream, &hello, &[0x20, 2, 0, 0])?;
        Ok(stream)
    };
    let pairs = (0..lanes).map(|lane| {
        let topic = format!("room/{lane:02}/temperature");
        let publisher = join(&format!("publisher-{lane}"))?;
        let subscriber = join(&format!("subscriber-{lane}"))?;
        let subscribe = packet(0x82, &[&[0, 1], &text(&topic), &[1]]);
        ask(&subscriber, &subscribe, &[0x90, 3, 0, 1, 1])?;
        Ok((publisher, subscriber, topic))
    });
    let window = if lanes == 1 { 1 } else { WINDOW };
    Ok(Box::new(Pairs { pairs: pairs.collect::<io::Result<_>>()?, window, next_id: 1 }))
}

impl Load for Pairs {
    fn run(&mut self, operations: usize) -> io::Result<()> {
        for _ in 0..operations.div_ceil(self.window * self.pairs.len()) {
            self.publish_window()?;
        }
        Ok(())
    }
}

impl Pairs {
    /// Every publisher publishes as much as may be under way, and every subscriber gets it.
    fn publish_window(&mut self) -> io::Result<()> {
        let ids: Vec<u16> = (0..self.window as u16).map(|at| self.next_id + at).collect();
        for (publisher, _, topic) in &mut self.pairs {
            let packets: Vec<u8> = ids.iter().flat_map(|&id| publish(topic, id)).collect();
            publisher.write_all(&packets)?;
        }
        for (publisher, subscriber, topic) in &mut self.pairs {
            let confirmed = ids.iter().flat_map(|id| packet(0x40, &[&id.to_be_bytes()]));
            expect(publisher, &confirmed.collect::<Vec<u8>>())?;
            let mut confirmations = Vec::new();
            for _ in &ids {
                let id = receive(subscriber, topic)?;
                confirmations.extend(packet(0x40, &[&id]));
            }
            subscriber.write_all(&confirmations)?;
        }
        self.next_id = self.next_id % 60_000 + self.window as u16;
        Ok(())
    }
}

/// Takes a message and checks all but its id, which is the broker's to choose.
fn receive(subscriber: &mut TcpStream, topic: &str) -> io::Result<[u8; 2]> {
    let wanted = publish(topic, 0);
    let mut got = vec![0; wanted.len()];
    subscriber.read_exact(&mut got)?;
    let place = wanted.len() - PAYLOAD.len() - 2;
    let id = [got[place], got[place + 1]];
    got[place..place + 2].fill(0);
    if got == wanted && id != [0, 0] {
        return Ok(id);
    }
    Err(io::Error::other(format!("a message of {topic}: {}", got.escape_ascii())))
}
