//! A reactor beside a tokio runtime, each on threads of its own. The reactor serves lines and has
//! tokio tasks make the answers; a service of tokio asks the reactor how it stands.
//!
//! ```text
//! cargo run --release -p beside_tokio
//! printf 'hello\nworld\n' | nc -N 127.0.0.1 7000    both in capitals, each 10 ms later
//! nc 127.0.0.1 7001                                 connections 0, answered 2, too late 0
//! ```
//! A `Reactor` stays on the thread that made it, here the main one. In a program whose `main` is
//! tokio's, that is a thread which is made for it; what may go anywhere is its `Remote`.

use std::process::ExitCode;
use std::time::Duration;

use support::{Failure, print, run};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Builder;
use tokio::sync::oneshot;
use waterwheel::{Context, HandlerKey, Limits, ListenOptions, Reactor, Remote};

mod server;

use server::{MAX_UNDER_WAY, Server};

const OWN_OPTIONS: &str = "\
  --status ADDR          where the service of tokio listens [127.0.0.1:7001]\n";

/// A client that says nothing for so long is closed.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);

/// Longest wait before the next accept after one that failed, for want of a descriptor as a rule.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What tokio needs to ask the reactor.
#[derive(Clone)]
struct Door {
    remote: Remote,
    server: HandlerKey<Server>,
}

fn main() -> ExitCode {
    run("beside_tokio", OWN_OPTIONS, "127.0.0.1:7000", |args| {
        // Its thread turns by itself until the runtime is dropped.
        let tokio = Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let mut reactor = Reactor::new()?;
        let remote = reactor.remote();
        let handle = tokio.handle().clone();
        let server = reactor.register_with(|key| Server::new(key, handle, remote.clone()));
        let status = args.value("status", "127.0.0.1:7001".to_owned())?;
        let listener = tokio.block_on(TcpListener::bind(&status)).map_err(|error| {
            Failure::System(format!("cannot listen on {status} (--status): {error}").into())
        })?;
        print(format_args!("status on {}", listener.local_addr()?))?;
        tokio.spawn(serve_status(listener, Door { remote, server }));
        let limits = Limits::default().all_idle(Some(IDLE_TIMEOUT));
        let limits = limits.max_outstanding_requests(MAX_UNDER_WAY);
        args.serve(&mut reactor, server, &ListenOptions::default().limits(limits))
    })
}

/// Tells each client of tokio's listener how the reactor stands.
async fn serve_status(listener: TcpListener, door: Door) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => drop(tokio::spawn(tell_status(stream, door.clone()))),
            Err(error) => {
                log::warn!("status: {error}");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn tell_status(mut stream: TcpStream, door: Door) {
    let text = ask(&door).await.unwrap_or_else(|| "the reactor has stopped\n".to_owned());
    if let Err(error) = stream.write_all(text.as_bytes()).await {
        log::debug!("status: {error}");
    }
}

/// From tokio to the reactor and back: a closure runs there, and its answer comes through a
/// oneshot. A reactor that has stopped drops the closure, and with it the sender: this ends.
async fn ask(door: &Door) -> Option<String> {
    let (answer, answered) = oneshot::channel();
    let question = |server: &mut Server, cx: &mut Context<'_>| {
        let (connections, Server { answered, too_late, .. }) = (cx.stats().connections, server);
        let text = format!("connections {connections}, answered {answered}, too late {too_late}\n");
        let _ = answer.send(text);
    };
    door.remote.with(door.server, question).ok()?;
    answered.await.ok()
}
