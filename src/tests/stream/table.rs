//! The table of connections and listeners, and what is counted of them.

use std::any::Any;
use std::io;
use std::sync::Arc;

use super::*;
use crate::base::buffer::Scratch;
use crate::base::close::CloseReason;
use crate::options::{Decoded, Layer, LayerStage};
use crate::stream::connection::Flags;
use crate::stream::handshake_slots::HandshakeSlots;
use crate::stream::{ConnectFailure, Handover, Load};
use crate::sys::Loose;

#[test]
fn an_id_finds_its_connection_while_that_lives_and_not_the_next_one_of_its_slot() {
    let mut rig = Rig::new();
    let (first, other) = (rig.open(Stream::Absent), rig.open(Stream::Absent));
    assert!(rig.streams.get(first).is_some() && rig.streams.id_at(0) == first);
    assert_eq!((rig.streams.ids(), rig.streams.len()), (vec![first, other], 2));
    assert!(rig.streams.has_slots());
    rig.link(first).mark_closed(CloseReason::Local);
    assert!(rig.streams.get(first).is_none() && rig.streams.facts(first).is_none());
    assert!(rig.streams.link(&mut rig.engine, first).is_none());
    // It has its slot until the end of the turn.
    assert!(rig.streams.slot(first).is_some() && rig.streams.slot_mut(first).is_some());
    assert_eq!((rig.streams.ids(), rig.streams.len()), (vec![other], 2));
    assert!(rig.streams.iter().map(|(id, _)| id).eq([first, other]));
    assert!(rig.streams.remove(&mut rig.engine, first, |_| Some(())).is_some());
    let next = rig.open(Stream::Absent);
    assert_eq!((next.slot(), rig.streams.len(), rig.streams.counted()), (first.slot(), 2, 2));
    assert!(rig.streams.slot(first).is_none() && rig.streams.slot_mut(first).is_none());
    assert!(rig.streams.get(first).is_none() && rig.streams.get(next).is_some());
    assert!(
        rig.streams.remove(&mut rig.engine, first, |_| Some(())).is_none(),
        "it would end another one"
    );
    assert_eq!((rig.engine.stats.connections, rig.engine.stats.connections_peak), (2, 2));
}

#[test]
fn an_observer_is_not_told_that_a_paused_connection_is_as_usual() {
    let mut rig = Rig::new();
    let (usual, paused) = (rig.open(Stream::Absent), rig.open(Stream::Absent));
    rig.link(paused).pause_reading();
    assert!(rig.streams.is_usual(usual) && !rig.streams.is_usual(paused));
    assert!(rig.streams.facts(usual).is_some_and(|facts| facts.is_reading && !facts.is_paused));
    assert!(rig.streams.facts(paused).is_some_and(|facts| facts.is_paused && !facts.is_reading));
}

#[test]
fn no_timer_of_a_connection_outlives_it() {
    let mut rig = Rig::new();
    let id = rig.open(Stream::Absent);
    rig.link(id).set_timer(Duration::from_secs(1), true, 7);
    rig.link(id).set_idle_limits(|limits| limits.all = Some(5));
    assert_eq!(rig.engine.timers.len(), 2);
    rig.end(id);
    assert_eq!(rig.engine.timers.len(), 0);
}

/// A layer whose handshake goes on.
#[derive(Debug)]
struct Silent;

impl Layer for Silent {
    fn begin(&mut self, _: &mut Scratch) {}

    fn decode(&mut self, _: &mut [u8], _: &mut Vec<u8>, _: &mut Scratch) -> io::Result<Decoded> {
        Ok(Decoded { consumed: 0, stage: LayerStage::Handshake })
    }

    fn encode(&mut self, _: &[u8], _: &mut [u8], _: &mut Scratch) -> io::Result<()> {
        Ok(())
    }

    fn encode_end(&mut self, _: &mut [u8], _: &mut Scratch) {}

    fn as_any(&self) -> &dyn Any {
        self
    }
}

#[test]
fn a_connection_that_ends_in_its_handshake_has_its_place_there_no_longer() {
    let mut rig = Rig::new();
    let index = rig.listener(&ListenOptions::default());
    rig.streams.listeners[index].handshakes = Some(HandshakeSlots::new(1, 64));
    let [first, second] = [(); 2].map(|()| rig.accept(index));
    let enter = |rig: &mut Rig, id| {
        let connection = rig.link(id).connection;
        let source = connection.peer().ip();
        connection.flags.set(Flags::UNOPENED);
        connection.set_layer(Box::new(Silent), source);
        rig.streams.listeners[index].handshakes.as_mut().unwrap().enter(source, id)
    };
    assert_eq!(enter(&mut rig, first), None);
    rig.end(first);
    assert_eq!(enter(&mut rig, second), None, "a connection that is gone gave its place up");
}

#[test]
fn a_connection_that_is_handed_over_counts_once_for_the_acceptor() {
    let mut rig = Rig::new();
    let load = Arc::new(Load::default());
    rig.streams.set_load(Arc::clone(&load));
    let own = rig.open(Stream::Absent);
    assert_eq!(load.connections(), 1);
    let (stream, peer) = connected();
    let stream = Loose::new(stream).unwrap();
    let on_its_way = Handover::new(stream, peer.local_addr().unwrap(), 0, Arc::clone(&load));
    assert_eq!(load.connections(), 2);
    let (stream, guard) = on_its_way.take().unwrap();
    rig.streams.set_handed_over(Some(guard));
    assert_eq!(load.connections(), 2, "or the acceptor would give it one too many");
    let given = rig.open(stream.into_stream());
    assert_eq!(load.connections(), 2);
    for (id, left) in [(own, 1), (given, 0)] {
        rig.streams.remove(&mut rig.engine, id, |_| Some(()));
        assert_eq!(load.connections(), left);
    }
    rig.streams.close_listeners(&mut rig.engine);
    assert!(load.is_leaving(), "no more is handed over to it");
}

#[test]
fn listeners_without_a_socket_stay_for_what_is_on_its_way_to_them() {
    let mut rig = Rig::new();
    let options = ListenOptions::default();
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let addr = rig.streams.listen(&mut rig.engine, any, 0, &options).unwrap();
    let member = rig.listener(&options);
    assert_eq!((member, rig.streams.next_listener()), (1, 2));
    assert!(rig.streams.listener(0).is_some_and(|listener| listener.addr == addr));
    for index in [0, member, member] {
        rig.streams.queue_listener(&mut rig.engine, index);
    }
    assert_eq!(rig.engine.ready.others(), 2, "each waits once");
    rig.streams.close_listeners(&mut rig.engine);
    assert!(rig.streams.listeners().map(|(index, _)| index).eq([member]));
    assert!(rig.streams.listener_mut(0).is_none() && rig.streams.listener_mut(member).is_some());
}

#[test]
fn a_connection_that_ends_gives_back_the_share_of_its_source_if_that_is_known() {
    let mut rig = Rig::new();
    let index = rig.listener(&ListenOptions::default().max_per_source(Some(1)));
    let [client, behind_balancer] = [(); 2].map(|()| rig.accept(index));
    let source = rig.link(client).connection.peer().ip();
    rig.link(behind_balancer).connection.flags.set(Flags::SOURCE_UNKNOWN);
    rig.streams.listeners[index].sources.as_mut().unwrap().enter(source);
    let admits = |rig: &Rig| rig.streams.listeners[index].sources.as_ref().unwrap().admits(source);
    rig.end(behind_balancer);
    assert!(!admits(&rig), "it was the share of another one");
    rig.end(client);
    assert!(admits(&rig));
}

#[test]
fn what_outgoing_connections_have_left_is_for_the_end_of_the_turn() {
    let mut rig = Rig::new();
    assert!(!rig.streams.has_endings());
    rig.streams.keep_state(ConnId::new(3, 1), Box::new("state"));
    assert!(rig.streams.has_states() && rig.streams.has_endings());
    let (id, state) = rig.streams.pop_state().unwrap();
    assert_eq!((id, state.downcast_ref()), (ConnId::new(3, 1), Some(&"state")));
    assert!(rig.streams.pop_state().is_none() && !rig.streams.has_states());
    let failure = |service| ConnectFailure {
        service,
        state: Box::new(()),
        error: std::io::ErrorKind::AddrInUse.into(),
    };
    rig.streams.push_failure(failure(1));
    rig.streams.push_failure(failure(2));
    assert!(rig.streams.has_endings() && rig.streams.failures() == 2);
    let services = [(); 3].map(|()| rig.streams.pop_failure().map(|failure| failure.service));
    assert_eq!(services, [Some(1), Some(2), None]);
    assert!(!rig.streams.has_endings());
}
