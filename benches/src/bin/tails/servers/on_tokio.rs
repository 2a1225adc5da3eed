//! On tokio's runtime of one thread, a task for each connection and for each timer, without
//! timeouts. The tasks share one buffer, as the connections of the other servers do.

use std::cell::{Cell, RefCell};
use std::fs::File;
use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::sendfile;
use tokio::io::Interest;
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::runtime::Builder;
use tokio::time::{Instant, sleep_until};

use super::{BUFFER_BYTES, Start};
use crate::order::{FILE_BYTES, MESSAGE_BYTES, Order};

/// Bytes that are sent of the file before others have their turn.
const FILE_STEP_BYTES: usize = 256 << 10;

thread_local! {
    static BUFFER: RefCell<Vec<u8>> = RefCell::new(vec![0; BUFFER_BYTES]);
    static MEMBERS: RefCell<Vec<Arc<TcpStream>>> = const { RefCell::new(Vec::new()) };
    /// Timers that have not fired.
    static TIMERS: Cell<usize> = const { Cell::new(0) };
}

pub(super) fn run(start: Start) -> io::Result<()> {
    Builder::new_current_thread().enable_io().enable_time().build()?.block_on(serve(start))
}

async fn serve(start: Start) -> io::Result<()> {
    let datagrams = UdpSocket::from_std(start.datagrams)?;
    tokio::spawn(async move {
        let mut buffer = vec![0; BUFFER_BYTES];
        loop {
            let _ = datagrams.recv_from(&mut buffer).await;
        }
    });
    let listener = TcpListener::from_std(start.listener)?;
    let file = Arc::new(start.file);
    loop {
        let (stream, _) = listener.accept().await?;
        tokio::spawn(converse(Arc::new(stream), Arc::clone(&file)));
    }
}

/// Serves a connection until its peer ends it.
async fn converse(stream: Arc<TcpStream>, file: Arc<File>) -> io::Result<()> {
    loop {
        stream.readable().await?;
        match BUFFER.with_borrow_mut(|buffer| step(&stream, buffer)) {
            Ok(Step::Done) => {}
            Ok(Step::End) => return Ok(()),
            Ok(Step::Send(rest)) => send(&stream, &rest).await?,
            Ok(Step::SendFile) => send_file(&stream, &file).await?,
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
}

enum Step {
    Done,
    /// The peer's end.
    End,
    /// The rest of the echo.
    Send(Vec<u8>),
    SendFile,
}

/// Reads once, and does what is asked.
fn step(stream: &Arc<TcpStream>, buffer: &mut [u8]) -> io::Result<Step> {
    let count = stream.try_read(buffer)?;
    let input = &buffer[..count];
    match Order::of(input) {
        Order::Echo if count == 0 => return Ok(Step::End),
        Order::Echo => {}
        Order::Join => MEMBERS.with_borrow_mut(|members| members.push(Arc::clone(stream))),
        Order::Publish => MEMBERS.with_borrow(|members| {
            for member in members {
                let _ = member.try_write(input); // it has room, or has ended
            }
        }),
        Order::Timers { count, wait } => set_timers(count, wait, stream),
        Order::File => return Ok(Step::SendFile),
    }
    match stream.try_write(input) {
        Ok(written) if written == count => Ok(Step::Done),
        Ok(written) => Ok(Step::Send(input[written..].to_vec())),
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(Step::Send(input.to_vec())),
        Err(error) => Err(error),
    }
}

fn set_timers(count: u32, wait: Duration, stream: &Arc<TcpStream>) {
    TIMERS.set(TIMERS.get() + count as usize);
    let due = Instant::now() + wait;
    for _ in 0..count {
        let stream = Arc::clone(stream);
        tokio::spawn(async move {
            sleep_until(due).await;
            TIMERS.set(TIMERS.get() - 1);
            if TIMERS.get() == 0 {
                let _ = stream.try_write(&[0; MESSAGE_BYTES]); // it has room, or has ended
            }
        });
    }
}

async fn send(stream: &TcpStream, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        stream.writable().await?;
        match stream.try_write(bytes) {
            Ok(written) => bytes = &bytes[written..],
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

async fn send_file(stream: &TcpStream, file: &File) -> io::Result<()> {
    let mut offset = 0;
    while offset < FILE_BYTES {
        let count = FILE_STEP_BYTES.min((FILE_BYTES - offset) as usize);
        let send = || Ok(sendfile(stream, file, Some(&mut offset), count)?);
        stream.async_io(Interest::WRITABLE, send).await?;
        tokio::task::yield_now().await;
    }
    Ok(())
}
