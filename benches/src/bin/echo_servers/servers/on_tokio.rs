//! The echo on tokio's runtime of one thread, a task for each connection.
//!
//! A task that awaits `read` needs a buffer of its own, which costs much for connections that are
//! short or many. So that buffers are not what is compared, the tasks here poll the read and
//! share one, as the connections of the other servers do.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io::{self, ErrorKind};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Builder;

use super::{BUFFER_BYTES, INHERITS_NODELAY};

thread_local! {
    static BUFFER: RefCell<Vec<u8>> = RefCell::new(vec![0; BUFFER_BYTES]);
}

pub(crate) fn run(listener: std::net::TcpListener) -> io::Result<()> {
    Builder::new_current_thread().enable_io().build()?.block_on(accept(listener))
}

async fn accept(listener: std::net::TcpListener) -> io::Result<()> {
    let listener = TcpListener::from_std(listener)?;
    loop {
        let (stream, _) = listener.accept().await?;
        if !INHERITS_NODELAY {
            stream.set_nodelay(true)?;
        }
        tokio::spawn(echo(stream));
    }
}

/// Echoes until the peer ends or the connection breaks, which concerns no other.
async fn echo(mut stream: TcpStream) -> io::Result<()> {
    let mut rest = Vec::new();
    poll_fn(|cx| {
        let mut stream = Pin::new(&mut stream);
        while ready!(poll_exchange(stream.as_mut(), &mut rest, cx))? {}
        Poll::Ready(Ok(()))
    })
    .await
}

/// Writes the rest of what was read before, reads once, and writes that. Whether the connection
/// goes on. The runtime bounds how often in a row this is ready.
fn poll_exchange(
    mut stream: Pin<&mut TcpStream>,
    rest: &mut Vec<u8>,
    cx: &mut Context<'_>,
) -> Poll<io::Result<bool>> {
    while !rest.is_empty() {
        let written = ready!(stream.as_mut().poll_write(cx, rest))?;
        if written == 0 {
            return Poll::Ready(Err(ErrorKind::WriteZero.into()));
        }
        rest.drain(..written);
    }
    BUFFER.with_borrow_mut(|buffer| {
        let mut input = ReadBuf::new(buffer);
        ready!(stream.as_mut().poll_read(cx, &mut input))?;
        let input = input.filled();
        if input.is_empty() {
            return Poll::Ready(Ok(false));
        }
        let written = match stream.poll_write(cx, input)? {
            Poll::Ready(written) => written,
            Poll::Pending => 0,
        };
        rest.extend_from_slice(&input[written..]);
        Poll::Ready(Ok(true))
    })
}
