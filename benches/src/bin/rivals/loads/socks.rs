//! Connections through a SOCKS5 proxy to a name, to a server that is here as well.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};

use super::{Load, PATIENCE, connect, expect};

/// What is sent each way.
const MESSAGE: [u8; 64] = [b'm'; 64];

struct Connections {
    proxy: SocketAddr,
    lanes: usize,
    server: TcpListener,
}

pub(crate) fn start(proxy: SocketAddr, lanes: usize) -> io::Result<Box<dyn Load>> {
    let server = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    Ok(Box::new(Connections { proxy, lanes, server }))
}

impl Load for Connections {
    fn run(&mut self, operations: usize) -> io::Result<()> {
        let mut left = operations;
        while left > 0 {
            let lanes = left.min(self.lanes);
            self.pass(lanes)?;
            left -= lanes;
        }
        Ok(())
    }
}

impl Connections {
    /// So many connections at once, from their beginning to their end.
    fn pass(&self, lanes: usize) -> io::Result<()> {
        let port = self.server.local_addr()?.port().to_be_bytes();
        let name = b"localhost";
        let request = [&[5, 1, 0, 3, name.len() as u8], &name[..], &port].concat();
        let clients = (0..lanes).map(|_| connect(self.proxy)).collect::<io::Result<Vec<_>>>()?;
        for mut client in &clients {
            client.write_all(&[5, 1, 0])?;
        }
        for mut client in &clients {
            expect(client, &[5, 0])?;
            client.write_all(&request)?;
        }
        let mut servers = Vec::new();
        for mut client in &clients {
            let mut reply = [0; 10]; // the address in it is of IPv4, and the proxy's to choose
            client.read_exact(&mut reply)?;
            if reply[..4] != [5, 0, 0, 1] {
                return Err(io::Error::other(format!("the proxy answers {reply:?}")));
            }
            client.write_all(&MESSAGE)?;
            let (server, _) = self.server.accept()?;
            server.set_nodelay(true)?;
            server.set_read_timeout(Some(PATIENCE))?;
            servers.push(server);
        }
        for mut server in &servers {
            expect(server, &MESSAGE)?;
            server.write_all(&MESSAGE)?;
        }
        for client in &clients {
            expect(client, &MESSAGE)?;
            client.shutdown(Shutdown::Write)?;
        }
        for server in servers {
            expect_end(&server)?;
        }
        clients.iter().try_for_each(expect_end)
    }
}

fn expect_end(mut stream: &TcpStream) -> io::Result<()> {
    match stream.read(&mut [0])? {
        0 => Ok(()),
        _ => Err(io::Error::other("there is more than was sent")),
    }
}
