//! Queries for a hundred names, which are cached after the first of each; and the server that a
//! forwarder asks for them.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::thread;

use super::{Load, PATIENCE};

const NAMES: usize = 100;

/// The type of an address, the class of the Internet.
const A_IN: [u8; 4] = [0, 1, 0, 1];

const ADDRESS: [u8; 4] = [192, 0, 2, 1];

struct Queries {
    socket: UdpSocket,
    /// How many are under way at once.
    lanes: usize,
    queries: Vec<Vec<u8>>,
    next: u16,
}

fn query(name: usize) -> Vec<u8> {
    let label = format!("name-{name:02}");
    let mut query = vec![0, 0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, label.len() as u8];
    query.extend(label.as_bytes());
    query.extend(b"\x07example\0");
    query.extend(A_IN);
    query
}

/// Answers every question with the same address, for an hour.
pub(crate) fn serve() -> io::Result<SocketAddr> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    let addr = socket.local_addr()?;
    thread::spawn(move || {
        let mut buffer = [0; 512];
        while let Ok((length, peer)) = socket.recv_from(&mut buffer) {
            let question = buffer[12..length].windows(5).position(|five| five == b"\0\0\x01\0\x01");
            let Some(end) = question.map(|at| 12 + at + 5) else { continue };
            let mut answer = buffer[..end].to_vec();
            answer[2..12].copy_from_slice(&[0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 0]);
            answer.extend([0xc0, 12]);
            answer.extend(A_IN);
            answer.extend([0, 0, 14, 16, 0, 4]);
            answer.extend(ADDRESS);
            let _ = socket.send_to(&answer, peer); // who has gone gets none
        }
    });
    Ok(addr)
}

pub(crate) fn start(addr: SocketAddr, lanes: usize) -> io::Result<Box<dyn Load>> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    socket.connect(addr)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    let queries = (0..NAMES).map(query).collect();
    let mut load = Box::new(Queries { socket, lanes: 1, queries, next: 0 });
    load.run(NAMES)?;
    load.lanes = lanes;
    Ok(load)
}

impl Load for Queries {
    fn run(&mut self, operations: usize) -> io::Result<()> {
        let mut left = operations;
        let mut answer = [0; 512];
        while left > 0 {
            let lanes = left.min(self.lanes);
            for lane in 0..lanes {
                let id = self.next.wrapping_add(lane as u16);
                let query = &mut self.queries[usize::from(id) % NAMES];
                query[..2].copy_from_slice(&id.to_be_bytes());
                self.socket.send(query)?;
            }
            let mut answered = vec![false; lanes];
            for _ in 0..lanes {
                let length = self.socket.recv(&mut answer)?;
                self.check(&answer[..length], &mut answered)?;
            }
            left -= lanes;
            self.next = self.next.wrapping_add(lanes as u16);
        }
        Ok(())
    }
}

impl Queries {
    /// Checks an answer, and that it is the first to its query.
    fn check(&self, answer: &[u8], answered: &mut [bool]) -> io::Result<()> {
        let bad = || io::Error::other(format!("the answer {answer:x?}"));
        let (&id, rest) = answer.split_first_chunk().ok_or_else(bad)?;
        let id = u16::from_be_bytes(id);
        let query = &self.queries[usize::from(id) % NAMES];
        let lane = answered.get_mut(usize::from(id.wrapping_sub(self.next))).ok_or_else(bad)?;
        let is_answer = rest.len() > query.len() && rest[0] & 0x80 != 0 && rest[1] & 15 == 0;
        let is_right = is_answer
            && rest[2..6] == [0, 1, 0, 1]
            && rest[10..query.len() - 2] == query[12..]
            && answer.ends_with(&ADDRESS);
        if std::mem::replace(lane, true) || !is_right {
            return Err(bad());
        }
        Ok(())
    }
}
