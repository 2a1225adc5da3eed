//! `--tls`, in every mode, against the server in the process and against another.

use crate::LOAD;
use crate::process::{End, Process};

fn run(args: &[&str]) -> End {
    Process::start(LOAD, args).end()
}

#[cfg(not(feature = "tls"))]
#[test]
fn without_the_feature_it_says_how_to_build_it() {
    let end = run(&["storm", "--tls"]);
    assert_eq!(end.code, Some(2), "{end:?}");
    assert!(end.errors.contains("cargo run --release -p load --features tls"), "{end:?}");
}

#[test]
fn options_without_tls_and_modes_without_it_are_refused() {
    for (args, text) in [
        (&["storm", "--resume"][..], "--resume is for --tls"),
        (&["closed", "--tls-name", "a.example"], "--tls-name is for --tls"),
        (&["udp", "--tls"], "--tls is for the mode closed, open, storm, hold, not for udp"),
        (&["closed", "--tls", "--resume"], "--resume is for the mode storm"),
    ] {
        let end = run(args);
        assert_eq!(end.code, Some(2), "{end:?}");
        assert!(end.errors.contains(text), "{end:?}");
    }
}

#[cfg(all(feature = "tls", feature = "web"))]
mod with_tls {
    use std::net::SocketAddr;
    use std::path::Path;
    use std::sync::mpsc;
    use std::thread;

    use waterwheel::http::{Router, Server};
    use waterwheel::tls::ServerConfig;
    use waterwheel::ws::{self, Endpoint, Message, Options, Socket};
    use waterwheel::{Conn, Handler, ListenOptions, Reactor, Remote};

    use super::run;
    use crate::json::Json;

    const SHORT: [&str; 3] = ["--json", "--duration", "0.3"];

    fn report(args: &[&str]) -> Json {
        let end = run(&[args, &SHORT].concat());
        assert_eq!(end.code, Some(0), "{end:?}");
        Json::parse(&end.output.join("\n"))
    }

    fn figure(report: &Json, key: &str) -> u64 {
        report.at(&["figures", key]).whole()
    }

    #[test]
    fn each_mode_counts_its_handshakes() {
        for args in [
            &["closed", "--connections", "7", "--size", "40000"][..],
            &["open", "--connections", "7", "--rate", "1000"],
            &["hold", "--connections", "7", "--active", "2"],
        ] {
            let report = report(&[args, &["--tls"]].concat());
            assert_eq!(figure(&report, "tls_handshakes"), 7);
            assert_eq!(figure(&report, "tls_resumed"), 0);
            assert_eq!(report.at(&["latency", "connect", "count"]).whole(), 7);
        }
    }

    #[test]
    fn a_storm_has_full_handshakes_or_resumed_ones() {
        for (args, is_resumed) in [(&[][..], false), (&["--resume"], true)] {
            let storm = ["storm", "--tls", "--in-flight", "4", "--warmup", "0.2"];
            let report = report(&[&storm[..], args].concat());
            let (all, resumed) =
                (figure(&report, "tls_handshakes"), figure(&report, "tls_resumed"));
            assert!(all > 0);
            // All of the first four were made in the warm-up.
            assert_eq!(resumed, if is_resumed { all } else { 0 });
        }
    }

    #[test]
    fn a_storm_keeps_its_rate() {
        let report = report(&["storm", "--tls", "--rate", "100", "--warmup", "0.1"]);
        let connections = figure(&report, "connections");
        assert!((10..=40).contains(&connections), "{connections} in 0.3 s of 100 a second");
    }

    #[test]
    fn the_table_and_the_page_tell_of_handshakes() {
        let path = std::env::temp_dir().join(format!("ww-load-tls-{}.html", std::process::id()));
        let args = ["storm", "--tls", "--duration", "0.3", "--warmup", "0", "--html"];
        let end = run(&[&args[..], &[path.to_str().unwrap()]].concat());
        assert_eq!(end.code, Some(0), "{end:?}");
        let page = std::fs::read_to_string(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        for text in [&end.output.join("\n"), &page] {
            for told in ["TLS handshakes", "resumed", "dial to end of handshake", "over TLS"] {
                assert!(text.contains(told), "{told}: {text}");
            }
        }
    }

    fn certs() -> std::path::PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/tls/certs")
    }

    /// An echo server with a certificate for `localhost` and `a.example`.
    fn server(options: ListenOptions) -> (SocketAddr, Remote, thread::JoinHandle<()>) {
        let echo = || {
            |conn: &mut Conn<'_>, input: &[u8]| {
                conn.write(input);
                input.len()
            }
        };
        serve(echo, options)
    }

    fn serve<H: Handler>(
        handler: impl FnOnce() -> H + Send + 'static,
        options: ListenOptions,
    ) -> (SocketAddr, Remote, thread::JoinHandle<()>) {
        let (ready, listens) = mpsc::channel();
        let thread = thread::spawn(move || {
            let mut reactor = Reactor::new().unwrap();
            let handler = reactor.register(handler());
            let addr = reactor.listen("127.0.0.1:0", handler, options).unwrap();
            ready.send((addr, reactor.remote())).unwrap();
            reactor.run().unwrap();
        });
        let (addr, remote) = listens.recv().unwrap();
        (addr, remote, thread)
    }

    #[test]
    fn another_server_is_taken_as_it_is_or_verified() {
        let (chain, key) = (certs().join("server.pem"), certs().join("server.key"));
        let config = ServerConfig::from_pem_files(chain, key).unwrap();
        let (addr, remote, thread) = server(ListenOptions::default().tls(&config));
        let (own, other) = (certs().join("ca.pem"), certs().join("stranger.pem"));
        let (own, other) = (own.to_str().unwrap(), other.to_str().unwrap());
        let target = addr.to_string();
        let to = ["closed", "--tls", "--connections", "2", "--warmup", "0", "--connect", &target];
        for (args, trust) in [
            (&["--tls-name", "nobody.example"][..], "not verified"),
            (&["--tls-roots", own], "verified"),
            (&["--tls-roots", own, "--tls-name", "a.example"], "verified"),
        ] {
            let report = report(&[&to[..], args].concat());
            let told = report.at(&["settings", "tls_certificate"]);
            assert_eq!(*told, Json::Text(trust.to_owned()), "{args:?}");
        }
        for (args, text) in [
            (&["--tls-roots", other][..], "issuer that is not trusted"),
            (&["--tls-roots", own, "--tls-name", "nobody.example"], "of another name"),
        ] {
            let end = run(&[&to[..], args, &SHORT].concat());
            assert_eq!(end.code, Some(1), "{end:?}");
            assert!(end.errors.contains(text), "{end:?}");
        }
        remote.stop().unwrap();
        thread.join().unwrap();
    }

    struct WsEcho;

    impl ws::Handler for WsEcho {
        type State = ();

        fn on_message(&mut self, _: &mut (), socket: &mut Socket<'_>, message: Message<'_>) {
            socket.send(message);
        }
    }

    /// A page, and an echo over WebSocket.
    fn site() -> Server<WsEcho> {
        let endpoint = Endpoint::new(Options::default());
        let routes = Router::new()
            .get("/plaintext", |_: &mut WsEcho, _, res| res.text("Hello, World!"))
            .get("/ws", move |_, req, res| {
                endpoint.upgrade(req, res, ());
            });
        Server::new(WsEcho, routes)
    }

    #[test]
    fn https_and_wss_in_every_mode() {
        let (chain, key) = (certs().join("server.pem"), certs().join("server.key"));
        let config = ServerConfig::from_pem_files(chain, key).unwrap();
        let (addr, remote, thread) = serve(site, ListenOptions::default().tls(&config));
        let roots = certs().join("ca.pem");
        let roots = ["--tls-roots", roots.to_str().unwrap(), "--tls-name", "localhost"];
        let port = addr.port();
        for (kind, url) in [
            ("http", format!("https://127.0.0.1:{port}/plaintext")),
            ("ws", format!("wss://127.0.0.1:{port}/ws")),
        ] {
            for (mode, args) in [
                ("closed", &["--connections", "3"][..]),
                ("open", &["--connections", "3", "--rate", "500"]),
                ("storm", &["--in-flight", "3"]),
                ("storm", &["--in-flight", "3", "--resume"]),
                ("hold", &["--connections", "3", "--active", "1"]),
            ] {
                let call = [kind, mode, &url];
                let end = run(&[&call[..], args, &SHORT].concat());
                assert_eq!(end.code, Some(0), "{call:?} {args:?}: {end:?}");
                let report = Json::parse(&end.output.join("\n"));
                let (handshakes, resumed) =
                    (figure(&report, "tls_handshakes"), figure(&report, "tls_resumed"));
                let is_fit = if mode == "storm" { handshakes > 3 } else { handshakes == 3 };
                assert!(is_fit, "{call:?}: {handshakes} handshakes");
                // The first three have no ticket yet.
                let is_fit = match args.contains(&"--resume") {
                    true => resumed + 3 >= handshakes && resumed > 0,
                    false => resumed == 0,
                };
                assert!(is_fit, "{call:?} {args:?}: {resumed} of {handshakes}");
            }
            // The certificate is looked at where that is asked for.
            let call = [kind, "closed", &url, "--connections", "1"];
            let report = report(&[&call[..], &roots].concat());
            let told = report.at(&["settings", "tls_certificate"]);
            assert_eq!(*told, Json::Text("verified".to_owned()));
        }
        remote.stop().unwrap();
        thread.join().unwrap();
    }

    #[test]
    fn a_plain_server_is_told_as_one() {
        let (addr, remote, thread) = server(ListenOptions::default());
        let end = run(&["closed", "--tls", "--connect", &addr.to_string()]);
        assert_eq!(end.code, Some(1), "{end:?}");
        assert!(end.errors.contains("does not speak TLS"), "{end:?}");
        remote.stop().unwrap();
        thread.join().unwrap();
    }
}
