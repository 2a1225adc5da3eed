//! Values of 100 bytes, set or got.

use std::io::{self, Write};
use std::net::{SocketAddr, TcpStream};

use super::{Load, ask, connect, expect};

const KEYS: usize = 1_000;
const VALUE: [u8; 100] = [b'v'; 100];

/// A request and its answer.
type Exchange = (Vec<u8>, Vec<u8>);

struct Exchanges {
    lanes: Vec<TcpStream>,
    exchanges: Vec<Exchange>,
    next: usize,
}

fn get(key: usize) -> Exchange {
    let head = format!("VALUE key-{key:04} 0 {}\r\n", VALUE.len());
    let answer = [head.as_bytes(), &VALUE, b"\r\nEND\r\n"].concat();
    (format!("get key-{key:04}\r\n").into_bytes(), answer)
}

fn set(key: usize) -> Exchange {
    let head = format!("set key-{key:04} 0 0 {}\r\n", VALUE.len());
    ([head.as_bytes(), &VALUE, b"\r\n"].concat(), b"STORED\r\n".to_vec())
}

pub(crate) fn start_get(addr: SocketAddr, lanes: usize) -> io::Result<Box<dyn Load>> {
    start(addr, lanes, get)
}

pub(crate) fn start_set(addr: SocketAddr, lanes: usize) -> io::Result<Box<dyn Load>> {
    start(addr, lanes, set)
}

fn start(
    addr: SocketAddr,
    lanes: usize,
    exchange: fn(usize) -> Exchange,
) -> io::Result<Box<dyn Load>> {
    let lanes = (0..lanes).map(|_| connect(addr)).collect::<io::Result<Vec<_>>>()?;
    for (request, answer) in (0..KEYS).map(set) {
        ask(&lanes[0], &request, &answer)?;
    }
    Ok(Box::new(Exchanges { lanes, exchanges: (0..KEYS).map(exchange).collect(), next: 0 }))
}

impl Load for Exchanges {
    fn run(&mut self, operations: usize) -> io::Result<()> {
        let mut left = operations;
        while left > 0 {
            let lanes = &self.lanes[..left.min(self.lanes.len())];
            let exchange = |lane| &self.exchanges[(self.next + lane) % KEYS];
            for (lane, mut stream) in lanes.iter().enumerate() {
                stream.write_all(&exchange(lane).0)?;
            }
            for (lane, stream) in lanes.iter().enumerate() {
                expect(stream, &exchange(lane).1)?;
            }
            left -= lanes.len();
            self.next += lanes.len();
        }
        Ok(())
    }
}
