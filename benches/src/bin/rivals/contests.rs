//! Who is compared with whom, and under which load.

use std::io;
use std::net::SocketAddr;

use crate::loads::{Load, dns, kv, memcached, mqtt, socks};
use crate::site::Site;

/// Two servers under the same load.
pub(crate) struct Contest {
    pub(crate) name: &'static str,
    /// What is counted.
    pub(crate) operation: &'static str,
    /// The example, and what it is compared with.
    pub(crate) servers: [Server; 2],
    /// Begins a load with so many clients at once.
    pub(crate) load: fn(SocketAddr, usize) -> io::Result<Box<dyn Load>>,
    pub(crate) lanes: usize,
    /// How many operations are measured: about a second of the server's time.
    pub(crate) operations: usize,
}

/// A program that serves at an address.
pub(crate) struct Server {
    pub(crate) name: &'static str,
    /// Debian's package of it; `None` for an example.
    pub(crate) package: Option<&'static str>,
    pub(crate) args: fn(&Site, SocketAddr) -> Vec<String>,
}

impl Server {
    /// What readers know it by.
    pub(crate) fn label(&self) -> String {
        let folder = if self.package.is_none() { "examples/" } else { "" };
        format!("{folder}{}", self.name)
    }
}

const fn own(name: &'static str) -> Server {
    Server { name, package: None, args: |_, addr| vec![addr.to_string()] }
}

const MEMCACHED: [Server; 2] = [
    own("memcached"),
    Server {
        name: "memcached",
        package: Some("memcached"),
        args: |_, addr| words(&format!("-t 1 -u root -U 0 -m 64 -l 127.0.0.1 -p {}", addr.port())),
    },
];

const KV: [Server; 2] = [
    Server {
        name: "kv",
        package: None,
        args: |_, addr| vec!["--listen".to_owned(), addr.to_string()],
    },
    Server {
        name: "redis-server",
        package: Some("redis-server"),
        args: |_, addr| {
            let mut args = words("--bind 127.0.0.1 --appendonly no --daemonize no --save");
            args.extend([String::new(), "--port".to_owned(), addr.port().to_string()]);
            args
        },
    },
];

pub(crate) const CONTESTS: &[Contest] = &[
    Contest {
        name: "socks",
        operation: "SOCKS5 connection by name, 64 bytes each way",
        servers: [
            Server {
                name: "socks5",
                package: None,
                args: |_, addr| vec![addr.to_string(), "--allow-local".to_owned()],
            },
            Server {
                name: "microsocks",
                package: Some("microsocks"),
                args: |_, addr| words(&format!("-i 127.0.0.1 -p {}", addr.port())),
            },
        ],
        load: socks::start,
        lanes: 8,
        operations: 6_000,
    },
    Contest {
        name: "dns",
        operation: "DNS query that is cached",
        servers: [
            Server {
                name: "dns_forwarder",
                package: None,
                args: |site, addr| vec![addr.to_string(), site.dns_server().to_string()],
            },
            Server {
                name: "dnsmasq",
                package: Some("dnsmasq-base"),
                args: |site, addr| {
                    words(&format!(
                        "--keep-in-foreground --conf-file=/dev/null --pid-file --user=root \
                         --no-resolv --no-hosts --cache-size=10000 --bind-interfaces \
                         --listen-address=127.0.0.1 --port={} --server=127.0.0.1#{}",
                        addr.port(),
                        site.dns_server().port()
                    ))
                },
            },
        ],
        load: dns::start,
        lanes: 50,
        operations: 200_000,
    },
    Contest {
        name: "mqtt",
        operation: "MQTT message of 64 bytes, QoS 1 in and out",
        servers: [
            own("mqtt_broker"),
            Server {
                name: "mosquitto",
                package: Some("mosquitto"),
                args: |site, addr| vec!["-c".to_owned(), site.mosquitto_config(addr)],
            },
        ],
        load: mqtt::start,
        lanes: 8,
        operations: 120_000,
    },
    Contest {
        name: "memcached-get",
        operation: "memcached get of 100 bytes",
        servers: MEMCACHED,
        load: memcached::start_get,
        lanes: 16,
        operations: 100_000,
    },
    Contest {
        name: "memcached-set",
        operation: "memcached set of 100 bytes",
        servers: MEMCACHED,
        load: memcached::start_set,
        lanes: 16,
        operations: 100_000,
    },
    Contest {
        name: "kv",
        operation: "redis-benchmark set, get, one at a time",
        servers: KV,
        load: kv::start,
        lanes: 50,
        operations: 100_000,
    },
    Contest {
        name: "kv-pipelined",
        operation: "redis-benchmark set, get, 16 at a time",
        servers: KV,
        load: kv::start_pipelined,
        lanes: 50,
        operations: 1_200_000,
    },
];

fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}
