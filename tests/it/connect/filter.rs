//! Connects of a program that connects where strangers say.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::Duration;

use waterwheel::filter::DestinationFilter;
use waterwheel::{ConnectOptions, Destination, Reconnect};

use super::failure;
use crate::support::{Rig, Script, listener};

fn filtered(filter: DestinationFilter) -> ConnectOptions {
    ConnectOptions::default().filter(Some(filter))
}

#[track_caller]
fn expect_refused(to: Destination, options: &ConnectOptions) {
    let mut rig = Rig::new(Script::new());
    rig.connect(to.clone(), 1, options);
    let (kind, text) = failure(&mut rig);
    assert_eq!(kind, ErrorKind::PermissionDenied, "{text}");
    assert!(text.starts_with(&format!("cannot connect to {to}: ")), "{text}");
    assert!(text.contains("refused by the filter"), "{text}");
}

/// Names and odd forms of numbers are known only after the lookup.
#[test]
fn this_host_is_refused_under_every_name() {
    let (socket, addr) = listener();
    socket.set_nonblocking(true).unwrap();
    let port = addr.port();
    let options = filtered(DestinationFilter::default());
    let often = Reconnect::default().max_attempts(Some(2)).max_delay(Duration::from_millis(100));
    for to in [
        Destination::from(addr),
        vec![addr, SocketAddr::from(([127, 0, 0, 1], port))].into(),
        ("127.0.0.1", port).into(),
        ("0.0.0.0", port).into(),
        ("::ffff:127.0.0.1", port).into(),
        ("localhost", port).into(),
    ] {
        expect_refused(to.clone(), &options);
        expect_refused(to, &options.clone().reconnect(Some(often.clone())));
    }
    #[cfg(target_os = "linux")]
    for host in ["127.1", "2130706433", "0x7f.1"] {
        expect_refused((host, port).into(), &options);
    }
    let error = socket.accept().expect_err("a connect has reached this host");
    assert_eq!(error.kind(), ErrorKind::WouldBlock);
}

#[test]
fn an_address_that_is_refused_is_passed_over() {
    let (socket, addr) = listener();
    let mut rig = Rig::new(Script::new());
    let options = filtered(DestinationFilter::default().refuse_loopback(false));
    let options = options.attempt_delay(Duration::from_secs(2));
    let metadata = SocketAddr::from(([169, 254, 169, 254], 80));
    let id = rig.connect(vec![metadata, addr], 1, &options);
    let _peer = rig.accept_at(&socket);
    rig.until("up", |rig| rig.journal.opened().contains(&id));
}

#[cfg(unix)]
#[test]
fn unix_sockets_are_refused_unless_they_are_allowed() {
    use waterwheel::unix::UnixAddr;

    let to = Destination::from(UnixAddr::path("/nowhere/at/all"));
    expect_refused(to.clone(), &filtered(DestinationFilter::default()));
    let mut rig = Rig::new(Script::new());
    rig.connect(to, 1, &filtered(DestinationFilter::default().refuse_unix(false)));
    assert_eq!(failure(&mut rig).0, ErrorKind::NotFound);
}

/// The host part of a request, with a port behind it, as a proxy makes it.
#[cfg(unix)]
#[test]
fn a_text_of_a_stranger_reaches_no_unix_socket() {
    use std::os::unix::net::UnixListener;

    use crate::support::scratch_path;

    let path = scratch_path();
    let socket = UnixListener::bind(&path).unwrap();
    socket.set_nonblocking(true).unwrap();
    let named = format!("unix:{}", path.display());
    for text in [named.clone(), format!("{named}:80")] {
        let mut rig = Rig::new(Script::new());
        rig.connect(text, 1, &ConnectOptions::default());
        assert_eq!(failure(&mut rig).0, ErrorKind::InvalidInput);
    }
    let error = socket.accept().expect_err("a connect has reached the socket");
    assert_eq!(error.kind(), ErrorKind::WouldBlock);
    std::fs::remove_file(&path).unwrap();
}
