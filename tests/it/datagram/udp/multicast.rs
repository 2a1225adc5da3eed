//! Datagrams to many: members of a group until they leave, and everybody.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};

use waterwheel::udp::{Group, SendStatus, UdpOptions};

use super::NOTHING;
use crate::support::datagrams::{Rig, Told, client};

/// Which group memberships a machine lets one have differs; loopback has them nearly everywhere.
#[test]
fn multicast_reaches_its_members_until_they_leave() {
    let group = Group::new([239, 255, 77, 1]).interface(Ipv4Addr::LOCALHOST);
    let options = UdpOptions::default().multicast_interface(Some(Ipv4Addr::LOCALHOST));
    expect_members_only(group, options);
}

/// Loopback is the first interface, of a network namespace too.
#[cfg(target_os = "linux")]
#[test]
fn multicast_goes_by_the_index_of_an_interface() {
    let group = Group::new([239, 255, 77, 2]).interface_index(1);
    let options = UdpOptions::default().multicast_interface_index(Some(1));
    expect_members_only(group, options);
    // No interface has this index.
    let mut rig = Rig::echo();
    let error = rig.with(|socket| socket.join(&group.interface_index(i32::MAX as u32)));
    assert!(error.unwrap_err().to_string().contains("239.255.77.2"));
    let options = UdpOptions::default().multicast_interface_index(Some(i32::MAX as u32));
    let error = rig.reactor.bind_udp("127.0.0.1:0", rig.service, options).unwrap_err();
    assert!(error.to_string().contains("option multicast_interface_index is"), "{error}");
}

/// The system's words are those for a wrong address to bind to.
#[test]
fn an_interface_that_is_not_there_is_told_by_its_option() {
    let mut rig = Rig::echo();
    let nowhere = Ipv4Addr::new(192, 0, 2, 1);
    let options = UdpOptions::default().multicast_interface(Some(nowhere));
    let error = rig.reactor.bind_udp("127.0.0.1:0", rig.service, options).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(error.to_string().contains("option multicast_interface is 192.0.2.1"), "{error}");
}

#[track_caller]
fn expect_members_only(group: Group, options: UdpOptions) {
    let options = options.multicast_ttl(Some(0)).multicast_loop(Some(true));
    let mut rig = Rig::bind("0.0.0.0:0", options, NOTHING);
    let to = SocketAddr::new(group.addr, rig.addr.port());
    if let Err(error) = rig.with(|socket| socket.join(&group)) {
        eprintln!("skipped: {error}");
        return;
    }
    let again = rig.with(|socket| socket.join(&group)).unwrap_err();
    assert!(again.to_string().contains(&group.addr.to_string()), "{again}");
    if let SendStatus::Failed(why) = rig.with(|socket| socket.send_to(to, b"all")) {
        eprintln!("skipped: nothing is sent to a group here: {why}");
        return;
    }
    rig.expect_told(1, |told| *told == Told::Datagram(b"all".to_vec(), false));
    // Somebody else on this machine stays.
    let other = UdpSocket::bind("0.0.0.0:0").unwrap();
    if let IpAddr::V4(addr) = group.addr {
        other.join_multicast_v4(&addr, &Ipv4Addr::LOCALHOST).unwrap();
    }
    rig.with(|socket| socket.leave(&group)).unwrap();
    rig.with(|socket| socket.send_to(to, b"nobody"));
    let marker = client(SocketAddr::from((Ipv4Addr::LOCALHOST, rig.addr.port())));
    marker.send(b"marker").unwrap();
    rig.expect_told(1, |told| *told == Told::Datagram(b"marker".to_vec(), false));
    rig.with(|socket| socket.leave(&group)).unwrap_err();
    let told = rig.told();
    assert_eq!(told.iter().filter(|told| matches!(told, Told::Datagram(..))).count(), 2);
}

#[test]
fn broadcast_is_sent_once_it_is_asked_for() {
    let mut rig = Rig::bind("0.0.0.0:0", UdpOptions::default().broadcast(true), NOTHING);
    let to = SocketAddr::from(([127, 255, 255, 255], rig.addr.port()));
    assert_eq!(rig.with(|socket| socket.send_to(to, b"all")), SendStatus::Sent);
    rig.expect_told(1, |told| *told == Told::Datagram(b"all".to_vec(), false));
}
