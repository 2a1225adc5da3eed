use quickcheck::{Arbitrary, Gen, QuickCheck, TestResult};

use super::*;

/// A header of version 2, built by hand.
fn v2(command: u8, family: u8, block: &[u8]) -> Vec<u8> {
    let mut header = SIGNATURE_V2.to_vec();
    header.extend([command, family]);
    header.extend((block.len() as u16).to_be_bytes());
    header.extend(block);
    header
}

/// The address block of version 2.
fn block(client: SocketAddr, destination: SocketAddr) -> Vec<u8> {
    let mut block = Vec::new();
    for addr in [client, destination] {
        match addr.ip() {
            IpAddr::V4(ip) => block.extend(ip.octets()),
            IpAddr::V6(ip) => block.extend(ip.octets()),
        }
    }
    block.extend(client.port().to_be_bytes());
    block.extend(destination.port().to_be_bytes());
    block
}

fn whole(input: &[u8]) -> Header {
    parse(input).unwrap().unwrap()
}

fn addrs(client: &str, destination: &str) -> Option<(SocketAddr, SocketAddr)> {
    Some((client.parse().unwrap(), destination.parse().unwrap()))
}

#[test]
fn both_versions_name_the_client() {
    let line = b"PROXY TCP4 192.0.2.7 198.51.100.1 4711 443\r\nhello";
    let header = whole(line);
    assert_eq!(header.addresses, addrs("192.0.2.7:4711", "198.51.100.1:443"));
    assert_eq!(&line[header.bytes..], b"hello");
    let header = whole(b"PROXY TCP6 2001:db8::7 2001:db8::1 4711 443\r\n");
    assert_eq!(header.addresses, addrs("[2001:db8::7]:4711", "[2001:db8::1]:443"));
    let (client, destination) = addrs("192.0.2.7:4711", "198.51.100.1:443").unwrap();
    let mut with_options = block(client, destination);
    with_options.extend([0x03, 0, 4, 1, 2, 3, 4, 0x04, 0, 0]);
    let binary = v2(PROXY_V2, 0x11, &with_options);
    assert_eq!(whole(&binary).addresses, Some((client, destination)));
    assert_eq!(whole(&binary).bytes, binary.len());
}

#[test]
fn a_header_without_addresses_leaves_those_of_the_socket() {
    let longest = format!("PROXY UNKNOWN {} 65535 65535\r\n", ["ffff"; 16].join(":"));
    for header in [
        b"PROXY UNKNOWN\r\n".to_vec(),
        longest.into_bytes(),
        v2(LOCAL_V2, 0x00, &[]),
        v2(LOCAL_V2, 0x11, &[]),          // the family of LOCAL is ignored
        v2(LOCAL_V2, 0xff, &[9; 3]),      // whatever it is
        v2(PROXY_V2, 0x00, &[7; 40]),     // unspecified
        v2(PROXY_V2, 0x31, &[b'/'; 216]), // Unix
    ] {
        assert_eq!(whole(&header), Header { bytes: header.len(), addresses: None });
    }
}

#[test]
fn what_is_no_header_is_told_at_once() {
    for bad in [
        &b"G"[..],
        b"\rR", // a first byte of version 2, the second of version 1
        b"P\n",
        b"PROXX",
        b"PROXYxTCP4 1.2.3.4 1.2.3.4 1 2\r\n",
        b"PROXY TCP4 1.2.3.4 1.2.3.4 1 2\n",
        b"PROXY TCP4 1.2.3.4 1.2.3.4 1\r\n",
        b"PROXY TCP4 1.2.3.4 1.2.3.4 1 65536\r\n",
        b"PROXY TCP4 ::1 ::1 1 2\r\n",
        b"PROXY UDP4 1.2.3.4 1.2.3.4 1 2\r\n",
        b"\r\n\r\n\0\r\nQUIT\r",
        b"\r\n\r\n\0\r\nQUIT\n\x11",
    ] {
        assert!(parse(bad).is_err(), "{}", bad.escape_ascii());
    }
    let endless = [b"PROXY UNKNOWN ", &[b'a'; 93][..]].concat();
    assert_eq!(parse(&endless[..106]), Ok(None));
    assert_eq!(parse(&endless), Err("the header is too long"));
    for bad in [
        v2(PROXY_V2, 0x11, &[1; 11]),
        v2(PROXY_V2, 0x21, &[1; 35]),
        v2(PROXY_V2, 0x31, &[1; 215]),
        v2(PROXY_V2, 0x41, &[1; 99]),
        v2(PROXY_V2, 0x11, &[1; MOST_V2])[..FIXED_V2].to_vec(),
    ] {
        assert!(parse(&bad).is_err(), "{}", bad.escape_ascii());
    }
}

#[test]
fn networks_and_single_addresses_are_trusted() {
    let proxy = ProxyProtocol::from_trusted(["10.0.0.0/8", "fd00::/8", "127.0.0.1"]).unwrap();
    for (source, is_trusted) in [
        ("10.200.3.4", true),
        ("::ffff:10.1.1.1", true),
        ("11.0.0.1", false),
        ("fd12::1", true),
        ("fe80::1", false),
        ("127.0.0.1", true),
        ("127.0.0.2", false),
    ] {
        assert_eq!(proxy.trusts(source.parse().unwrap()), is_trusted, "{source}");
    }
    let error = ProxyProtocol::from_trusted(["10.0.0.0/33"]).unwrap_err();
    assert!(error.to_string().contains("10.0.0.0/33"), "{error}");
    assert!(ProxyProtocol::from_trusted([""; 0]).is_err());
}

/// A valid header, and the addresses that it names.
#[derive(Clone, Debug)]
struct Valid {
    header: Vec<u8>,
    addresses: Option<(SocketAddr, SocketAddr)>,
}

impl Arbitrary for Valid {
    fn arbitrary(random: &mut Gen) -> Self {
        let (client, destination) = if bool::arbitrary(random) {
            let [client, destination] = <[([u8; 4], u16); 2]>::arbitrary(random);
            (SocketAddr::from(client), SocketAddr::from(destination))
        } else {
            let [client, destination] = <[([u8; 16], u16); 2]>::arbitrary(random);
            (SocketAddr::from(client), SocketAddr::from(destination))
        };
        let rest = Vec::<u8>::arbitrary(&mut Gen::from_size_and_seed(300, u64::arbitrary(random)));
        let is_v4 = client.is_ipv4();
        let addresses = Some((client, destination));
        let (header, addresses) = match u8::arbitrary(random) % 4 {
            0 => {
                let family = if is_v4 { "TCP4" } else { "TCP6" };
                let (from, to) = (client.ip(), destination.ip());
                let ports = (client.port(), destination.port());
                let line = format!("PROXY {family} {from} {to} {} {}\r\n", ports.0, ports.1);
                (line.into_bytes(), addresses)
            }
            1 => (v2(LOCAL_V2, rest.len() as u8, &rest), None),
            _ => {
                let family = if is_v4 { 0x11 } else { 0x21 };
                let block = [block(client, destination), rest].concat();
                (v2(PROXY_V2, family, &block), addresses)
            }
        };
        Self { header, addresses }
    }
}

#[test]
fn a_valid_header_is_read_whole_and_never_before() {
    fn property(Valid { header, addresses }: Valid, more: Vec<u8>) {
        for end in 0..header.len() {
            assert_eq!(parse(&header[..end]), Ok(None), "cut at {end}");
        }
        let bytes = header.len();
        let input = [header, more].concat();
        assert_eq!(parse(&input), Ok(Some(Header { bytes, addresses })));
    }
    QuickCheck::new().tests(256).quickcheck(property as fn(_, _));
}

/// The change is reported with the first byte that neither version begins with: a changed first
/// byte may be the other version's.
#[test]
fn a_signature_that_was_changed_is_never_accepted() {
    fn property(Valid { mut header, .. }: Valid, at: usize, by: u8) {
        let is_v2 = header[0] == b'\r';
        let most = if is_v2 { SIGNATURE_V2.len() } else { SIGNATURE_V1.len() };
        let at = at % most;
        header[at] ^= by.max(1);
        for end in at + 1..=header.len() {
            let seen = &header[..end];
            if SIGNATURE_V1.starts_with(seen) || SIGNATURE_V2.starts_with(seen) {
                assert_eq!(end, 1);
                assert_eq!(parse(seen), Ok(None));
            } else {
                assert!(parse(seen).is_err(), "cut at {end}");
            }
        }
    }
    QuickCheck::new().tests(256).quickcheck(property as fn(_, _, _));
}

/// A longer one waits for more; a shorter one that is still whole leaves a rest.
#[test]
fn a_length_that_was_changed_never_gives_the_same() {
    fn property(Valid { mut header, .. }: Valid, length: u16) -> TestResult {
        if header[0] != b'\r' {
            return TestResult::discard(); // of version 1
        }
        let before = u16::from_be_bytes([header[14], header[15]]);
        if length == before {
            return TestResult::discard();
        }
        header[14..16].copy_from_slice(&length.to_be_bytes());
        match parse(&header) {
            Ok(None) => assert!(length > before),
            Ok(Some(found)) => {
                assert!(length < before);
                assert_eq!(found.bytes, FIXED_V2 + usize::from(length));
            }
            Err(_) => {}
        }
        TestResult::passed()
    }
    QuickCheck::new().tests(256).min_tests_passed(256).quickcheck(property as fn(_, _) -> _);
}

#[test]
fn any_bytes_are_read_without_a_panic() {
    fn property(Valid { mut header, .. }: Valid, changes: Vec<(usize, u8)>, cut: usize) {
        for (at, byte) in changes {
            let at = at % header.len();
            header[at] = byte;
        }
        let end = cut % (header.len() + 1);
        if let Ok(Some(found)) = parse(&header[..end]) {
            assert!(found.bytes <= end && found.bytes <= MOST_V2);
        }
    }
    QuickCheck::new().tests(256).rng(Gen::new(8)).quickcheck(property as fn(_, _, _));
}
