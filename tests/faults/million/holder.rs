//! A client process: it holds its share of the connections, asks each once, and sees each end.
//!
//! Its sockets block, and nothing watches them: that takes the fewest system calls, which are what
//! is slow in the machine.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Instant;

use socket2::{Domain, Socket, Type};

use super::server::{EXAMPLES, PORT};

/// Questions on their way at a time.
const WINDOW: usize = 500;

/// The first port of a source address, and how many are used.
const FIRST_PORT: usize = 10_000;
const PORTS: usize = 50_000;

/// How often it says how far it is.
const MILESTONE: usize = 50_000;

/// The part names the process, by a number, and its share.
pub(super) fn hold(part: &str) {
    waterwheel::raise_open_file_limit().expect("room for its files");
    let (process, share) = part.split_once(' ').expect("two numbers");
    let process = process.parse().expect("a number");
    let share = share.parse().expect("a number");
    let start = Instant::now();
    let mut streams = Vec::with_capacity(share);
    for number in 0..share {
        streams.push(connect(process, number));
        if number % MILESTONE == 0 {
            eprintln!("{:.0?}: {number} connections of process {process}", start.elapsed());
        }
    }
    println!("\nheld: {share}");
    for order in std::io::stdin().lines().map_while(Result::ok) {
        match order.as_str() {
            "ask" => println!("answered: {}", ask(&mut streams)),
            "see them end" => println!("ended: {}", see_end(&mut streams)),
            _ => panic!("{order}?"),
        }
    }
}

/// Each names its port: the kernel need not look for one.
fn connect(process: u8, number: usize) -> TcpStream {
    let source = Ipv4Addr::new(127, 1, process, 1 + (number / PORTS) as u8);
    let source = SocketAddr::from((source, (FIRST_PORT + number % PORTS) as u16));
    let server = SocketAddr::from((Ipv4Addr::LOCALHOST, PORT));
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    socket.bind(&source.into()).expect("an address of its own");
    socket.connect(&server.into()).expect("connects");
    socket.into()
}

/// Asks each something else, and counts the right answers.
fn ask(streams: &mut [TcpStream]) -> usize {
    let (mut right, mut told) = (0, 0);
    for (window, streams) in streams.chunks_mut(WINDOW).enumerate() {
        let question = |at: usize| ((window * WINDOW + at) as u64).to_le_bytes();
        for (at, stream) in streams.iter_mut().enumerate() {
            let _ = stream.write_all(&question(at)); // what fails here has no answer
        }
        for (at, stream) in streams.iter_mut().enumerate() {
            let mut answer = [0; 8];
            let result = stream.read_exact(&mut answer);
            if result.is_ok() && answer == question(at) {
                right += 1;
            } else if told < EXAMPLES {
                told += 1;
                eprintln!("{stream:?} answers {answer:?}, {result:?}");
            }
        }
    }
    right
}

/// Counts those that the server ends with FIN, and with nothing before it.
fn see_end(streams: &mut Vec<TcpStream>) -> usize {
    let ends = streams.drain(..).map(|mut stream| stream.read(&mut [0; 8]));
    ends.filter(|end| matches!(end, Ok(0))).count()
}
