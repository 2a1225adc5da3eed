//! The clocks of a client, by the time of the world and not by a busy machine.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use waterwheel::http::{Call, Client, ClientOptions, Upload};
use waterwheel::sim::{Faults, Reaction, Script, Simulation};
use waterwheel::{Context, Written};

const fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

/// How long an answer may take in these tests.
const LIMIT: Duration = ms(1_000);

/// More than both ends hold in their buffers.
const BODY: usize = 1 << 20;

/// What a call comes to, and when, whose server reads nothing for so long, and answers so long
/// after it has read all.
fn outcome(call: Call, unread: Duration, answers: Duration) -> (Result<u16, String>, Duration) {
    let mut sim = Simulation::new(0, Faults::none());
    let whole = |input: &[u8]| match input.len() {
        BODY.. => Reaction::Done(input.len()),
        _ => Reaction::Wait,
    };
    let script = Script::new().stop_reading().wait(unread).resume_reading().react(whole);
    let answer = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
    let addr = sim.listening_peer(1, script.wait(answers).send(answer).read_to_end());
    let found = Rc::new(Cell::new(None));
    let told = Rc::clone(&found);
    sim.host("client", |reactor| {
        let options = ClientOptions::default().answer_timeout(LIMIT);
        let client = Client::register(reactor, addr, options)?;
        client.send(&mut reactor.context(), call, move |answer, cx| {
            let status = answer.map(|answer| answer.status()).map_err(|error| error.to_string());
            told.set(Some((status, cx.now())));
            client.close(cx);
        });
        Ok(())
    })
    .unwrap();
    sim.run(Duration::from_secs(60));
    found.take().expect("the call is over")
}

/// A body that is made faster than it leaves.
fn streamed() -> Call {
    let mut left = BODY;
    Call::post("/").stream_body(Some(BODY as u64), move |upload: &Upload, cx: &mut Context<'_>| {
        while left > 0 {
            left -= 1 << 10;
            if upload.write(cx, &[b'x'; 1 << 10]) != Written::Below && left > 0 {
                return;
            }
        }
        upload.end(cx);
    })
}

fn known() -> Call {
    Call::post("/").body(vec![b'x'; BODY])
}

/// The time of the answer counts from the end of the request, whenever that is.
#[test]
fn a_request_that_leaves_slowly_takes_no_time_from_its_answer() {
    for call in [known, streamed] {
        for unread in [0, 300, 950] {
            let (status, at) = outcome(call(), ms(unread), ms(900));
            assert_eq!(status, Ok(200), "unread for {unread} ms, over at {at:?}");
        }
    }
}

/// A server that takes the request and says nothing is given up all the same.
#[test]
fn an_answer_that_never_comes_is_given_up_within_twice_the_limit() {
    for call in [known, streamed] {
        for unread in [0, 300, 900] {
            let (status, at) = outcome(call(), ms(unread), Duration::from_secs(30));
            assert!(status.is_err_and(|text| text.contains("answer_timeout")));
            assert!(at < ms(unread) + 2 * LIMIT + ms(200), "unread for {unread} ms: {at:?}");
        }
    }
    let (status, at) = outcome(Call::get("/"), ms(0), Duration::from_secs(30));
    assert!(status.is_err() && at < LIMIT + ms(200), "one that leaves at once: {at:?}");
}
