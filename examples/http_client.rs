//! Asks a server for a path, and prints the answer.
//!
//! ```text
//! cargo run --features http --example http_hello
//! cargo run --features http --example http_client -- 127.0.0.1:8080 /hello/ada
//! ```

use std::env;
use std::io::{self, Write};
use std::process::ExitCode;
use std::rc::Rc;
use std::{cell::Cell, time::Duration};

use waterwheel::Reactor;
use waterwheel::http::{Call, Client, ClientOptions};

fn main() -> io::Result<ExitCode> {
    env_logger::init();
    let mut args = env::args().skip(1);
    let server = args.next().unwrap_or_else(|| "127.0.0.1:8080".to_owned());
    let path = args.next().unwrap_or_else(|| "/".to_owned());
    let mut reactor = Reactor::new()?;
    let options = ClientOptions::default().answer_timeout(Duration::from_secs(5));
    let client = Client::register(&mut reactor, server, options)?;
    let code = Rc::new(Cell::new(ExitCode::FAILURE));
    let result = Rc::clone(&code);
    client.send(&mut reactor.context(), Call::get(path), move |answer, cx| {
        // The reader of this program may have gone.
        let _ = match answer {
            Ok(answer) => {
                result.set(ExitCode::SUCCESS);
                writeln!(io::stdout(), "{}\n{}", answer.status(), answer.text())
            }
            Err(error) => writeln!(io::stderr(), "http_client: {error}"),
        };
        cx.stop();
    });
    reactor.run()?;
    Ok(code.get())
}
