//! Servers by names that have several addresses, and by addresses that have an interface.

use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};

use crate::process::PATIENCE;
use crate::target::{first_that_answers, resolve};

/// At which nothing listens: the socket is bound, and does no more.
fn silent() -> (UdpSocket, SocketAddr) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let addr = socket.local_addr().unwrap();
    (socket, addr)
}

#[test]
fn the_first_address_that_answers_is_used() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let server = listener.local_addr().unwrap();
    // Their ports are taken, so that no other test gets them, and refuse who connects.
    let held = [(); 2].map(|()| TcpStream::connect(server).unwrap());
    let [gone, gone_too] = held.each_ref().map(|stream| stream.local_addr().unwrap());
    for addrs in [[server, gone], [gone, server]] {
        assert_eq!(first_that_answers(&addrs, false), Some(server));
    }
    assert_eq!(first_that_answers(&[gone, gone_too], false), Some(gone));
    assert_eq!(first_that_answers(&[], false), None);
}

#[test]
fn the_first_address_that_echoes_is_used() {
    let (_socket, addr) = silent();
    let echo = UdpSocket::bind("127.0.0.1:0").unwrap();
    echo.set_read_timeout(Some(PATIENCE)).unwrap();
    let server = echo.local_addr().unwrap();
    let thread = std::thread::spawn(move || {
        let mut buffer = [0; 64];
        let (count, from) = echo.recv_from(&mut buffer).unwrap();
        echo.send_to(&buffer[..count], from).unwrap();
    });
    assert_eq!(first_that_answers(&[addr, server], true), Some(server));
    thread.join().unwrap();
}

/// A namespace of its own has a file of hosts of its own.
#[test]
#[cfg(target_os = "linux")]
fn a_name_whose_first_address_has_no_server_is_measured() {
    use crate::process;

    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let server = std::thread::spawn(move || echo_all(&listener));
    let hosts = std::env::temp_dir().join(format!("waterwheel-hosts-{}", std::process::id()));
    std::fs::write(&hosts, "127.0.0.2 two.test\n127.0.0.1 two.test\n").unwrap();
    let script = format!("mount --bind {} /etc/hosts && exec \"$0\" \"$@\"", hosts.display());
    let by = ["unshare", "-rm", "sh", "-c", &script];
    let to = format!("two.test:{}", addr.port());
    let args = ["closed", "--connect", &to, "--duration", "0.1", "--warmup", "0", "--json"];
    let end = process::Process::start_by(
        &by,
        crate::LOAD,
        &[&args[..], &["--connections", "1"]].concat(),
    )
    .end();
    std::fs::remove_file(&hosts).unwrap();
    assert_eq!(end.code, Some(0), "{end:?}");
    assert!(end.output.join("\n").contains(&addr.to_string()), "{end:?}");
    server.join().unwrap();
}

/// Serves the connection that looks whether there is a server, and the one that measures it.
#[cfg(target_os = "linux")]
fn echo_all(listener: &TcpListener) {
    for _ in 0..2 {
        let (stream, _) = listener.accept().unwrap();
        let mut reader = &stream;
        // The tester may reset it in the end.
        let _ = std::io::copy(&mut reader, &mut &stream);
    }
}

#[test]
fn an_address_has_an_interface_by_name_or_number() {
    let expected: SocketAddr = "[fe80::1%1]:80".parse().unwrap();
    assert_eq!(resolve("[fe80::1%1]:80").unwrap(), [expected]);
    if cfg!(target_os = "linux") {
        // The loopback interface is the first, by this name.
        assert_eq!(resolve("[fe80::1%lo]:80").unwrap(), [expected]);
    }
    for text in ["[fe80::1%nothing]:80", "[fe80::1%lo]", "[fe80::1%lo]:x"] {
        assert!(resolve(text).unwrap_err().contains(text), "{text}");
    }
}
