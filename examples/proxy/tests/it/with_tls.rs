//! TLS on either side of the proxy.

use super::*;
use crate::tls::{accept, cert, dial, expect_echo, server_args};

const LOTS: usize = 8 * MIB;

fn refs(args: &[String]) -> Vec<&str> {
    args.iter().map(String::as_str).collect()
}

/// The proxy ends the TLS of its clients; all comes through both ways, and both ends do.
#[test]
fn it_ends_the_encryption_of_its_clients() {
    let site = Site::start(&refs(&server_args()));
    let mut client = dial(site.addr, "localhost");
    let (server, _) = site.upstream.accept().unwrap();
    let server = patient(server);
    thread::scope(|scope| {
        let (up, down) = (Noise::new(1), Noise::new(2));
        scope.spawn(move || {
            up.receive(&server, LOTS);
            down.send(&server, LOTS);
        });
        for from in (0..LOTS).step_by(MIB) {
            client.write_all(Noise::new(1).piece(from, MIB)).unwrap();
        }
        client.conn.send_close_notify();
        client.flush().unwrap();
        client.sock.shutdown(Shutdown::Write).unwrap();
        let mut found = Vec::new();
        client.read_to_end(&mut found).expect("close_notify comes before FIN");
        assert_eq!(found.len(), LOTS);
        let noise = Noise::new(2);
        for from in (0..LOTS).step_by(MIB) {
            assert!(found[from..from + MIB] == *noise.piece(from, MIB), "at {from}");
        }
    });
    site.end();
}

#[test]
fn a_client_that_was_cut_off_is_passed_on_as_a_reset() {
    let site = Site::start(&refs(&server_args()));
    let mut client = dial(site.addr, "localhost");
    let (server, _) = site.upstream.accept().unwrap();
    let mut server = patient(server);
    client.write_all(b"half").unwrap();
    expect(&mut server, b"half");
    client.sock.shutdown(Shutdown::Write).unwrap(); // without `close_notify`
    expect_reset(&mut server);
    site.end();
}

#[test]
fn a_reset_of_the_upstream_is_no_end_for_the_client() {
    let site = Site::start(&refs(&server_args()));
    let mut client = dial(site.addr, "localhost");
    let (server, _) = site.upstream.accept().unwrap();
    let mut server = patient(server);
    client.write_all(b"x").unwrap();
    expect(&mut server, b"x");
    reset(server);
    let error = client.read_to_end(&mut Vec::new()).unwrap_err();
    assert!(
        matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::UnexpectedEof),
        "{error}"
    );
    site.end();
}

#[test]
fn it_encrypts_the_way_to_the_upstream() {
    let args = ["--connect-tls", "localhost", "--connect-roots", &cert("ca.pem")];
    let site = Site::start(&args);
    let mut client = site.client();
    let (server, _) = site.upstream.accept().unwrap();
    let mut server = accept(server);
    client.write_all(b"hello").unwrap();
    let mut word = [0; 5];
    server.read_exact(&mut word).unwrap();
    assert_eq!(&word, b"hello");
    assert_eq!(server.conn.server_name(), Some("localhost"));
    server.write_all(b"answer").unwrap();
    server.conn.send_close_notify();
    server.flush().unwrap();
    server.sock.shutdown(Shutdown::Write).unwrap();
    expect(&mut client, b"answer");
    expect_end(&mut client);
    drop(client);
    server.read_to_end(&mut Vec::new()).expect("close_notify is passed on");
    site.end();
}

#[test]
fn an_upstream_of_another_name_or_issuer_gets_nothing() {
    for (name, roots) in [("wrong.example", "ca.pem"), ("localhost", "stranger.pem")] {
        let site = Site::start(&["--connect-tls", name, "--connect-roots", &cert(roots)]);
        let mut client = site.client();
        client.write_all(b"secret").unwrap();
        let (server, _) = site.upstream.accept().unwrap();
        assert!(accept(server).read(&mut [0; 6]).is_err());
        expect_reset(&mut client);
        site.end();
    }
}

#[test]
fn it_encrypts_both_ways_and_reads_its_certificate_anew() {
    let upstream = TcpListener::bind("127.0.0.1:0").unwrap();
    let target = upstream.local_addr().unwrap().to_string();
    // It echoes until the listener ends with the test.
    thread::spawn(move || {
        for stream in upstream.incoming() {
            thread::spawn(move || {
                let mut stream = accept(stream.unwrap());
                let mut buffer = [0; 64];
                while let Ok(count @ 1..) = stream.read(&mut buffer) {
                    stream.write_all(&buffer[..count]).unwrap();
                }
            });
        }
    });
    let root = cert("ca.pem");
    let args =
        ["--connect", &target, "--connect-tls", "localhost", "--connect-roots", root.as_str()];
    crate::tls::expect_reload(PROXY, "proxy", &args);
    let (proxy, addr) = Process::serve(PROXY, &[&args[..], &refs(&server_args())].concat());
    expect_echo(&mut dial(addr, "a.example"), "through both");
    proxy.terminate();
    assert_eq!(proxy.end().code, Some(0));
}

#[test]
fn a_header_for_an_encrypted_upstream_is_refused() {
    let args = ["--connect-tls", "localhost", "--proxy-protocol", "v1"];
    let (code, text) = failure(PROXY, &args);
    assert_eq!(code, Some(2), "{text}");
    assert!(text.contains("would be encrypted"), "{text}");
}
