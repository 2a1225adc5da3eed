//! The names of the threads, and the cores that they keep to.

use std::io;
use std::sync::mpsc::channel;
use std::thread;

use rustix::thread::{CpuSet, sched_getaffinity};
use waterwheel::fleet::{Fleet, FleetOptions, Pinning, Spread};
use waterwheel::offload::{Offload, OffloadOptions};

use super::{options, register};

/// The cores that this thread may run on.
fn cores() -> Vec<usize> {
    let set = sched_getaffinity(None).unwrap();
    (0..CpuSet::MAX_CPU).filter(|&core| set.is_set(core)).collect()
}

/// The names of the threads, and the cores that each may run on while it turns, as they see it.
fn cores_of(options: FleetOptions) -> io::Result<Vec<(String, Vec<usize>)>> {
    let (send, receive) = channel();
    let fleet = Fleet::new(options)?.start(move |member| {
        let (send, index) = (send.clone(), member.index());
        let tell = register(member);
        let report = move |_: &mut _, _: &mut waterwheel::Context<'_>| {
            let name = thread::current().name().unwrap().to_owned();
            send.send((index, (name, cores()))).unwrap();
        };
        member.reactor().remote().with(tell, report).unwrap();
        Ok(())
    })?;
    let mut found: Vec<_> = receive.iter().collect();
    fleet.stop();
    let _ = fleet.join();
    found.sort();
    Ok(found.into_iter().map(|(_, found)| found).collect())
}

#[test]
fn threads_are_named_and_pinned() {
    let named = options(3, Spread::Shared).name("crew".to_owned());
    let free = cores_of(named.clone()).unwrap();
    let names: Vec<&str> = free.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["crew-0", "crew-1", "crew-2"]);
    let all = free[0].1.clone();
    let pinned = cores_of(named.clone().pinning(Pinning::Cores)).unwrap();
    for (index, (_, cores)) in pinned.iter().enumerate() {
        assert_eq!(*cores, [all[index % all.len()]]);
    }
    let last = *all.last().unwrap();
    let pinned = cores_of(named.clone().pinning(Pinning::To(vec![last]))).unwrap();
    assert!(pinned.iter().all(|(_, cores)| *cores == [last]), "{pinned:?}");
    for core in [1_000, 1_000_000] {
        let error = cores_of(named.clone().pinning(Pinning::To(vec![core]))).unwrap_err();
        let text = format!("cannot start: cannot keep the thread on core {core}: ");
        assert!(error.to_string().contains(&text), "{error}");
    }
}

/// Blocking work beside the loop on a single core would hold it up.
#[test]
fn the_threads_of_an_offload_are_not_pinned() {
    let all = cores();
    let (send, receive) = channel();
    let fleet = Fleet::new(options(2, Spread::Shared).pinning(Pinning::Cores)).unwrap();
    let fleet = fleet.start(move |member| {
        let offload = Offload::new(member.reactor(), OffloadOptions::default().threads(1))?;
        let send = send.clone();
        offload.run_alone((), move |()| send.send(cores()).unwrap()).unwrap();
        Ok(())
    });
    let found: Vec<_> = receive.iter().collect();
    assert_eq!(found, [all.clone(), all]);
    let fleet = fleet.unwrap();
    fleet.stop();
    fleet.join().into_result().unwrap();
}

/// A fleet of one reactor runs on the thread that calls it.
#[test]
fn a_thread_that_has_run_a_fleet_is_not_pinned_any_more() {
    let all = cores();
    let last = vec![*all.last().unwrap()];
    let one = options(1, Spread::Shared).pinning(Pinning::To(last.clone()));
    let (send, receive) = channel();
    let stats = Fleet::new(one).unwrap().run(move |member| {
        let send = send.clone();
        let tell = register(member);
        let report = move |_: &mut _, cx: &mut waterwheel::Context<'_>| {
            send.send(cores()).unwrap();
            cx.stop();
        };
        member.reactor().remote().with(tell, report).unwrap();
        Ok(())
    });
    stats.unwrap();
    assert_eq!(receive.recv().unwrap(), last);
    assert_eq!(cores(), all);
}
