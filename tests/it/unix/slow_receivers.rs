//! Receivers that do not read: what is for them waits, in order and under caps, and holds up nobody
//! else. Linux tells the sender.

use std::io::ErrorKind;
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use waterwheel::udp::SendStatus;
use waterwheel::unix::{UnixAddr, UnixDatagramOptions};

use super::Folder;
use super::post::{Post, Told, client_at, receive_all, try_receive};

fn options() -> UnixDatagramOptions {
    UnixDatagramOptions::default()
}

/// What a full queue takes, a number in each, and how many it was.
#[track_caller]
fn fill(post: &mut Post, mut send: impl FnMut(&mut Post, &[u8]) -> SendStatus) -> u32 {
    for number in 0..10_000_u32 {
        match send(post, &number.to_le_bytes()) {
            SendStatus::Sent => {}
            SendStatus::Queued => return number,
            status => panic!("{status:?}"),
        }
    }
    panic!("it takes everything")
}

fn numbers(range: std::ops::Range<u32>) -> Vec<Vec<u8>> {
    range.map(|number| number.to_le_bytes().to_vec()).collect()
}

/// Everything that a client gets while the loop turns.
#[track_caller]
fn collect(post: &mut Post, client: &UnixDatagram, count: usize) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    post.until("what waited", |_| {
        found.extend(receive_all(client));
        found.len() >= count
    });
    found
}

#[test]
fn what_a_slow_receiver_is_sent_waits_in_order_under_caps_and_drains() {
    let folder = Folder::new();
    let mut post = Post::quiet();
    // One receiver alone may have half.
    let id = post.bind_with(folder.path("server"), options().max_queued_datagrams(10));
    let (path, slow) = (folder.path("slow"), client_at(&folder.path("slow")));
    let to = UnixAddr::path(path);
    let taken = fill(&mut post, |post, bytes| post.with(id, |socket| socket.send_to(&to, bytes)));
    for number in taken + 1..taken + 5 {
        let status = post.with(id, |socket| socket.send_to(&to, &number.to_le_bytes()));
        assert_eq!(status, SendStatus::Queued);
    }
    let status = post.with(id, |socket| socket.send_to(&to, b"lost"));
    assert_eq!(status, SendStatus::Dropped);
    let queued = post.with(id, |socket| (socket.queued_datagrams(), socket.queued_bytes()));
    assert_eq!(queued, (5, 20));
    // There is room again, and nobody is overtaken.
    let mut found = vec![try_receive(&slow).unwrap()];
    let status = post.with(id, |socket| socket.send_to(&to, b"lost"));
    assert_eq!(status, SendStatus::Dropped);
    let fill_up = UnixDatagram::unbound().unwrap();
    fill_up.send_to(b"of another", folder.path("slow")).unwrap();
    // Tried more than once meanwhile.
    let fired = post.stats().timers_fired;
    post.until("tries", |post| post.stats().timers_fired >= fired + 3);
    assert_eq!(post.count(&Told::Drain), 0);
    found.extend(collect(&mut post, &slow, taken as usize + 5));
    assert_eq!(found.remove(taken as usize), b"of another");
    assert_eq!(found, numbers(0..taken + 5));
    post.expect_told(&Told::Drain);
    assert_eq!(post.with(id, |socket| (socket.queued_datagrams(), socket.queued_bytes())), (0, 0));
    assert_eq!(post.stats().datagrams_dropped, 2);
    // All is as at the beginning.
    assert_eq!(post.with(id, |socket| socket.send_to(&to, b"direct")), SendStatus::Sent);
    post.turn();
    assert_eq!(post.count(&Told::Drain), 1);
}

#[test]
fn a_datagram_that_no_cap_allows_is_dropped_and_drain_follows() {
    let folder = Folder::new();
    let mut post = Post::quiet();
    let id = post.bind_with(folder.path("server"), options().max_queued_bytes(3));
    let _slow = client_at(&folder.path("slow"));
    let to = UnixAddr::path(folder.path("slow"));
    let mut statuses = Vec::new();
    while statuses.last() != Some(&SendStatus::Dropped) {
        statuses.push(post.with(id, |socket| socket.send_to(&to, b"four")));
    }
    assert!(statuses[..statuses.len() - 1].iter().all(|&status| status == SendStatus::Sent));
    post.expect_told(&Told::Drain);
}

/// It is not told before its time either, or the lane that stands for it is forgotten.
#[test]
fn a_dropped_datagram_leaves_the_way_open_though_the_budget_ends_meanwhile() {
    let folder = Folder::new();
    let to = UnixAddr::path(folder.path("slow"));
    let receiver = to.clone();
    let mut post = Post::new(move |socket, _, bytes| {
        if bytes == b"big" {
            assert_eq!(socket.send_to(&receiver, &[0; 2_000]), SendStatus::Dropped);
        }
    });
    let options = options().max_queued_bytes(1_000).receive_budget(1);
    let id = post.bind_with(folder.path("server"), options);
    let slow = client_at(&folder.path("slow"));
    // Others have filled it, so that nothing of ours waits.
    let others = UnixDatagram::unbound().unwrap();
    others.set_nonblocking(true).unwrap();
    while others.send_to(b"of another", folder.path("slow")).is_ok() {}
    for bytes in [&b"big"[..], b"more", b"more"] {
        UnixDatagram::unbound().unwrap().send_to(bytes, folder.path("server")).unwrap();
    }
    post.expect_datagrams(3);
    post.expect_told(&Told::Drain);
    let fired = post.stats().timers_fired;
    post.until("a try, if there is one", |post| {
        post.with(id, |socket| socket.set_timer(Duration::from_millis(1), 0));
        post.stats().timers_fired > fired + 3
    });
    receive_all(&slow);
    let status = post.with(id, |socket| socket.send_to(&to, b"small"));
    assert!(status.is_accepted());
    assert_eq!(post.answer(&slow), b"small");
}

#[test]
fn a_slow_receiver_holds_up_no_other() {
    let folder = Folder::new();
    let mut post = Post::quiet();
    let id = post.bind(folder.path("server"));
    let clients = ["slow", "fast"].map(|name| client_at(&folder.path(name)));
    let [slow, fast] = ["slow", "fast"].map(|name| UnixAddr::path(folder.path(name)));
    let send = |post: &mut Post, to: &UnixAddr, bytes: &[u8]| {
        post.with(id, |socket| socket.send_to(to, bytes))
    };
    let taken = fill(&mut post, |post, bytes| send(post, &slow, bytes));
    // Both wait, the slow one first.
    let count = fill(&mut post, |post, bytes| send(post, &fast, bytes)) + 100;
    for number in count - 99..count {
        assert_eq!(send(&mut post, &fast, &number.to_le_bytes()), SendStatus::Queued);
    }
    assert_eq!(collect(&mut post, &clients[1], count as usize), numbers(0..count));
    assert_eq!(post.with(id, |socket| socket.queued_datagrams()), 1);
    assert_eq!(send(&mut post, &fast, b"direct"), SendStatus::Sent);
    assert_eq!(post.count(&Told::Drain), 0);
    assert_eq!(collect(&mut post, &clients[0], taken as usize + 1), numbers(0..taken + 1));
    post.expect_told(&Told::Drain);
}

/// Nor does one that reads, and is sent more than the budget lets out.
#[test]
fn a_receiver_that_is_sent_more_and_more_holds_up_no_other() {
    let folder = Folder::new();
    let mut post = Post::quiet();
    let id = post.bind_with(folder.path("server"), options().receive_budget(1));
    let clients = ["busy", "other"].map(|name| client_at(&folder.path(name)));
    let [busy, other] = ["busy", "other"].map(|name| UnixAddr::path(folder.path(name)));
    let send = |post: &mut Post, to: &UnixAddr, bytes: &[u8]| {
        post.with(id, |socket| socket.send_to(to, bytes))
    };
    fill(&mut post, |post, bytes| send(post, &busy, bytes));
    let last = fill(&mut post, |post, bytes| send(post, &other, bytes));
    post.until("what the other waits for", |post| {
        // It never runs dry.
        for _ in 0..3 {
            assert_ne!(send(post, &busy, b"more"), SendStatus::Sent);
        }
        receive_all(&clients[0]);
        receive_all(&clients[1]).last().is_some_and(|bytes| *bytes == last.to_le_bytes())
    });
}

#[test]
fn what_has_waited_leaves_within_the_budget() {
    let folder = Folder::new();
    let mut post = Post::quiet();
    let id = post.bind_with(folder.path("server"), options().receive_budget(2));
    let slow = client_at(&folder.path("slow"));
    let to = UnixAddr::path(folder.path("slow"));
    let taken = fill(&mut post, |post, bytes| post.with(id, |socket| socket.send_to(&to, bytes)));
    for number in taken + 1..taken + 9 {
        post.with(id, |socket| socket.send_to(&to, &number.to_le_bytes()));
    }
    let mut found = receive_all(&slow);
    post.until("the rest", |post| {
        let before = post.stats().datagrams_sent;
        post.turn();
        assert!(post.stats().datagrams_sent <= before + 2);
        found.extend(receive_all(&slow));
        found.len() >= taken as usize + 9
    });
    assert_eq!(found, numbers(0..taken + 9));
    post.expect_told(&Told::Drain);
    // One timer: once there is room, the rest follows by itself.
    let fired = post.stats().timers_fired;
    assert!(fired < 4, "{fired} timers");
}

#[test]
fn one_that_never_reads_takes_the_room_of_others_neither_whole_nor_for_ever() {
    let folder = Folder::new();
    let mut post = Post::quiet();
    let options = options().max_queued_datagrams(100).queue_timeout(Duration::from_millis(100));
    let id = post.bind_with(folder.path("server"), options);
    let clients = ["dead", "slow"].map(|name| client_at(&folder.path(name)));
    let [dead, slow] = ["dead", "slow"].map(|name| UnixAddr::path(folder.path(name)));
    let send = |post: &mut Post, to: &UnixAddr, bytes: &[u8]| {
        post.with(id, |socket| socket.send_to(to, bytes))
    };
    let most = |post: &mut Post, to: &UnixAddr| {
        fill(post, |post, bytes| send(post, to, bytes));
        let more = (1..).take_while(|_| send(post, to, b"more") == SendStatus::Queued);
        1 + more.count()
    };
    assert_eq!((most(&mut post, &dead), most(&mut post, &slow)), (50, 25));
    post.until("the slow one has all", |post| {
        receive_all(&clients[1]);
        post.with(id, |socket| socket.queued_datagrams()) <= 50
    });
    post.expect_told(&Told::Error(ErrorKind::TimedOut));
    post.expect_told(&Told::Drain);
    assert_eq!(post.with(id, |socket| (socket.queued_datagrams(), socket.queued_bytes())), (0, 0));
    // Two more were dropped by the caps.
    assert_eq!(post.stats().datagrams_dropped, 52);
    assert_eq!(send(&mut post, &slow, b"direct"), SendStatus::Sent);
    receive_all(&clients[0]);
    assert_eq!(send(&mut post, &dead, b"direct"), SendStatus::Sent);
}

#[test]
fn what_waits_for_one_that_goes_is_lost_and_told() {
    let folder = Folder::new();
    let mut post = Post::quiet();
    let id = post.bind(folder.path("server"));
    let slow = client_at(&folder.path("slow"));
    let to = UnixAddr::path(folder.path("slow"));
    fill(&mut post, |post, bytes| post.with(id, |socket| socket.send_to(&to, bytes)));
    assert_eq!(post.with(id, |socket| socket.send_to(&to, b"more")), SendStatus::Queued);
    drop(slow);
    post.expect_told(&Told::Drain);
    assert_eq!(post.count(&Told::Error(ErrorKind::ConnectionRefused)), 2);
    assert_eq!(post.stats().datagrams_dropped, 2);
    assert!(post.with(id, |socket| socket.is_open()));
}

/// More than the budget of a turn, of which the socket has no other.
#[test]
fn a_drain_lets_what_waits_leave() {
    let folder = Folder::new();
    let mut post = Post::quiet();
    let id = post.bind(folder.path("server"));
    let slow = client_at(&folder.path("slow"));
    let to = UnixAddr::path(folder.path("slow"));
    let last = fill(&mut post, |post, bytes| post.with(id, |socket| socket.send_to(&to, bytes)));
    post.reactor.context().drain(Duration::from_secs(60));
    let fired = post.stats().timers_fired;
    post.until("tries", |post| post.stats().timers_fired >= fired + 2);
    assert_eq!(post.count(&Told::Close(id)), 0);
    assert_eq!(collect(&mut post, &slow, last as usize + 1), numbers(0..last + 1));
    post.expect_told(&Told::Close(id));
    assert_eq!(post.stats().datagrams_dropped, 0);
}

#[test]
fn a_closed_socket_sends_all_that_is_taken() {
    let folder = Folder::new();
    let mut post = Post::quiet();
    let id = post.bind_with(folder.path("server"), options().receive_budget(2));
    let client = client_at(&folder.path("slow"));
    let to = UnixAddr::path(folder.path("slow"));
    let taken = fill(&mut post, |post, bytes| post.with(id, |socket| socket.send_to(&to, bytes)));
    for number in taken + 1..taken + 9 {
        post.with(id, |socket| socket.send_to(&to, &number.to_le_bytes()));
    }
    assert_eq!(receive_all(&client), numbers(0..taken));
    post.with(id, |socket| socket.close());
    post.expect_told(&Told::Close(id));
    assert_eq!(receive_all(&client), numbers(taken..taken + 9));
    assert_eq!(post.stats().datagrams_dropped, 0);
}

#[test]
fn a_closed_socket_sends_what_is_taken_and_drops_the_rest() {
    let folder = Folder::new();
    let mut post = Post::quiet();
    let id = post.bind(folder.path("server"));
    let clients = ["slow", "fast"].map(|name| client_at(&folder.path(name)));
    for name in ["slow", "fast"] {
        let to = UnixAddr::path(folder.path(name));
        fill(&mut post, |post, bytes| post.with(id, |socket| socket.send_to(&to, bytes)));
    }
    let before = receive_all(&clients[1]).len();
    post.with(id, |socket| {
        socket.close();
        assert_eq!(socket.send_to(&UnixAddr::from("x"), b""), SendStatus::Closed);
        assert_eq!(socket.local_addr(), None);
    });
    post.expect_told(&Told::Close(id));
    assert_eq!(receive_all(&clients[1]), numbers(before as u32..before as u32 + 1));
    assert_eq!(post.stats().datagrams_dropped, 1);
    assert!(post.reactor.context().unix_socket(id).is_none());
}

#[test]
fn a_connected_socket_waits_for_its_peer_without_a_timer() {
    let folder = Folder::new();
    let peer = client_at(&folder.path("peer"));
    let mut post = Post::quiet();
    let id = post.connect(&folder.path("peer"), options().max_queued_datagrams(3));
    let taken = fill(&mut post, |post, bytes| post.with(id, |socket| socket.send(bytes)));
    let send =
        |post: &mut Post, number: u32| post.with(id, |socket| socket.send(&number.to_le_bytes()));
    let mut found = Vec::from([try_receive(&peer).unwrap()]);
    // By its name it is the same, and waits with the rest.
    let to = UnixAddr::path(folder.path("peer"));
    let next = (taken + 1).to_le_bytes();
    assert_eq!(post.with(id, |socket| socket.send_to(&to, &next)), SendStatus::Queued);
    assert_eq!(send(&mut post, taken + 2), SendStatus::Queued);
    assert_eq!(send(&mut post, taken + 3), SendStatus::Dropped);
    // One at a time, so that room comes and goes.
    while found.len() < taken as usize + 3 {
        found.push(post.answer(&peer));
        post.turn();
    }
    assert_eq!(found, numbers(0..taken + 3));
    post.expect_told(&Told::Drain);
    assert_eq!(post.stats().timers_fired, 0);
}

#[test]
fn a_peer_that_comes_back_is_found_again() {
    let folder = Folder::new();
    let path = folder.path("peer");
    let peer = client_at(&path);
    let mut post = Post::quiet();
    let id = post.connect(&path, options());
    let send = |post: &mut Post| post.with(id, |socket| socket.send(b"hello"));
    assert_eq!(send(&mut post), SendStatus::Sent);
    drop(peer);
    for _ in 0..2 {
        assert_eq!(send(&mut post), SendStatus::Failed(ErrorKind::ConnectionRefused));
    }
    std::fs::remove_file(&path).unwrap();
    assert_eq!(send(&mut post), SendStatus::Failed(ErrorKind::NotFound));
    let peer = client_at(&path);
    assert_eq!(send(&mut post), SendStatus::Sent);
    assert_eq!(try_receive(&peer).unwrap(), b"hello");
    // Whether or not anything was sent meanwhile; then nobody need know.
    drop(peer);
    std::fs::remove_file(&path).unwrap();
    let peer = client_at(&path);
    assert_eq!(send(&mut post), SendStatus::Sent);
    assert_eq!(try_receive(&peer).unwrap(), b"hello");
    post.turn();
    assert_eq!(post.stats().datagram_errors, 0);
    // What waited for one that went is for the one that comes.
    fill(&mut post, |post, bytes| post.with(id, |socket| socket.send(bytes)));
    drop(peer);
    std::fs::remove_file(&path).unwrap();
    let peer = client_at(&path);
    assert_eq!(post.answer(&peer).len(), 4);
    post.expect_told(&Told::Drain);
}

/// A socket that goes tries each receiver once more. No timer is left for those that have no room.
#[test]
fn a_socket_that_closes_leaves_no_timer_behind() {
    let folder = Folder::new();
    let mut post = Post::quiet();
    let id = post.bind(folder.path("server"));
    let (path, _slow) = (folder.path("slow"), client_at(&folder.path("slow")));
    let to = UnixAddr::path(path);
    fill(&mut post, |post, bytes| post.with(id, |socket| socket.send_to(&to, bytes)));
    assert_eq!(post.reactor.context().loop_state().timers, 1);
    post.with(id, |socket| socket.close());
    post.expect_told(&Told::Close(id));
    assert_eq!(post.reactor.context().loop_state().timers, 0);
}
