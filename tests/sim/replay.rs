//! A run that is kept step by step, and its page.

use std::io;
use std::time::Duration;

use waterwheel::sim::{Fault, Faults, Script, Seeds, Simulation, Tour};
use waterwheel::{Conn, ListenOptions};

/// One peer is served, with an idle limit; everything is kept.
fn kept(name: &str, faults: Faults) -> io::Result<Simulation> {
    let mut sim = Simulation::new(1, faults);
    sim.keep_replay();
    let (_, addr) = sim.host(name, |reactor| {
        let echo = reactor.register(|conn: &mut Conn<'_>, input: &[u8]| {
            conn.write(input);
            input.len()
        });
        let options = ListenOptions::default().idle_timeout(Duration::from_secs(10));
        reactor.listen("0.0.0.0:7000", echo, options)
    })?;
    let script = Script::new().send("hello").read(5).wait(Duration::from_secs(1));
    sim.peer(addr, script.finish().read_to_end());
    sim.run(Duration::from_secs(60));
    Ok(sim)
}

#[test]
fn each_step_says_what_it_has_changed() -> io::Result<()> {
    let sim = kept("server", Faults::none())?;
    let replay = sim.replay();
    let order = [
        "SYN leaves s1",
        "tcp s1 \"SYN_SENT\"",
        "tcp s2 \"SYN_RECEIVED\"",
        "accept s0 [1,4096]",
        "event s0: readable",
        "accept s0 [0,4096]",
        "on_accept from 10.1.0.0:40000",
        "on_open c0",
        "Receive s2 -> 5",
        "on_data c0, 5 bytes",
        "data leaves s2 to s1, 5 bytes",
        "on_data has consumed 5 bytes",
        "\"connection\",0]", // its entry in the wheel, when it has lasted
        "FIN leaves s1",
        "tcp s2 \"CLOSE_WAIT\"",
        "tcp s1 \"FIN_WAIT_2\"",
        "on_eof c0",
        "tcp s2 \"LAST_ACK\"",
        "on_close c0",
        "slab c0 null",
        "wheel []",
        "tcp s1 \"TIME_WAIT\"",
    ];
    let mut from = 0;
    for words in order {
        let found = replay.find(from, words);
        from = found.unwrap_or_else(|| panic!("{words} behind step {from}"));
    }
    assert_eq!(replay.count("on_data c0"), 1);
    assert!(!replay.is_empty() && replay.text(0).starts_with("Bind"), "{}", replay.text(0));
    assert!(replay.time(replay.len() - 1) >= Duration::from_secs(1));
    Ok(())
}

#[test]
fn a_replay_changes_nothing_of_a_run() -> io::Result<()> {
    let run = |keeps: bool| {
        let mut hash = 0;
        for seed in 0..50 {
            let mut sim = Simulation::new(seed, Faults::harmless());
            if keeps {
                sim.keep_replay();
            }
            let (_, addr) = sim.host("server", |reactor| {
                let sink = reactor.register(|_: &mut Conn<'_>, input: &[u8]| input.len());
                reactor.listen("0.0.0.0:7000", sink, ListenOptions::default())
            })?;
            sim.peer(addr, Script::new().send(vec![1; 100_000]).finish().read_to_end());
            sim.run(Duration::from_secs(60));
            assert_eq!(sim.replay().is_empty(), !keeps);
            hash ^= sim.hash().rotate_left(seed as u32);
        }
        io::Result::Ok(hash)
    };
    assert_eq!(run(true)?, run(false)?);
    Ok(())
}

#[test]
fn a_fault_that_strikes_is_a_step() {
    let faults = Faults::none().with(Fault::ShortRead);
    let mut found = 0;
    for seed in 0..40 {
        let mut sim = Simulation::new(seed, faults);
        sim.keep_replay();
        let (_, addr) = sim
            .host("server", |reactor| {
                let sink = reactor.register(|_: &mut Conn<'_>, input: &[u8]| input.len());
                reactor.listen("0.0.0.0:7000", sink, ListenOptions::default())
            })
            .unwrap();
        sim.peer(addr, Script::new().send(vec![1; 50_000]).finish().read_to_end());
        sim.run(Duration::from_secs(60));
        let struck: u64 = sim.struck().iter().map(|(_, count)| count).sum();
        assert_eq!(sim.replay().count("fault: ") as u64, struck, "seed {seed}");
        found += struck;
    }
    assert!(found > 0, "no fault struck");
}

#[test]
fn no_name_becomes_markup_of_the_page() -> io::Result<()> {
    let sim = kept("</script><img src=x onerror=alert(1)>", Faults::none())?;
    let tour = Tour::new("<b>&\"'", "</script>").stop(3, "`<i>`").code("<u>", "a < b && c");
    let mut page = Vec::new();
    sim.failed_replay("</SCRIPT><p>").write_page(Some(&tour.exercise("</p>")), &mut page)?;
    let page = String::from_utf8(page).unwrap();
    for tag in ["<img", "<b>", "<i>", "<u>", "</SCRIPT>"] {
        assert!(!page.contains(tag), "{tag}");
    }
    assert_eq!(page.matches("</script>").count(), 2, "the data and the script end once");
    assert!(page.contains("<title>&lt;b&gt;&amp;&quot;&#39; – "), "the title is escaped");
    Ok(())
}

/// The page of a long run shows its end, and how everything stood before.
#[test]
fn a_long_run_keeps_its_end() -> io::Result<()> {
    let mut sim = Simulation::new(1, Faults::none());
    sim.keep_replay();
    let (_, addr) = sim.host("server", |reactor| {
        let sink = reactor.register(|_: &mut Conn<'_>, input: &[u8]| input.len());
        reactor.listen("0.0.0.0:7000", sink, ListenOptions::default())
    })?;
    sim.peer(addr, Script::new().dribble(vec![1; 3_000], Duration::from_millis(1)).read_to_end());
    sim.run(Duration::from_secs(60));
    let steps = sim.replay().len();
    assert!(steps > 20_000, "{steps}");
    let mut page = Vec::new();
    sim.replay().write_page(None, &mut page)?;
    let page = String::from_utf8(page).unwrap();
    assert!(page.contains(&format!("\"left_out\":{}", steps - 20_000)));
    let state = page.split("\"state\":[").nth(1).unwrap();
    assert!(state.starts_with("[-1,\"accept\",0,"), "{}", &state[..100]);
    Ok(())
}

#[test]
fn seeds_are_run_without_a_replay() {
    let report = Seeds::new(2).faults(Faults::none()).run(|sim| {
        assert!(sim.replay().is_empty());
        Ok(())
    });
    assert_eq!(report.runs, 2);
}
