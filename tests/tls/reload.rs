//! Certificates set anew while connections live.

use std::fs;
use std::sync::atomic::{AtomicU32, Ordering};

use super::*;

/// The certificate that a server shows.
fn shown(rig: &mut Rig) -> Vec<u8> {
    let addr = rig.addr;
    beside(rig, move || {
        let mut stream = dial(addr, &Arc::new(foreign(rustls::ALL_VERSIONS)), "localhost");
        let _ = stream.write_all(b"x"); // the name may be wrong
        let shown = stream.conn.peer_certificates();
        shown.map_or_else(Vec::new, |chain| chain[0].to_vec())
    })
}

#[test]
fn new_handshakes_get_the_new_certificate_and_live_connections_keep_theirs() {
    let folder = support::scratch_path();
    fs::create_dir(&folder).unwrap();
    let put = |name: &str| {
        fs::copy(file(&format!("{name}.pem")), folder.join("cert.pem")).unwrap();
        fs::copy(file(&format!("{name}.key")), folder.join("key.pem")).unwrap();
    };
    put("server");
    let config =
        ServerConfig::from_pem_files(folder.join("cert.pem"), folder.join("key.pem")).unwrap();
    let mut rig = rig(Script::echo(), &config);
    let first = shown(&mut rig);
    assert!(!first.is_empty());

    let (addr, (go, gone)) = (rig.addr, std::sync::mpsc::channel());
    let (ready, is_ready) = std::sync::mpsc::channel();
    let live = thread::spawn(move || {
        let mut stream = dial(addr, &Arc::new(foreign(rustls::ALL_VERSIONS)), "localhost");
        stream.write_all(b"x").unwrap();
        stream.read_exact(&mut [0]).unwrap();
        ready.send(()).unwrap();
        let () = gone.recv().unwrap();
        stream.write_all(b"y").unwrap();
        stream.read_exact(&mut [0]).unwrap();
    });
    rig.until("one lives", |_| is_ready.try_recv().is_ok());

    // Half of a change, or nonsense, leaves what there was, and says why.
    fs::copy(file("client.key"), folder.join("key.pem")).unwrap();
    let error = config.reload().unwrap_err().to_string();
    assert!(error.contains("does not fit its key, ") && error.contains("cert.pem"), "{error}");
    fs::write(folder.join("key.pem"), "nonsense").unwrap();
    let error = config.reload().unwrap_err().to_string();
    assert!(error.contains("no private key") && error.contains("key.pem"), "{error}");
    fs::remove_file(folder.join("key.pem")).unwrap();
    let error = config.reload().unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::NotFound);
    assert_eq!(shown(&mut rig), first);

    put("foreign");
    config.reload().unwrap();
    go.send(()).unwrap();
    rig.until("the live one has its answer", |_| live.is_finished());
    live.join().unwrap();
    put("other");
    config.reload().unwrap();
    put("server");
    config.reload().unwrap();
    assert_eq!(shown(&mut rig), first);
    fs::remove_dir_all(&folder).unwrap();
}

/// A hundred times the certificate anew while clients come and go, some of which resume their
/// sessions: none fails, and handshakes go on from the first reload to the last.
#[test]
fn reloads_disturb_no_handshake() {
    let config = server();
    let mut rig = rig(Script::echo(), &config);
    let addr = rig.addr;
    let (reloaded, made) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
    let clients: Vec<_> = (0..4)
        .map(|_| {
            let (reloaded, made) = (Arc::clone(&reloaded), Arc::clone(&made));
            thread::spawn(move || {
                let config = Arc::new(foreign(rustls::ALL_VERSIONS));
                while reloaded.load(Ordering::Relaxed) < 100 {
                    let mut stream = dial(addr, &config, "localhost");
                    stream.write_all(b"x").unwrap();
                    stream.read_exact(&mut [0]).unwrap();
                    made.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    // Four handshakes are made between one reload and the next.
    let done = Arc::clone(&reloaded);
    let reloads = thread::spawn(move || {
        for count in 0..100 {
            while made.load(Ordering::Relaxed) < count * 4 {
                thread::yield_now();
            }
            config.reload().unwrap();
            reloaded.store(count + 1, Ordering::Relaxed);
        }
    });
    // A slow machine may take long for all, and not for one.
    for count in 1..=100 {
        rig.until("one more reload", |_| done.load(Ordering::Relaxed) >= count);
    }
    rig.until("all are done", |_| {
        clients.iter().all(|client| client.is_finished()) && reloads.is_finished()
    });
    clients.into_iter().for_each(|client| client.join().unwrap());
    reloads.join().unwrap();
    let stats = rig.reactor.stats();
    assert_eq!((stats.handshakes_failed, stats.refused), (0, 0));
    assert!(stats.accepted >= 396, "{} handshakes", stats.accepted);
}

#[test]
fn who_may_come_in_is_a_matter_of_new_sessions() {
    let folder = support::scratch_path();
    fs::create_dir(&folder).unwrap();
    let roots_file = folder.join("roots.pem");
    fs::copy(file("ca.pem"), &roots_file).unwrap();
    let auth = ClientAuth::Required(Roots::from_file(&roots_file));
    let options = ServerOptions::new(certificate("server")).client_auth(auth);
    let config = ServerConfig::new(options).unwrap();
    let (script, seen) = noting();
    let mut rig = rig(script, &config);
    let options = ClientOptions::new(roots()).certificate(certificate("client"));
    let client = ConnectOptions::default().tls(&ClientConfig::new(options).unwrap(), "localhost");
    let addr = rig.addr;
    for round in 1..=2 {
        let id = rig.connect(addr, 0, &client);
        rig.until("both are open", |_| seen.borrow().len() == 2 * round);
        // An answer comes behind the tickets.
        rig.reactor.context().conn(id).unwrap().write(b"x");
        rig.until("an answer", |rig| !rig.journal.data_of(id).is_empty());
        rig.reactor.context().conn(id).unwrap().close();
        rig.until("it ends", |rig| rig.reactor.stats().connections == 0);
    }
    assert!(seen.borrow()[2..].iter().all(|seen| seen.is_resumed), "{:?}", seen.borrow());
    fs::copy(file("stranger.pem"), &roots_file).unwrap();
    config.reload().unwrap();
    let failed = rig.reactor.stats().handshakes_failed;
    rig.connect(addr, 0, &client);
    rig.until("its ticket is worth nothing", |rig| {
        rig.reactor.stats().handshakes_failed == failed + 1
    });
    fs::remove_dir_all(&folder).unwrap();
}

/// What the program puts in the place of a configuration has no tickets of ours to go on with.
#[test]
fn sessions_outlive_reloads_after_a_replacement_too() {
    let config = server();
    config.replace(server_of_rustls());
    config.reload().unwrap();
    let (script, seen) = noting();
    let mut rig = rig(script, &config);
    let client = Arc::new(foreign(rustls::ALL_VERSIONS));
    for _ in 0..2 {
        let (addr, client) = (rig.addr, Arc::clone(&client));
        beside(&mut rig, move || {
            let mut stream = dial(addr, &client, "localhost");
            stream.write_all(b"x").unwrap();
            stream.read_exact(&mut [0]).unwrap();
        });
        config.reload().unwrap();
    }
    let resumed: Vec<_> = seen.borrow().iter().map(|seen| seen.is_resumed).collect();
    assert_eq!(resumed, [false, true]);
}

pub(super) fn server_of_rustls() -> rustls::ServerConfig {
    use rustls::pki_types::pem::PemObject;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer};
    let chain = vec![CertificateDer::from_pem_file(file("server.pem")).unwrap()];
    let key = PrivateKeyDer::from_pem_file(file("server.key")).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap()
}
