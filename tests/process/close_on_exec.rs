//! No descriptor of the library survives an exec: a child would hold connections and ports open.

use std::collections::BTreeMap;
use std::net::{TcpListener, UdpSocket};
use std::os::unix::net::UnixListener;

use waterwheel::udp::{DatagramSocket, UdpOptions};
use waterwheel::unix::{UnixAddr, UnixListenOptions};
use waterwheel::{ConnectOptions, Destination};

use crate::own::in_own_process;
use crate::support::{Rig, Script};

/// `O_CLOEXEC` in the flags that `/proc` shows.
const CLOSE_ON_EXEC: u32 = 0o2_000_000;

/// What is open, with its flags.
fn open_files() -> BTreeMap<u32, (String, u32)> {
    let entry = |entry: std::io::Result<std::fs::DirEntry>| {
        let number: u32 = entry.ok()?.file_name().to_str()?.parse().ok()?;
        let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{number}")).ok()?;
        let flags = info.lines().find_map(|line| line.strip_prefix("flags:"))?;
        let what = std::fs::read_link(format!("/proc/self/fd/{number}")).ok()?;
        let flags = u32::from_str_radix(flags.trim(), 8).ok()?;
        Some((number, (what.display().to_string(), flags)))
    };
    std::fs::read_dir("/proc/self/fd").expect("/proc is there").filter_map(entry).collect()
}

#[test]
fn every_descriptor_is_closed_on_exec() {
    in_own_process(|| {
        let path = std::env::temp_dir().join(format!("ww-exec-{}.sock", std::process::id()));
        let peer_path = path.with_extension("peer");
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        let unix = UnixListener::bind(&peer_path).unwrap();
        let before = open_files();
        let mut rig = Rig::new(Script::echo());
        let (own, options) = (UnixAddr::path(&path), UnixListenOptions::default());
        rig.reactor.listen_unix(own.clone(), rig.service, options).unwrap();
        let silent = |_: &mut DatagramSocket<'_>, _: std::net::SocketAddr, _: &[u8]| {};
        let silent = rig.reactor.register(silent);
        rig.reactor.bind_udp("127.0.0.1:0", silent, UdpOptions::default()).unwrap();
        let to = udp.local_addr().unwrap();
        rig.reactor.connect_udp(to, silent, UdpOptions::default()).unwrap();
        for to in [
            Destination::from(rig.addr), // and accepted there
            Destination::from(own),
            Destination::from(tcp.local_addr().unwrap()),
            Destination::from(UnixAddr::path(&peer_path)),
        ] {
            rig.connect(to, 0, &ConnectOptions::default());
        }
        rig.until("all are up", |rig| rig.journal.opened().len() == 6);
        let files = open_files();
        let own: Vec<_> = files.iter().filter(|(number, _)| !before.contains_key(number)).collect();
        // The poll and its waker, three listeners' sockets and their spare, two of datagrams, six
        // connections.
        assert!(own.len() >= 12, "{own:?}");
        for (number, (what, flags)) in own {
            assert!(flags & CLOSE_ON_EXEC > 0, "{number} ({what}) is left open on exec");
        }
        drop((rig, tcp, udp, unix));
        std::fs::remove_file(peer_path).unwrap();
    });
}
