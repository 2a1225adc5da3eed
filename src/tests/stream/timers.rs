//! When the wheel looks at a connection.

use super::*;
use crate::base::close::TimeoutKind;
use crate::base::tick::{NEVER, after, ticks};
use crate::stream::connection::{Expiry, Flags, Watch};

const SOON: Duration = Duration::from_millis(100);
const FAR: Duration = Duration::from_secs(10);

fn under(limits: &Limits) -> Rc<ConnConfig> {
    Rc::new(ConnConfig::new(limits, 0))
}

/// Whether the wheel has an entry for it, and whether it waits to have lasted.
fn watched(rig: &mut Rig, id: ConnId) -> (bool, bool) {
    let link = rig.link(id);
    (link.connection.armed.tick() != NEVER, link.engine.timers.deferred().contains(&id))
}

#[test]
fn a_far_limit_of_a_new_connection_waits_until_it_has_lasted_and_a_near_one_does_not() {
    for (limit, expected) in
        [(None, (false, false)), (Some(SOON), (true, false)), (Some(FAR), (false, true))]
    {
        let mut rig = Rig::new();
        let id = rig.open_under(Stream::Absent, under(&Limits::default().all_idle(limit)));
        rig.link(id).arm_new();
        assert_eq!(watched(&mut rig, id), expected, "{limit:?}");
    }
    let mut rig = Rig::new();
    let id = rig.open_under(Stream::Absent, under(&Limits::default().all_idle(Some(FAR))));
    rig.link(id).connection.flags.set(Flags::PAUSED);
    rig.link(id).arm_new();
    assert_eq!(watched(&mut rig, id), (true, false), "it has other limits perhaps");
}

#[test]
fn a_deadline_of_the_handler_is_in_the_wheel_unless_something_before_it_is() {
    let mut rig = Rig::new();
    let [first, second] = [(); 2].map(|()| {
        let id = rig.open_under(Stream::Absent, under(&Limits::default().all_idle(Some(FAR))));
        rig.link(id).connection.watch = Watch::Input;
        rig.link(id).arm_new();
        id
    });
    rig.link(second).set_user_deadline(Some(FAR));
    assert_eq!(watched(&mut rig, second), (false, true), "it is looked at when it has lasted");
    rig.link(first).set_user_deadline(Some(FAR));
    assert_eq!(watched(&mut rig, first), (true, true));
    rig.link(second).set_user_deadline(Some(SOON));
    let soon = rig.link(second).connection.armed.tick();
    assert!(soon <= after(rig.engine.timers.clock_tick(), ticks(SOON)), "{soon}");
    rig.link(second).set_user_deadline(Some(FAR));
    assert_eq!(rig.link(second).connection.armed.tick(), soon, "what moves away costs nothing");
    assert!(rig.link(second).connection.has_user_deadline());
    rig.link(second).set_user_deadline(None);
    assert!(!rig.link(second).connection.has_user_deadline());
}

#[test]
fn a_limit_that_a_connection_is_given_later_holds_and_ends_it() {
    let mut rig = Rig::new();
    let id = rig.open(Stream::Absent);
    assert_eq!(rig.link(id).expired(), None);
    rig.link(id).set_idle_limits(|limits| limits.read = Some(5));
    assert_eq!(watched(&mut rig, id), (true, false));
    assert_eq!(rig.link(id).connection.idle_limits().read, Some(5));
    rig.link(id).connection.set_user_deadline(0);
    assert_eq!(rig.link(id).expired(), Some(Expiry::Timeout(TimeoutKind::User)));
}

#[test]
fn an_incomplete_message_has_its_time_only_while_its_peer_is_waited_for() {
    for timeout in [None, Some(FAR)] {
        let mut rig = Rig::new();
        let id = rig.open_under(Stream::Absent, under(&Limits::default().message_timeout(timeout)));
        let is_timed = |rig: &mut Rig| rig.link(id).connection.deadline(|stamp| stamp) != NEVER;
        rig.link(id).watch_message(false, false);
        assert!(!is_timed(&mut rig) && watched(&mut rig, id) == (false, false));
        let link = rig.link(id);
        link.connection.keep_input(b"mess", &mut link.engine.spares);
        rig.link(id).watch_message(true, true);
        assert_eq!([is_timed(&mut rig), watched(&mut rig, id).0], [timeout.is_some(); 2]);
        assert_eq!(rig.link(id).connection.has_cold(), timeout.is_some(), "memory for nothing");
        rig.link(id).pause_reading();
        assert!(!is_timed(&mut rig), "the handler keeps it waiting");
        rig.link(id).resume_reading();
        assert_eq!(is_timed(&mut rig), timeout.is_some());
        rig.link(id).watch_message(false, false);
        assert!(!is_timed(&mut rig), "it is whole");
    }
}
