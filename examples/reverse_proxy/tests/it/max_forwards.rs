//! OPTIONS that says how many proxies pass it on.

use super::{accept, has, head, listen, serve};
use crate::servers::{Client, expect_clean_end};

/// What asks how far it comes ends where it says (RFC 9110, 7.6.2).
#[test]
fn an_options_passes_as_many_proxies_as_it_says() {
    let (listener, behind) = listen();
    let (server, addr) = serve(&[behind], &["--every", "0"]);
    let mut client = Client::connect(addr);
    for zero in ["0", "00"] {
        client.send(format!("OPTIONS /a HTTP/1.1\r\nHost: x\r\nMax-Forwards: {zero}\r\n\r\n"));
        let answer = head(&mut client);
        assert_eq!(answer[0], "HTTP/1.1 204 No Content");
        assert!(has(&answer, "Allow: GET, HEAD, POST, PUT, DELETE, OPTIONS, PATCH"), "{answer:?}");
    }
    let most = "99999999999999999999";
    let mut upstream = None;
    for (method, sent, wanted) in [
        ("OPTIONS", "1", "0"),
        ("OPTIONS", "10", "9"),
        ("OPTIONS", most, "18446744073709551614"),
        ("OPTIONS", "+1", "+1"), // no number
        ("OPTIONS", "", ""),
        ("GET", "0", "0"), // means nothing there
    ] {
        client.send(format!("{method} /a HTTP/1.1\r\nHost: x\r\nmax-forwards: {sent}\r\n\r\n"));
        let upstream = upstream.get_or_insert_with(|| accept(&listener));
        let request = head(upstream);
        assert_eq!(request[0], format!("{method} /a HTTP/1.1"));
        let fields = request.iter().map(|line| line.to_ascii_lowercase());
        let hops: Vec<_> = fields.filter(|line| line.starts_with("max-forwards:")).collect();
        let wanted = format!("max-forwards: {wanted}");
        assert_eq!(hops, [wanted.trim_end()], "{method} {sent}");
        upstream.send("HTTP/1.1 204 No Content\r\n\r\n");
        assert_eq!(head(&mut client)[0], "HTTP/1.1 204 No Content");
    }
    // A TRACE, which could bring cookies back, ends here in any case.
    client.send("TRACE /a HTTP/1.1\r\nHost: x\r\nMax-Forwards: 1\r\n\r\n");
    assert!(head(&mut client)[0].starts_with("HTTP/1.1 405 "));
    drop((client, upstream));
    expect_clean_end(server);
}
