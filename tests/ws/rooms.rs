//! Messages to many.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use waterwheel::http::Server;
use waterwheel::ws::{
    Deflate, Ended, Frame, Handler, Kind, Message, Options, Published, Room, Slow, Socket,
};
use waterwheel::{ConnId, Context, Limits};

use crate::peer::{masked, plain, read_head, request};
use crate::site::site;
use crate::support::{Client, End, Rig};

/// Longer than a busy machine keeps a test from its work.
const LONG: Duration = Duration::from_secs(60);

/// Everyone is in the room; a text is published.
struct Hall {
    room: Rc<RefCell<Room>>,
    last: Rc<RefCell<Published>>,
    slow: Slow,
    ends: Ends,
}

/// The codes and reasons that `on_close` was told.
type Ends = Rc<RefCell<Vec<(u16, String)>>>;

impl Handler for Hall {
    type State = ();

    fn on_open(&mut self, _: &mut (), socket: &mut Socket<'_>) {
        assert!(self.room.borrow_mut().join(socket));
        assert!(!self.room.borrow_mut().join(socket), "twice");
    }

    fn on_message(&mut self, _: &mut (), socket: &mut Socket<'_>, message: Message<'_>) {
        match message.text() {
            Some("begin") => {
                socket.send_part(Kind::Binary, b"1", false);
            }
            Some("end") => {
                socket.send_part(Kind::Binary, b"2", true);
            }
            Some("bye") => socket.close(waterwheel::ws::CloseCode::NORMAL, ""),
            Some("others") => {
                let (id, frame) = (socket.id(), Frame::text("others"));
                let mut room = self.room.borrow_mut();
                room.publish_to_others(&mut socket.context(), &frame, self.slow, id);
            }
            Some("leave") => assert!(self.room.borrow_mut().leave(socket.id())),
            _ => {
                let frame = Frame::new(message);
                let mut room = self.room.borrow_mut();
                let published = room.publish(&mut socket.context(), &frame, self.slow);
                *self.last.borrow_mut() = published;
            }
        }
    }

    fn on_close(&mut self, (): (), ended: Ended<'_>, _: &mut Context<'_>) {
        self.ends.borrow_mut().push((ended.code.get(), ended.reason.to_owned()));
    }
}

struct House {
    rig: Rig<Server<Hall>>,
    room: Rc<RefCell<Room>>,
    last: Rc<RefCell<Published>>,
    ends: Ends,
}

fn house(slow: Slow, max_queued_bytes: usize) -> House {
    let room = Rc::new(RefCell::new(Room::new(max_queued_bytes)));
    let last = Rc::default();
    let ends = Ends::default();
    let (shared, told) = (Rc::clone(&room), Rc::clone(&ends));
    let hall = Hall { room: shared, last: Rc::clone(&last), slow, ends: told };
    let deflate = Deflate::default().keep_context(true);
    let options = Options::default().deflate(Some(deflate)).ping_interval(None);
    let limits = Limits::default().pause_at_high_mark(false).close_timeout(LONG);
    House { rig: Rig::with_limits(site(hall, options), limits), room, last, ends }
}

impl House {
    #[track_caller]
    fn member(&mut self, fields: &str) -> (Client, ConnId) {
        let (mut client, id) = self.rig.client();
        client.send(request(fields).as_bytes());
        read_head(&mut self.rig, &mut client);
        (client, id)
    }
}

#[test]
fn each_member_gets_the_frame_as_it_has_agreed() {
    let mut house = house(Slow::Skip, 1 << 20);
    let (mut a, _) = house.member("");
    let deflate = "Sec-WebSocket-Extensions: permessage-deflate";
    let (mut b, _) = house.member(&format!("{deflate}; server_no_context_takeover\r\n"));
    // Its compressor keeps a context that it must not miss a message of: it gets them plain.
    let (mut c, _) = house.member(&format!("{deflate}\r\n"));
    let text = "much the same, ".repeat(10);
    a.send(&masked(0x81, text.as_bytes()));
    house.rig.expect(&mut a, &plain(0x81, text.as_bytes()));
    house.rig.expect(&mut c, &plain(0x81, text.as_bytes()));
    let head = house.rig.read(&mut b, 2);
    assert!(head[0] == 0xc1 && head[1] < 60, "{head:x?}");
    let mut body = house.rig.read(&mut b, usize::from(head[1]));
    body.extend([0, 0, 0xff, 0xff]);
    let mut back = Vec::with_capacity(1000);
    let mut inflate = flate2::Decompress::new(false);
    inflate.decompress_vec(&body, &mut back, flate2::FlushDecompress::Sync).unwrap();
    assert_eq!(back, text.as_bytes());
    assert_eq!((house.last.borrow().sent, house.last.borrow().missed), (3, 0));
}

#[test]
fn a_member_that_goes_or_leaves_gets_no_more() {
    let mut house = house(Slow::Skip, 1 << 20);
    let (mut a, _) = house.member("");
    let (b, id) = house.member("");
    let (mut c, _) = house.member("");
    assert_eq!(house.room.borrow().len(), 3);
    b.reset();
    house.rig.end_of(id);
    a.send(&masked(0x81, b"leave"));
    c.send(&masked(0x81, b"x"));
    house.rig.expect(&mut c, &plain(0x81, b"x"));
    house.rig.until("two have gone", |_| house.room.borrow().len() == 1);
    assert!(!house.room.borrow().contains(id));
    assert_eq!(a.try_read(1), Ok(Vec::new()));
}

#[test]
fn what_is_for_the_others_does_not_come_back() {
    let mut house = house(Slow::Skip, 1 << 20);
    let mut members = [house.member("").0, house.member("").0, house.member("").0];
    for speaker in 0..3 {
        members[speaker].send(&masked(0x81, b"others"));
        for (_, member) in members.iter_mut().enumerate().filter(|&(place, _)| place != speaker) {
            house.rig.expect(member, &plain(0x81, b"others"));
        }
        members[speaker].send(&masked(0x81, b"all"));
        for member in &mut members {
            house.rig.expect(member, &plain(0x81, b"all")); // and nothing before it
        }
    }
}

#[test]
fn a_member_amid_a_message_or_closing_misses_others() {
    let mut house = house(Slow::Skip, 1 << 20);
    let (mut a, _) = house.member("");
    let (mut b, _) = house.member("");
    b.send(&masked(0x81, b"begin"));
    house.rig.expect(&mut b, &plain(0x02, b"1"));
    a.send(&masked(0x81, b"x"));
    house.rig.expect(&mut a, &plain(0x81, b"x"));
    assert_eq!((house.last.borrow().sent, house.last.borrow().missed), (1, 1));
    b.send(&masked(0x81, b"end"));
    house.rig.expect(&mut b, &plain(0x80, b"2"));
    a.send(&masked(0x81, b"y"));
    house.rig.expect(&mut b, &plain(0x81, b"y"));
    b.send(&masked(0x81, b"bye"));
    house.rig.expect(&mut b, &plain(0x88, b"\x03\xe8"));
    a.send(&masked(0x81, b"z"));
    house.rig.expect(&mut a, &plain(0x81, b"y"));
    house.rig.expect(&mut a, &plain(0x81, b"z"));
    assert_eq!(b.try_read(1), Ok(Vec::new()), "nothing behind Close");
}

/// One member reads nothing, and 40 MiB are published.
fn flood(slow: Slow) -> (House, Client, Client, ConnId) {
    flood_under(100_000, slow)
}

fn flood_under(max_queued_bytes: usize, slow: Slow) -> (House, Client, Client, ConnId) {
    let mut house = house(slow, max_queued_bytes);
    let (mut a, _) = house.member("");
    let (b, id) = house.member("");
    let big = vec![7; 50_000];
    for _ in 0..800 {
        a.send(&masked(0x82, &big));
        house.rig.expect(&mut a, &plain(0x82, &big));
        if let Some(conn) = house.rig.reactor.context().conn(id) {
            assert!(conn.pending_bytes() <= 100_000 + 200);
        }
    }
    (house, a, b, id)
}

#[test]
fn a_slow_member_is_skipped() {
    let (mut house, mut a, mut b, _) = flood(Slow::Skip);
    assert_eq!((house.last.borrow().sent, house.last.borrow().missed), (1, 1));
    assert!(house.last.borrow().slow.is_empty());
    // When it reads again it gets whole frames, and what is published from then on.
    let frame = plain(0x82, &vec![7; 50_000]);
    while !is_drained(&mut house, &mut b) {
        assert!(house.rig.read(&mut b, frame.len()) == frame);
    }
    a.send(&masked(0x81, b"last"));
    house.rig.expect(&mut b, &plain(0x81, b"last"));
}

/// Whether the member has nothing to read.
fn is_drained(house: &mut House, member: &mut Client) -> bool {
    house.rig.turn();
    member.stream.set_nonblocking(true).unwrap();
    let is_empty = member.stream.peek(&mut [0; 1]).is_err();
    member.stream.set_nonblocking(false).unwrap();
    is_empty
}

#[test]
fn a_slow_member_is_told() {
    // Without room only who has nothing queued gets a message.
    for max_queued_bytes in [100_000, 0] {
        let (house, _a, _b, id) = flood_under(max_queued_bytes, Slow::Tell);
        assert_eq!(house.last.borrow().slow, [id]);
    }
}

#[test]
fn a_slow_member_is_closed_behind_what_is_queued() {
    let (mut house, _a, b, id) = flood(Slow::Close);
    assert_eq!(house.room.borrow().len(), 1);
    expect_closed(&mut house, b, id);
}

/// The member gets what was queued, then Close, and then the end; `on_close` is told why.
#[track_caller]
fn expect_closed(house: &mut House, mut member: Client, id: ConnId) {
    let (bytes, end) = house.rig.read_to_end(&mut member);
    assert_eq!(end, End::Fin);
    let close = plain(0x88, b"\x03\xf0reads too slowly");
    let frame = plain(0x82, &vec![7; 50_000]);
    let frames = bytes.strip_suffix(&close[..]).expect("Close comes last");
    assert_eq!(frames.len() % frame.len(), 0);
    assert!(frames.chunks(frame.len()).all(|found| found == frame));
    member.finish();
    house.rig.end_of(id);
    assert_eq!(*house.ends.borrow(), [(1008, "reads too slowly".to_owned())]);
}

#[test]
fn one_that_publishes_and_reads_too_slowly_itself_is_closed_and_told_like_the_others() {
    let mut house = house(Slow::Close, 100_000);
    let (mut a, id) = house.member("");
    let frame = masked(0x82, &vec![7; 50_000]);
    while !house.room.borrow().is_empty() {
        a.send(&frame);
        house.rig.turn();
    }
    expect_closed(&mut house, a, id);
}

#[test]
fn a_message_longer_than_the_room_queues_reaches_members_that_read() {
    let mut house = house(Slow::Close, 1_000);
    let mut members = [house.member("").0, house.member("").0];
    let text = [b'x'; 2_000];
    members[0].send(&masked(0x81, &text));
    for member in &mut members {
        house.rig.expect(member, &plain(0x81, &text));
    }
    assert_eq!((house.last.borrow().sent, house.last.borrow().missed), (2, 0));
}

#[test]
fn messages_of_one_turn_that_are_more_than_the_room_queues_reach_members_that_read() {
    let mut house = house(Slow::Close, 1_000);
    let mut members = [house.member("").0, house.member("").0];
    let texts: Vec<_> = (b'a'..=b't').map(|letter| [letter; 100]).collect();
    let frames: Vec<_> = texts.iter().flat_map(|text| masked(0x81, text)).collect();
    members[0].send(&frames);
    for member in &mut members {
        for text in &texts {
            house.rig.expect(member, &plain(0x81, text));
        }
    }
    assert_eq!((house.room.borrow().len(), house.last.borrow().missed), (2, 0));
}

#[test]
fn a_room_into_which_nothing_is_published_keeps_few_that_have_ended() {
    let mut house = house(Slow::Skip, 1_000);
    let _stays = [house.member(""), house.member(""), house.member("")];
    let mut most = 0;
    for _ in 0..200 {
        let (member, id) = house.member("");
        member.reset();
        house.rig.end_of(id);
        most = most.max(house.room.borrow().len());
    }
    assert!(most <= 16, "{most} members");
}
