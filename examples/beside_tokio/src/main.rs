//! A reactor beside a tokio runtime, each on a thread of its own. The reactor serves lines and has
//! tokio tasks make the answers; a service of tokio asks the reactor how it stands.
//!
//! ```text
//! cargo run --release -p beside_tokio
//! printf 'hello\nworld\n' | nc -N 127.0.0.1 7000    both in capitals, each 10 ms later
//! nc 127.0.0.1 7001                                 connections 0, answered 2, too late 0
//! ```

use std::io;
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use support::{print, run};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;
use waterwheel::{Context, HandlerKey, ListenOptions, Reactor, Remote};

mod server;

use server::{Report, Server};

const OWN_OPTIONS: &str = "\
  --status ADDR          where the service of tokio listens [127.0.0.1:7001]\n";

/// A client that says nothing for so long is closed.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);

/// Longest wait before the next accept after one that failed, for want of a descriptor as a rule.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What tokio needs to ask the reactor: a `Reactor` is not `Send`, its `Remote` and its keys are.
#[derive(Clone)]
struct Door {
    remote: Remote,
    server: HandlerKey<Server>,
}

fn main() -> ExitCode {
    run("beside_tokio", OWN_OPTIONS, "127.0.0.1:7000", |args| {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let status = args.value("status", "127.0.0.1:7001".to_owned())?;
        let status = runtime.block_on(TcpListener::bind(status))?;
        let status_addr = status.local_addr()?;
        let (listen, drain) = (args.listen_addrs(), args.seconds("drain", 5.0)?);
        let (door, opened) = oneshot::channel();
        let (end, ended) = oneshot::channel();
        let tokio = runtime.handle().clone();
        thread::scope(|scope| {
            scope.spawn(move || {
                let _ = end.send(run_reactor(listen, drain, tokio, door));
            });
            // tokio turns on this thread for as long as the reactor does on the other one.
            runtime.block_on(async {
                if let Ok(door) = opened.await {
                    print(format_args!("status on {status_addr}"))?;
                    tokio::spawn(serve_status(status, door));
                }
                Ok(ended.await.map_err(io::Error::other)??) // an error here: it has panicked
            })
        })
    })
}

/// The thread of the reactor: it is made, used and dropped here, and only its door leaves.
fn run_reactor(
    listen: &[String],
    drain: Duration,
    tokio: Handle,
    door: oneshot::Sender<Door>,
) -> io::Result<()> {
    let mut reactor = Reactor::new()?;
    support::drain_on_signals(&mut reactor, drain)?;
    let remote = reactor.remote();
    let tasks = remote.clone();
    let server = reactor.register_with(|key| Server::new(key, tokio, tasks));
    let options = ListenOptions::default().idle_timeout(IDLE_TIMEOUT);
    for addr in listen {
        let addr = reactor.listen(addr, server, options.clone())?;
        print(format_args!("listening on {addr}"))?;
    }
    let _ = door.send(Door { remote, server });
    reactor.run()
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
    let text = match ask(&door).await {
        Some(Report { connections, answered, too_late }) => {
            format!("connections {connections}, answered {answered}, too late {too_late}\n")
        }
        None => "the reactor has stopped\n".to_owned(),
    };
    if let Err(error) = stream.write_all(text.as_bytes()).await {
        log::debug!("status: {error}");
    }
}

/// From tokio to the reactor and back: a closure runs there, and its answer comes through a
/// oneshot. A reactor that has stopped drops the closure, and with it the sender: this ends.
async fn ask(door: &Door) -> Option<Report> {
    let (answer, answered) = oneshot::channel();
    let question = move |server: &mut Server, _: &mut Context<'_>| {
        let _ = answer.send(server.report());
    };
    door.remote.with(door.server, question).ok()?;
    answered.await.ok()
}
