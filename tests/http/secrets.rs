//! What `{:?}` does not tell: values of fields, forms and cookies.

use waterwheel::http::{Call, Client, ClientOptions};
use waterwheel::{ListenOptions, Reactor};

const SECRET: &str = "5ec2e7-hunter";

/// The secret is not in a text, neither as it is nor as a list of numbers.
#[track_caller]
fn expect_untold(text: &str, told: &str) {
    let numbers = format!("{:?}", SECRET.as_bytes());
    let has_it = text.contains(SECRET) || text.contains(numbers.trim_matches(['[', ']']));
    assert!(text.contains(told) && !has_it, "{text}");
}

#[test]
fn requests_are_told_without_their_secrets() {
    let call = Call::post("/login").header("Authorization", SECRET).body(SECRET);
    expect_untold(&format!("{call:?}"), "/login");
    #[cfg(feature = "http-forms")]
    {
        let form = waterwheel::http::Form::parse(format!("password={SECRET}").as_bytes()).unwrap();
        expect_untold(&format!("{form:?}"), "\"password\": 13 bytes");
    }
    #[cfg(feature = "http-session")]
    {
        let cookie = waterwheel::http::SetCookie::new("id", SECRET);
        expect_untold(&format!("{cookie:?}"), "value: 13 bytes");
    }
    #[cfg(feature = "ws")]
    {
        let request = waterwheel::ws::Request::new("feed.example", "/").header("Cookie", SECRET);
        expect_untold(&format!("{request:?}"), "Cookie");
    }
}

#[test]
fn answers_are_told_without_their_cookies() {
    use waterwheel::http::{Router, Server};
    let mut reactor = Reactor::new().unwrap();
    let routes = Router::new().get("/", |_, _, res| {
        res.header("X-Secret", SECRET).text(SECRET);
    });
    let web = reactor.register(Server::new((), routes));
    let addr = reactor.listen("127.0.0.1:0", web, ListenOptions::default()).unwrap();
    let client = Client::register(&mut reactor, addr, ClientOptions::default()).unwrap();
    let remote = reactor.remote();
    client.send(&mut reactor.context(), Call::get("/"), move |answer, _| {
        let answer = answer.unwrap();
        assert_eq!(answer.body(), SECRET.as_bytes());
        expect_untold(&format!("{answer:?}"), "body: 13 bytes");
        remote.stop().unwrap();
    });
    reactor.run().unwrap();
    assert_eq!(reactor.stats().panics, 0);
}
