//! Channels to all reactors of a fleet.

use std::io::ErrorKind;
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};

use waterwheel::fleet::{Fleet, FleetHandle, FleetOptions, FleetSender};
use waterwheel::{Context, Receive};

use crate::support::PATIENCE;

/// Reports what it is told, with its index.
struct Ear {
    index: usize,
    report: std::sync::mpsc::Sender<(usize, u32)>,
}

impl Receive<u32> for Ear {
    fn on_message(&mut self, number: u32, _: &mut Context<'_>) {
        self.report.send((self.index, number)).unwrap();
    }
}

impl Receive<String> for Ear {
    fn on_message(&mut self, _: String, _: &mut Context<'_>) {}
}

type Senders = Vec<FleetSender<u32>>;

/// A fleet whose members send `early` to all while they are set up; the senders by index.
fn start(members: usize, early: u32) -> (FleetHandle, Senders, Receiver<(usize, u32)>) {
    let (report, reports) = channel();
    let senders = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&senders);
    let report = Mutex::new(report);
    let fleet = Fleet::new(FleetOptions::default().threads(Some(members))).unwrap();
    let fleet = fleet.start(move |member| {
        assert_eq!(member.members(), members);
        let (index, report) = (member.index(), report.lock().unwrap().clone());
        let key = member.reactor().register(Ear { index, report });
        let sender = member.channel::<u32, _>(key, 64)?;
        for number in 0..early {
            assert_eq!(sender.send_to_all(number).sent, members);
        }
        kept.lock().unwrap().push((index, sender));
        Ok(())
    });
    let fleet = fleet.unwrap();
    let mut senders = std::mem::take(&mut *senders.lock().unwrap());
    senders.sort_by_key(|(index, _)| *index);
    (fleet, senders.into_iter().map(|(_, sender)| sender).collect(), reports)
}

fn hear(reports: &Receiver<(usize, u32)>, count: usize) -> Vec<(usize, u32)> {
    let mut heard: Vec<_> = (0..count).map(|_| reports.recv_timeout(PATIENCE).unwrap()).collect();
    heard.sort_unstable();
    heard
}

#[test]
fn all_hear_what_one_tells_and_the_others_what_is_for_the_others() {
    let (fleet, senders, reports) = start(3, 0);
    assert_eq!(senders[1].send_to_all(7).sent, 3);
    assert_eq!(hear(&reports, 3), [(0, 7), (1, 7), (2, 7)]);
    assert_eq!(senders[1].send_to_others(8).sent, 2);
    assert_eq!(hear(&reports, 2), [(0, 8), (2, 8)]);
    assert_eq!(senders[1].send_to(2, 9).sent, 1);
    assert_eq!(hear(&reports, 1), [(2, 9)]);
    assert_eq!(senders[1].send_to(3, 9).sent, 0);
    fleet.stop();
    let _ = fleet.join();
    let after = senders[1].send_to_all(10);
    assert_eq!((after.sent, after.stopped), (0, 3));
    assert!(reports.try_recv().is_err(), "more was heard than was told");
}

#[test]
fn what_is_told_while_the_fleet_is_set_up_is_heard_by_all_in_order() {
    let (fleet, _senders, reports) = start(3, 4);
    let mut heard: Vec<_> = (0..36).map(|_| reports.recv_timeout(PATIENCE).unwrap()).collect();
    for index in 0..3 {
        // Three members have each told 0, 1, 2 and 3: no number comes before a smaller one has.
        let numbers: Vec<u32> =
            heard.iter().filter(|(who, _)| *who == index).map(|(_, number)| *number).collect();
        for at in 0..numbers.len() {
            let count = |number| numbers[..=at].iter().filter(|&&it| it == number).count();
            assert!(numbers[at] == 0 || count(numbers[at]) <= count(numbers[at] - 1));
        }
    }
    heard.sort_unstable();
    let expected: Vec<_> =
        (0..3).flat_map(|who| (0..4).flat_map(move |number| [(who, number); 3])).collect();
    assert_eq!(heard, expected);
    fleet.stop();
    let _ = fleet.join();
}

#[test]
fn no_more_waits_for_the_last_channel_than_each_has_room_for() {
    let (report, reports) = channel();
    let (told, is_told) = channel();
    let shared = Mutex::new((report, told));
    let is_told = Mutex::new(is_told);
    let fleet = Fleet::new(FleetOptions::default().threads(Some(2))).unwrap();
    let fleet = fleet.start(move |member| {
        let index = member.index();
        let (report, told) = shared.lock().unwrap().clone();
        let key = member.reactor().register(Ear { index, report });
        if index == 1 {
            // Not before the other has told what it has to tell.
            is_told.lock().unwrap().recv_timeout(PATIENCE).unwrap();
        }
        let sender = member.channel::<u32, _>(key, 2)?;
        if index == 0 {
            let published: Vec<_> = (0..4).map(|number| sender.send_to_all(number)).collect();
            let counts: Vec<_> = published.iter().map(|it| (it.sent, it.full)).collect();
            assert_eq!(counts, [(2, 0), (2, 0), (0, 2), (0, 2)]);
            told.send(()).unwrap();
        }
        Ok(())
    });
    let fleet = fleet.unwrap();
    assert_eq!(hear(&reports, 4), [(0, 0), (0, 1), (1, 0), (1, 1)]);
    fleet.stop();
    let _ = fleet.join();
    assert!(reports.try_recv().is_err(), "more was heard than was sent");
}

#[test]
fn who_is_full_misses_it_and_is_counted() {
    let (senders, handed) = channel();
    let senders = Mutex::new(senders);
    let (report, _reports) = channel();
    let report = Mutex::new(report);
    let fleet = Fleet::new(FleetOptions::default().threads(Some(2))).unwrap();
    let error = fleet.start(move |member| {
        let (index, report) = (member.index(), report.lock().unwrap().clone());
        let key = member.reactor().register(Ear { index, report });
        let sender = member.channel::<u32, _>(key, 2)?;
        senders.lock().unwrap().send(sender).unwrap();
        // The fleet never turns, so nothing is taken out.
        Err(std::io::Error::other("on purpose"))
    });
    assert!(error.is_err());
    let sender = handed.recv().unwrap();
    let after = sender.send_to_all(1);
    assert_eq!((after.sent, after.stopped), (0, 2), "the reactors are gone");
}

#[test]
fn a_full_end_does_not_hold_up_the_others() {
    let (fleet, senders, reports) = start(2, 0);
    let (block, blocked) = channel::<()>();
    fleet.remotes()[0]
        .with(waterwheel::HandlerKey::<Ear>::clone(&first_key()), move |_, _| {
            let _ = blocked.recv();
        })
        .unwrap();
    let mut full = 0;
    for number in 0..200 {
        full += senders[1].send_to(0, number).full;
        assert_eq!(senders[0].send_to(1, number).full, 0);
        assert_eq!(hear(&reports, 1), [(1, number)]);
    }
    assert!((200 - 65..=200 - 64).contains(&full), "{full} of 200 found no room");
    drop(block);
    assert_eq!(hear(&reports, 200 - full).len(), 200 - full);
    fleet.stop();
    let _ = fleet.join();
}

/// The key of the first handler: the same in every reactor.
fn first_key() -> waterwheel::HandlerKey<Ear> {
    let (report, _) = channel();
    waterwheel::Reactor::new().unwrap().register(Ear { index: 0, report })
}

#[test]
fn members_that_make_other_channels_are_told() {
    let run = |which: fn(usize) -> u32| {
        let (report, _reports) = channel();
        let report = Mutex::new(report);
        let fleet = Fleet::new(FleetOptions::default().threads(Some(2))).unwrap();
        let started = fleet.start(move |member| {
            let (index, report) = (member.index(), report.lock().unwrap().clone());
            let key = member.reactor().register(Ear { index, report });
            match which(index) {
                0 => {}
                1 => drop(member.channel::<u32, _>(key, 1)?),
                _ => drop(member.channel::<String, _>(key, 1)?),
            }
            Ok(())
        });
        started.map(|_| ()).unwrap_err()
    };
    let error = run(|index| index as u32);
    assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
    assert!(error.to_string().contains("only 1 of 2 reactors"), "{error}");
    let error = run(|index| 1 + index as u32);
    assert!(error.to_string().contains("other messages"), "{error}");
}
