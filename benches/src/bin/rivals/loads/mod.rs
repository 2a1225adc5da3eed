//! Loads: operations whose answers are checked. What is sent does not depend on the server.

pub(crate) mod dns;
pub(crate) mod kv;
pub(crate) mod memcached;
pub(crate) mod mqtt;
pub(crate) mod socks;

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::Duration;

/// Longest wait for an answer.
const PATIENCE: Duration = Duration::from_secs(20);

/// Time for a server that is traced to come to rest.
const REST: Duration = Duration::from_millis(2);

/// Operations on a server.
pub(crate) trait Load {
    /// Makes so many operations, and returns when the last is answered; an error if an answer is
    /// not what it should be.
    fn run(&mut self, operations: usize) -> io::Result<()>;

    /// Makes so many operations, and lets the server come to rest after each. One that is traced
    /// is slow, and would otherwise find the next request without having to wait for it.
    fn run_apart(&mut self, operations: usize) -> io::Result<()> {
        for _ in 0..operations {
            self.run(1)?;
            thread::sleep(REST);
        }
        Ok(())
    }
}

/// A connection with no delay and no answer that lasts for ever.
fn connect(addr: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(addr)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// Reads as many bytes as are wanted, and compares them.
fn expect(mut stream: &TcpStream, wanted: &[u8]) -> io::Result<()> {
    let mut got = [0; 4096];
    let got = &mut got[..wanted.len()];
    stream.read_exact(got)?;
    if got == wanted {
        return Ok(());
    }
    let (got, wanted) = (got.escape_ascii(), wanted.escape_ascii());
    Err(io::Error::new(io::ErrorKind::InvalidData, format!("\"{got}\", not \"{wanted}\"")))
}

/// Sends bytes, and wants an answer.
fn ask(mut stream: &TcpStream, request: &[u8], wanted: &[u8]) -> io::Result<()> {
    stream.write_all(request)?;
    expect(stream, wanted)
}
