//! Clients that others wrote, against a server with two certificates, ALPN and certificates of
//! clients. They run as processes and look at their end; here it is looked at what the server has
//! been told. `tests/tls/clients` runs these tests, and wants the programs.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use waterwheel::{Handler, Peer, Reactor, Remote};

use super::*;

/// A connection ends when so much has come.
const LOTS: usize = 100 << 20;

/// An echo, which ends a connection behind a greeting, a request of HTTP, and a lot of bytes.
struct Echo {
    seen: Sender<Agreed>,
}

impl Handler for Echo {
    /// Bytes that have come.
    type State = usize;

    fn on_accept(&mut self, _: &Peer) -> Option<usize> {
        Some(0)
    }

    fn on_open(&mut self, _: &mut usize, conn: &mut Conn<'_>) {
        self.seen.send(agreed(conn)).unwrap();
    }

    fn on_data(&mut self, come: &mut usize, conn: &mut Conn<'_>, input: &[u8]) -> usize {
        let is_first = *come == 0;
        *come += input.len();
        if is_first && input.starts_with(b"GET ") {
            conn.write(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\nConnection: close\r\n\r\nhello\n");
        } else {
            conn.write(input);
        }
        if *come == LOTS || is_first && (input.starts_with(b"hello") || input.starts_with(b"GET "))
        {
            conn.close();
        }
        input.len()
    }
}

struct Server {
    addr: SocketAddr,
    seen: Receiver<Agreed>,
    remote: Remote,
    thread: JoinHandle<()>,
}

impl Server {
    fn begin() -> Self {
        let (seen, notes) = channel();
        let (listening, is_listening) = channel();
        let thread = thread::spawn(move || {
            let other = certificate("other").names(["b.example", "*.b.example"]);
            let options = ServerOptions::new(certificate("server"))
                .certificate(other)
                .alpn(["echo", "http/1.1"])
                .client_auth(ClientAuth::Optional(roots()));
            let config = ServerConfig::new(options).unwrap();
            // Some clients read nothing while they write.
            let limits = Limits::default().pause_at_high_mark(false).max_output_bytes(2 * LOTS);
            let mut reactor = Reactor::new().unwrap();
            let echo = reactor.register(Echo { seen });
            let options = ListenOptions::default().tls(&config).limits(limits);
            let addr = reactor.listen("127.0.0.1:0", echo, options).unwrap();
            listening.send((addr, reactor.remote())).unwrap();
            reactor.run().unwrap();
        });
        let (addr, remote) = is_listening.recv().unwrap();
        Self { addr, seen: notes, remote, thread }
    }

    /// Runs a client to its end, with a file as its input; what it has printed.
    #[track_caller]
    fn serve(&self, program: &str, args: &[&str], input: Option<&PathBuf>) -> Vec<u8> {
        let input = input.map_or(Stdio::null(), |path| File::open(path).unwrap().into());
        let done = Command::new("timeout").arg("120").arg(program).args(args).stdin(input).output();
        let Output { status, stdout, stderr } = done.unwrap();
        let told = String::from_utf8_lossy(&stderr);
        assert!(status.success(), "{program} {args:?}: {status}: {told}");
        stdout
    }

    /// What the server was told of the next connection.
    #[track_caller]
    fn seen(&self) -> Agreed {
        self.seen.recv_timeout(Duration::from_secs(20)).expect("a connection was opened")
    }

    /// All that a client shows has come, and it asked for the second certificate.
    #[track_caller]
    fn expect(&self, version: TlsVersion, alpn: &str, is_resumed: bool) {
        let seen = self.seen();
        assert_eq!((seen.version, seen.is_resumed), (Some(version), is_resumed), "{seen:?}");
        assert_eq!(seen.alpn.as_deref(), Some(alpn.as_bytes()));
        assert_eq!(seen.name.as_deref(), Some("b.example"));
        assert!(seen.certificates > 0, "{seen:?}"); // some clients send the root too
    }

    fn end(self) {
        self.remote.stop().unwrap();
        self.thread.join().unwrap();
        assert_eq!(self.seen.try_iter().count(), 0, "more connections than were looked at");
    }
}

/// Files of a test, which go with it.
struct Files(PathBuf);

impl Files {
    fn new() -> Self {
        let path = support::scratch_path();
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    fn put(&self, name: &str, bytes: &[u8]) -> PathBuf {
        fs::write(self.path(name), bytes).unwrap();
        self.path(name)
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

const VERSIONS: [TlsVersion; 2] = [TlsVersion::V1_2, TlsVersion::V1_3];

#[test]
#[ignore = "tests/tls/clients runs it"]
fn openssl_is_served() {
    let (server, files) = (Server::begin(), Files::new());
    let (hello, bytes) = (files.put("hello", b"hello\n"), pattern(LOTS));
    let lots = files.put("lots", &bytes);
    let address = server.addr.to_string();
    for version in VERSIONS {
        let option = if version == TlsVersion::V1_2 { "-tls1_2" } else { "-tls1_3" };
        let session = files.path(option);
        let (ca, chain, key) = (file("ca.pem"), file("client.pem"), file("client.key"));
        let talk = |input: &PathBuf, more: &[&str]| {
            let mut args = vec!["s_client", "-quiet", option, "-connect", &address];
            args.extend(["-servername", "b.example", "-verify_hostname", "b.example"]);
            args.extend(["-verify_return_error", "-alpn", "echo", "-CAfile", text(&ca)]);
            args.extend(["-cert", text(&chain), "-key", text(&key)]);
            server.serve("openssl", &[&args, more].concat(), Some(input))
        };
        assert_eq!(talk(&hello, &["-sess_out", text(&session)]), b"hello\n");
        server.expect(version, "echo", false);
        assert_eq!(talk(&hello, &["-sess_in", text(&session)]), b"hello\n");
        server.expect(version, "echo", true);
        assert!(talk(&lots, &[]) == bytes, "100 MiB both ways");
        server.expect(version, "echo", false);
    }
    server.end();
}

/// Its own program, which writes each byte to its output with a call of its own: a MiB would take
/// seconds, and a lot of them minutes. The library is a client in `peers/gnutls.py`.
#[test]
#[ignore = "tests/tls/clients runs it"]
fn gnutls_cli_is_served() {
    let (server, files) = (Server::begin(), Files::new());
    let hello = files.put("hello", b"hello\n");
    let (port, log) = (server.addr.port().to_string(), files.path("log"));
    for version in VERSIONS {
        let number = if version == TlsVersion::V1_2 { "1.2" } else { "1.3" };
        let priority = format!("NORMAL:-VERS-ALL:+VERS-TLS{number}");
        let (ca, chain, key) = (file("ca.pem"), file("client.pem"), file("client.key"));
        let talk = |input: &PathBuf, more: &[&str]| {
            let mut args = vec!["--port", &port, "--priority", &priority, "--alpn", "echo"];
            args.extend(["--sni-hostname", "b.example", "--verify-hostname", "b.example"]);
            args.extend(["--x509cafile", text(&ca), "--x509certfile", text(&chain)]);
            args.extend(["--x509keyfile", text(&key), "--logfile", text(&log), "127.0.0.1"]);
            server.serve("gnutls-cli", &[more, &args].concat(), Some(input))
        };
        assert_eq!(talk(&hello, &[]), b"hello\n");
        server.expect(version, "echo", false);
        // Two connections: what it says goes over the second.
        assert_eq!(talk(&hello, &["--resume"]), b"hello\n");
        server.expect(version, "echo", false);
        server.expect(version, "echo", true);
    }
    server.end();
}

#[test]
#[ignore = "tests/tls/clients runs it"]
fn curl_is_served() {
    let server = Server::begin();
    let (url, resolved) = (
        format!("https://b.example:{}/there", server.addr.port()),
        format!("b.example:{}:127.0.0.1", server.addr.port()),
    );
    let (ca, chain, key) = (file("ca.pem"), file("client.pem"), file("client.key"));
    for version in VERSIONS {
        let most = if version == TlsVersion::V1_2 { "1.2" } else { "1.3" };
        let mut args = vec!["--silent", "--show-error", "--fail", "--tls-max", most];
        args.extend(["--resolve", &resolved, "--cacert", text(&ca)]);
        args.extend(["--cert", text(&chain), "--key", text(&key), &url, &url]);
        assert_eq!(server.serve("curl", &args, None), b"hello\nhello\n");
        for _ in 0..2 {
            let seen = server.seen(); // whether it resumes is a matter of its version
            assert_eq!((seen.version, seen.name.as_deref()), (Some(version), Some("b.example")));
            assert_eq!(seen.alpn.as_deref(), Some(&b"http/1.1"[..]));
            assert!(seen.certificates > 0);
        }
    }
    server.end();
}

/// Two connections of each version with one word each, the second of which is resumed, one with
/// 100 MiB both ways, and one that ends before it reads.
#[track_caller]
fn expect_script(program: &[&str], script: &str) -> Server {
    let server = Server::begin();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tls/peers").join(script);
    let (port, certs) = (server.addr.port().to_string(), file("ca.pem"));
    let certs = certs.parent().unwrap();
    let args = [&program[1..], &[text(&script), &port, text(certs)]].concat();
    server.serve(program[0], &args, None);
    for version in VERSIONS {
        server.expect(version, "echo", false);
        server.expect(version, "echo", true);
        server.expect(version, "echo", false);
        server.expect(version, "echo", false);
    }
    server
}

#[test]
#[ignore = "tests/tls/clients runs it"]
fn python_is_served() {
    expect_script(&["python3"], "client.py").end();
}

#[test]
#[ignore = "tests/tls/clients runs it"]
fn gnutls_is_served() {
    expect_script(&["python3"], "gnutls.py").end();
}

#[test]
#[ignore = "tests/tls/clients runs it"]
fn node_is_served() {
    expect_script(&["node"], "client.js").end();
}

#[test]
#[ignore = "tests/tls/clients runs it"]
fn go_is_served() {
    expect_script(&["go", "run"], "client.go").end();
}
