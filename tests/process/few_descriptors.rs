//! The warning of a recorder that descriptors run short.

use std::time::Duration;

use rustix::process::{Resource, Rlimit, setrlimit};
use waterwheel::ConnectOptions;
use waterwheel::inspect::{Recorder, RecorderOptions, WarningKind};

use crate::own::in_own_process;
use crate::support::{Rig, Script};

/// Connections, each with both of its ends in this process.
const PAIRS: usize = 90;

#[test]
fn a_recorder_tells_how_many_descriptors_are_in_use() {
    in_own_process(|| {
        let mut rig = Rig::new(Script::echo());
        // Looks so often, and not once a second.
        let options = RecorderOptions::default().stuck(Duration::from_millis(1));
        let recorder = rig.reactor.observe(Recorder::with_options(options));
        for _ in 0..PAIRS {
            rig.connect(rig.addr, 0, &ConnectOptions::default());
        }
        rig.until("all are up", |rig| rig.journal.opened().len() == 2 * PAIRS);
        setrlimit(Resource::Nofile, Rlimit { current: Some(200), maximum: Some(200) }).unwrap();
        let mut found = None;
        rig.until("the warning", |rig| {
            let recorder = rig.reactor.observer_mut(recorder).unwrap();
            let mut warnings = recorder.warnings().iter();
            found = warnings.find(|it| it.kind == WarningKind::FewDescriptors).cloned();
            found.is_some()
        });
        // Without the one of the listing.
        let used = std::fs::read_dir("/proc/self/fd").unwrap().count() - 1;
        let text = found.unwrap().text;
        assert_eq!(text, format!("{used} of 200 descriptors are in use"));
    });
}
