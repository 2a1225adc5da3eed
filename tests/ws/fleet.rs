//! Messages to members on several reactors, and to many of whom some do not read.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

use waterwheel::fleet::{Balance, Fleet, FleetOptions, Spread};
use waterwheel::ws::{self, Frame, Message, Options, Room, RoomPart, SharedRoom, Slow, Socket};
use waterwheel::{ConnId, ListenOptions, Reactor, TcpOptions};

use crate::peer::{masked, plain, read_head, request};
use crate::site::site;
use crate::support::{Client, PATIENCE, Rig};

/// Everyone is in the room; a text is published, bytes come back to their sender.
struct Chat {
    room: RoomPart,
    parts: usize,
}

impl ws::Handler for Chat {
    type State = ();

    fn on_open(&mut self, _: &mut (), socket: &mut Socket<'_>) {
        assert!(self.room.join(socket));
    }

    fn on_message(&mut self, _: &mut (), socket: &mut Socket<'_>, message: Message<'_>) {
        if message.text().is_none() {
            socket.send_binary(&[self.room.len() as u8]);
            return;
        }
        let frame = Arc::new(Frame::new(message));
        let (here, relayed) = self.room.publish(&mut socket.context(), &frame);
        assert_eq!(here.sent, self.room.len());
        assert_eq!((relayed.sent, relayed.missed), (self.parts - 1, 0));
    }
}

fn member(addr: SocketAddr) -> Client {
    let mut client = Client::connect(addr);
    client.send(request("").as_bytes());
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.extend(read(&mut client, 1));
    }
    client
}

/// So many bytes, which another thread sends.
fn read(client: &mut Client, count: usize) -> Vec<u8> {
    let (mut bytes, end) = (Vec::new(), Instant::now() + PATIENCE);
    while bytes.len() < count {
        bytes.extend(client.try_read(count - bytes.len()).expect("it goes on"));
        assert!(Instant::now() < end, "no answer");
        thread::yield_now();
    }
    bytes
}

#[test]
fn members_on_all_reactors_get_each_message_once_and_in_order() {
    let (send, receive) = channel();
    let room = SharedRoom::new(1 << 20, Slow::Skip);
    let inside = room.clone();
    let spread = Spread::HandOver(Balance::RoundRobin);
    let options = FleetOptions::default().threads(Some(3)).spread(spread);
    let fleet = Fleet::new(options).unwrap().start(move |member| {
        let room = inside.open(member.reactor())?;
        let key = member.reactor().register(site(Chat { room, parts: 3 }, Options::default()));
        let addr = member.listen("127.0.0.1:0", key, ListenOptions::default())?;
        let _ = send.send(addr);
        Ok(())
    });
    let fleet = fleet.unwrap();
    let addr = receive.recv().unwrap();
    let mut clients: Vec<_> = (0..6).map(|_| member(addr)).collect();
    for client in &mut clients {
        // Each reactor has two of them; and what is asked is answered by a member.
        client.send(&masked(0x82, b"?"));
        assert_eq!(read(client, 3), [0x82, 1, 2]);
    }
    for number in 0..50 {
        clients[0].send(&masked(0x81, format!("{number}").as_bytes()));
    }
    for client in &mut clients {
        for number in 0..50 {
            let wanted = plain(0x81, format!("{number}").as_bytes());
            assert_eq!(read(client, wanted.len()), wanted);
        }
    }
    // A thread that is no reactor may publish too.
    let relayed = room.publish(&Arc::new(Frame::text("from without")));
    assert_eq!((relayed.sent, relayed.missed), (3, 0));
    for client in &mut clients {
        let wanted = plain(0x81, b"from without");
        assert_eq!(read(client, wanted.len()), wanted);
    }
    fleet.remote().drain(Duration::from_secs(5));
    drop(clients);
    fleet.join().into_result().unwrap();
    assert_eq!(room.publish(&Arc::new(Frame::text("late"))), ws::Relayed::default());
}

#[test]
fn a_reactor_that_does_not_turn_misses_what_is_over_its_capacity() {
    let room = SharedRoom::new(1 << 20, Slow::Skip).capacity(2);
    let mut reactor = waterwheel::Reactor::new().unwrap();
    let part = room.open(&mut reactor).unwrap();
    let frame = Arc::new(Frame::text("x"));
    let told: Vec<_> = (0..3).map(|_| room.publish(&frame).missed).collect();
    assert_eq!((told, Arc::strong_count(&frame)), (vec![0, 0, 1], 3), "framed once");
    reactor.run_once(Some(Duration::ZERO)).unwrap();
    assert_eq!((room.publish(&frame).missed, part.len()), (0, 0));
    assert!(SharedRoom::new(0, Slow::Skip).capacity(0).open(&mut reactor).is_err());
}

/// A room of those who only listen.
#[derive(Default)]
struct Feed {
    room: Room,
}

impl ws::Handler for Feed {
    type State = ();

    fn on_open(&mut self, _: &mut (), socket: &mut Socket<'_>) {
        assert!(self.room.join(socket));
    }

    /// Publishes a frame of so many kibibytes.
    fn on_message(&mut self, _: &mut (), socket: &mut Socket<'_>, message: Message<'_>) {
        let frame = Frame::binary(&vec![message.bytes()[0]; 4 << 10]);
        self.room.publish(&mut socket.context(), &frame, Slow::Skip);
    }
}

/// Of a thousand members a hundred never read: their queues stay under the limit of the room, and
/// the others get every message.
#[test]
fn members_that_do_not_read_cost_the_others_nothing() {
    const MEMBERS: usize = 1_000;
    const ROUNDS: u8 = 60;
    const CAP: usize = 64 << 10;
    waterwheel::raise_open_file_limit().unwrap();
    let feed = Feed { room: Room::new(CAP) };
    // Otherwise the kernel holds all of it.
    let tcp = TcpOptions::default().send_buffer_bytes(Some(16 << 10));
    // A slow machine needs longer than the interval, and no ping shall come between.
    let options = Options::default().ping_interval(None);
    let mut rig = Rig::with_listen(site(feed, options), ListenOptions::default().tcp(tcp));
    let mut members: Vec<(Client, ConnId)> = Vec::new();
    for place in 0..MEMBERS {
        let (client, id) = rig.client();
        let mut client = if place % 10 == 0 { client.with_small_receive_buffer() } else { client };
        client.send(request("").as_bytes());
        read_head(&mut rig, &mut client);
        members.push((client, id));
    }
    let (mut most, mut all) = (0, 0);
    for round in 0..ROUNDS {
        members[1].0.send(&masked(0x82, &[round]));
        let wanted = plain(0x82, &[round; 4 << 10]);
        for (place, (client, _)) in members.iter_mut().enumerate() {
            if place % 10 != 0 {
                rig.expect(client, &wanted);
            }
        }
        let mut context = rig.reactor.context();
        let queues = members
            .iter()
            .step_by(10)
            .map(|(_, id)| context.conn(*id).expect("a slow member is not closed").pending_bytes());
        let queues: Vec<usize> = queues.collect();
        most = most.max(queues.iter().copied().max().unwrap_or(0));
        all = queues.iter().sum();
    }
    assert!(most <= CAP, "a queue of {most} bytes");
    assert!(all > MEMBERS / 10 * (CAP / 2), "the slow ones were not slow: {all} bytes queued");
}

/// What a reactor has to say last, as to who has left, goes to all that are there by then.
#[test]
fn a_part_of_a_reactor_that_is_gone_passes_no_other_one_by() {
    let room = SharedRoom::new(1 << 20, Slow::Skip);
    let mut reactors = [Reactor::new().unwrap(), Reactor::new().unwrap()];
    let parts: Vec<_> = reactors.iter_mut().map(|it| room.open(it).unwrap()).collect();
    let [mut first, second] = reactors;
    drop(second);
    let frame = Arc::new(Frame::text("one"));
    assert_eq!(room.publish(&frame).sent, 1);
    let mut third = Reactor::new().unwrap();
    let _part = room.open(&mut third).unwrap();
    let (_, relayed) = parts[1].publish(&mut first.context(), &frame);
    assert_eq!((relayed.sent, relayed.missed), (2, 0));
}
