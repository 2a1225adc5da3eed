//! The names of the threads, and the cores that they keep to.

use std::io;
use std::sync::mpsc::{Sender, channel};
use std::thread;

use rustix::thread::{CpuSet, sched_getaffinity};
use waterwheel::fleet::{Fleet, FleetOptions, Member, Pinning, Spread};

use super::options;

/// The names of the threads, and the cores that each may run on, as they see it.
fn cores_of(options: FleetOptions) -> io::Result<Vec<(String, Vec<usize>)>> {
    let (send, receive) = channel();
    let report = move |member: &mut Member<'_>, send: &Sender<_>| {
        let set = sched_getaffinity(None).unwrap();
        let cores: Vec<usize> = (0..CpuSet::MAX_CPU).filter(|&core| set.is_set(core)).collect();
        let name = thread::current().name().unwrap().to_owned();
        send.send((member.index(), (name, cores))).unwrap();
    };
    let fleet = Fleet::new(options)?.start(move |member| {
        report(member, &send);
        Ok(())
    })?;
    fleet.stop();
    let _ = fleet.join();
    let mut found: Vec<_> = receive.iter().collect();
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
