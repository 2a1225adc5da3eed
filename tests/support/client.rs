//! Raw client sockets with bounded waits.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use socket2::SockRef;

use super::PATIENCE;

/// How a stream ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// With FIN.
    Fin,
    /// With RST.
    Reset,
}

/// A blocking socket from std; no call waits longer than [`PATIENCE`].
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) stream: TcpStream,
}

impl Client {
    #[track_caller]
    pub(crate) fn connect(addr: SocketAddr) -> Self {
        Self::from(TcpStream::connect_timeout(&addr, PATIENCE).expect("connects"))
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.stream.local_addr().unwrap()
    }

    /// Keeps the kernel from taking more than a little that the test does not read.
    pub(crate) fn with_small_receive_buffer(self) -> Self {
        SockRef::from(&self.stream).set_recv_buffer_size(4 << 10).unwrap();
        self
    }

    #[track_caller]
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("sends");
    }

    /// Sends FIN and goes on reading.
    #[track_caller]
    pub(crate) fn finish(&mut self) {
        self.stream.shutdown(Shutdown::Write).expect("shuts down");
    }

    /// Ends with RST.
    pub(crate) fn reset(self) {
        SockRef::from(&self.stream).set_linger(Some(Duration::ZERO)).unwrap();
    }

    /// Whatever is there now: `Ok` with no more than `most` bytes (none if there are none), or
    /// the end of the stream.
    #[track_caller]
    pub(crate) fn try_read(&mut self, most: usize) -> Result<Vec<u8>, End> {
        let mut bytes = vec![0; most];
        self.stream.set_nonblocking(true).unwrap();
        let result = self.stream.read(&mut bytes);
        self.stream.set_nonblocking(false).unwrap();
        match result {
            Ok(0) => Err(End::Fin),
            Ok(count) => {
                bytes.truncate(count);
                Ok(bytes)
            }
            Err(error) => match error.kind() {
                ErrorKind::WouldBlock | ErrorKind::Interrupted => Ok(Vec::new()),
                ErrorKind::ConnectionReset => Err(End::Reset),
                _ => panic!("the client cannot read: {error}"),
            },
        }
    }

    /// Writes as much as the kernel takes now.
    #[track_caller]
    pub(crate) fn try_send(&mut self, bytes: &[u8]) -> usize {
        self.stream.set_nonblocking(true).unwrap();
        let result = self.stream.write(bytes);
        self.stream.set_nonblocking(false).unwrap();
        match result {
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
            Err(error) => panic!("the client cannot send: {error}"),
        }
    }

    /// Waits for exactly these bytes, from a server on another thread.
    #[track_caller]
    pub(crate) fn expect(&mut self, bytes: &[u8]) {
        let mut found = vec![0; bytes.len()];
        self.stream.read_exact(&mut found).expect("an answer");
        assert!(found == bytes, "another answer than expected");
    }

    /// Waits for the end, and for nothing before it, from a server on another thread.
    #[track_caller]
    pub(crate) fn expect_end(&mut self, end: End) {
        let found = match self.stream.read(&mut [0; 64]) {
            Ok(0) => End::Fin,
            Ok(count) => panic!("{count} bytes instead of the end"),
            Err(error) if error.kind() == ErrorKind::ConnectionReset => End::Reset,
            Err(error) => panic!("no end: {error}"),
        };
        assert_eq!(found, end);
    }
}

impl From<TcpStream> for Client {
    fn from(stream: TcpStream) -> Self {
        let set = || -> io::Result<()> {
            stream.set_nodelay(true)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.set_write_timeout(Some(PATIENCE))
        };
        set().expect("socket options");
        Self { stream }
    }
}
