//! The loop that the room is compared with: it accepts, and sends frames that are ready.

use std::error::Error;
use std::io::{self, Read, Write};
use std::time::Duration;

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};

use crate::children::{publish_on_demand, say};
use crate::members::HELLO;

const AGREED: &str = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\
    Connection: Upgrade\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

const LISTENER: Token = Token(usize::MAX - 1);

pub(crate) fn serve(count: usize) -> Result<(), Box<dyn Error>> {
    let mut poll = Poll::new()?;
    let mut events = Events::with_capacity(1024);
    let mut listener = TcpListener::bind("127.0.0.1:0".parse()?)?;
    poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
    say(&listener.local_addr()?.to_string())?;
    let mut members: Vec<TcpStream> = Vec::new();
    let mut greeted = 0;
    while greeted < count {
        poll.poll(&mut events, None)?;
        for event in &events {
            if event.token() == LISTENER {
                accept(&listener, &poll, &mut members)?;
            } else if event.is_readable() && greets(&mut members[event.token().0])? {
                greeted += 1;
            }
        }
    }
    say("all are there")?;
    let frame = [&[0x82, 64][..], &[7; 64]].concat();
    publish_on_demand(|| {
        for member in &mut members {
            if member.write(&frame)? != frame.len() {
                return Err("a member has no room".into());
            }
        }
        Ok(poll.poll(&mut events, Some(Duration::ZERO))?)
    })
}

fn accept(listener: &TcpListener, poll: &Poll, members: &mut Vec<TcpStream>) -> io::Result<()> {
    loop {
        match listener.accept() {
            Ok((mut member, _)) => {
                member.set_nodelay(true)?;
                let both = Interest::READABLE | Interest::WRITABLE;
                poll.registry().register(&mut member, Token(members.len()), both)?;
                members.push(member);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error),
        }
    }
}

/// Whether the member's request has come, which is answered.
fn greets(member: &mut TcpStream) -> Result<bool, Box<dyn Error>> {
    let mut request = [0; 1024];
    match member.read(&mut request) {
        Ok(count) if count == HELLO.len() => {
            member.write_all(AGREED.as_bytes())?;
            Ok(true)
        }
        Ok(_) => Err("a member has gone".into()),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
        Err(error) => Err(error.into()),
    }
}
