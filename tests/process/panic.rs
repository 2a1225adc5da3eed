//! A panic that is to end the process does.

use waterwheel::{ListenOptions, OnPanic, ReactorOptions};

use crate::support::{Journal, Rig, Script};

/// Set in the child process of the test below.
const ABORTS: &str = "WATERWHEEL_TEST_ABORTS";

/// The panic is told and the process ends by SIGABRT; nothing is served on.
#[test]
fn a_panic_ends_the_process_if_the_options_ask_for_it() {
    if std::env::var_os(ABORTS).is_some() {
        let options = ReactorOptions::default().on_panic(OnPanic::Abort);
        let handler = Script::new().data(|_, _| panic!("a bug"));
        let mut rig = Rig::with(handler, Journal::default(), ListenOptions::default(), options);
        let (mut client, _) = rig.client();
        client.send(b"x");
        rig.until("the end of the process", |_| false);
    }
    let child = std::process::Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "panic::a_panic_ends_the_process_if_the_options_ask_for_it",
            "--nocapture",
        ])
        .env(ABORTS, "1")
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&child.stderr);
    assert!(errors.contains("a bug"), "{errors}");
    assert!(!errors.contains("waited in vain"), "{errors}");
    #[cfg(unix)]
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&child.status), Some(6));
}
