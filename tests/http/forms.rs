//! Forms: those that are one text, and those in parts.

use std::sync::mpsc;

use waterwheel::http::{Flow, Multipart, Part, Response, Route, Router, Server};

use crate::web::{Answer, Web};

/// Says what came, a line for each call: names, sizes and text of the parts.
#[derive(Default)]
struct Tell {
    text: String,
    data: Vec<u8>,
}

impl<A: 'static> Multipart<A> for Tell {
    fn on_part(&mut self, _: &mut A, part: &Part<'_>, _: &mut Response<'_, A>) -> Flow {
        assert!(self.data.is_empty());
        self.text +=
            &format!("{:?} {:?} {:?}:", part.name(), part.file_name(), part.content_type());
        Flow::More
    }

    fn on_part_data(&mut self, _: &mut A, data: &[u8], _: &mut Response<'_, A>) -> Flow {
        assert!(!data.is_empty());
        self.data.extend_from_slice(data);
        Flow::More
    }

    fn on_part_end(&mut self, _: &mut A, _: &mut Response<'_, A>) -> Flow {
        self.text += &format!(" {:?}\n", String::from_utf8_lossy(&self.data));
        self.data.clear();
        Flow::More
    }

    fn on_end(&mut self, _: &mut A, res: &mut Response<'_, A>) {
        res.text(&self.text);
    }
}

/// A server that says what parts came.
fn teller() -> Web {
    Web::of(|| {
        let tell = Route::new().post(|(), req, res| res.receive_multipart(req, Tell::default()));
        Router::new().route("/", tell.max_body_bytes(16 << 20)).post("/form", |(), req, res| {
            res.form(req, 64 << 10, |(), form, res| {
                let pairs: Vec<_> = form.pairs().map(|(k, v)| format!("{k}={v}")).collect();
                res.text(&pairs.join(";"));
            });
        })
    })
}

fn request(path: &str, media_type: &str, body: impl AsRef<[u8]>) -> Vec<u8> {
    let (body, length) = (body.as_ref(), body.as_ref().len());
    let head = format!("POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: {media_type}\r\n");
    let mut bytes = format!("{head}Content-Length: {length}\r\n\r\n").into_bytes();
    bytes.extend_from_slice(body);
    bytes
}

#[track_caller]
fn send(web: &Web, body: impl AsRef<[u8]>) -> Answer {
    web.client().ask(request("/", "multipart/form-data; boundary=B", body))
}

/// A body of one part with these fields in its header.
fn part(fields: &str) -> String {
    format!("--B\r\n{fields}\r\n\r\nx\r\n--B--\r\n")
}

const NAMED: &str = "Content-Disposition: form-data; name=\"a\"";

#[test]
fn a_form_of_one_text_is_read_whole_and_by_its_type() {
    let web = teller();
    let mut client = web.client();
    let mut ask = |media_type: &str, body: &str| client.ask(request("/form", media_type, body));
    let form = "application/x-www-form-urlencoded";
    ask(form, "a=1&b=%C3%BC+%2B&a=2").expect(200, "a=1;b=ü +;a=2");
    ask("Application/X-WWW-Form-Urlencoded; charset=UTF-8", "").expect(200, "");
    assert_eq!(ask("text/plain", "a=1").status, 415);
    assert_eq!(ask("multipart/form-data; boundary=B", "a=1").status, 415);
    assert_eq!(ask(form, &"a".repeat((64 << 10) + 1)).status, 413);
}

#[test]
fn row_54_a_form_over_its_pairs_or_with_bad_escapes_is_answered_400() {
    let web = teller();
    let mut client = web.client();
    let form = "application/x-www-form-urlencoded";
    for body in ["a=%", "a=%2", "a=%g0", "%zz=1", "a=%ff", "a=%C3%28", &"a=1&".repeat(1_001)] {
        let answer = client.ask(request("/form", form, body));
        assert_eq!(answer.status, 400, "{body}");
        // What was malformed is the form and not the message: the connection goes on.
        assert_eq!(answer.field("connection"), None);
    }
    assert_eq!(client.ask(request("/form", form, "a=1&".repeat(1_000))).status, 200);
}

#[test]
fn a_form_in_parts_is_told_part_by_part() {
    let web = teller();
    let body = "ignored\r\n--B  \r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n1\r\n--B\r\n\
        content-disposition: Form-Data; filename=\"x.txt\"; name=f\r\nContent-Type: text/plain\r\n\
        X-Other: 1\r\n\r\n\r\nline\r\n--Bno delimiter\r\n--B\r\n\
        Content-Disposition: form-data; name=\"e\"\r\n\r\n\r\n--B--ignored\r\n--B\r\n";
    let told = "\"a\" None None: \"1\"\n\
        \"f\" Some(\"x.txt\") Some(\"text/plain\"): \"\\r\\nline\\r\\n--Bno delimiter\"\n\
        \"e\" None None: \"\"\n";
    send(&web, body).expect(200, told);
    send(&web, "--B--").expect(200, "");
    let quoted = "multipart/form-data; charset=utf-8; BOUNDARY=\"B\"";
    web.client().ask(request("/", quoted, body)).expect(200, told);
}

#[test]
fn a_body_in_parts_is_the_same_at_every_split() {
    let web = teller();
    let body = "pre\r\n--B\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n\r\r\n\r\n-\r\n--\
        \r\n--A\r\n--B-\r\n--B \r-\r\n--B\r\nContent-Disposition: form-data; name=\"b\"\r\n\r\n\
        \r\n--B\t\r\nContent-Disposition: form-data; name=\"c\"\r\n\r\nend\r\n\r\n--B--\r\n";
    let told = "\"a\" None None: \"\\r\\r\\n\\r\\n-\\r\\n--\\r\\n--A\\r\\n--B-\\r\\n--B \\r-\"\n\
        \"b\" None None: \"\"\n\"c\" None None: \"end\\r\\n\"\n";
    let head = "POST / HTTP/1.1\r\nHost: x\r\nContent-Type: multipart/form-data; boundary=B\r\n\
        Transfer-Encoding: chunked\r\n\r\n";
    // Each chunk is handed on by itself.
    let chunked = |pieces: &[&str]| {
        let mut request = head.to_owned();
        for piece in pieces.iter().filter(|piece| !piece.is_empty()) {
            request += &format!("{:x}\r\n{piece}\r\n", piece.len());
        }
        request + "0\r\n\r\n"
    };
    let mut client = web.client();
    for first in 0..=body.len() {
        for second in [first, (first + 1).min(body.len()), (first + 7).min(body.len())] {
            let pieces = [&body[..first], &body[first..second], &body[second..]];
            client.ask(chunked(&pieces)).expect(200, told);
        }
    }
    let bytes: Vec<_> = (0..body.len()).map(|at| &body[at..=at]).collect();
    client.ask(chunked(&bytes)).expect(200, told);
}

#[test]
fn row_53_a_boundary_that_is_missing_or_too_long_is_answered_400() {
    let web = teller();
    let mut client = web.client();
    let longest = "b".repeat(70);
    for (parameters, status) in [
        ("", 400),
        ("; boundary=", 400),
        ("; boundary=\"\"", 400),
        ("; boundary=\"b \"", 400),
        ("; boundary=b\u{e4}", 400),
        (&format!("; boundary={longest}b"), 400),
        (&format!("; boundary={longest}"), 200),
    ] {
        let media_type = format!("multipart/form-data{parameters}");
        let answer = client.ask(request("/", &media_type, format!("--{longest}--")));
        assert_eq!(answer.status, status, "{parameters}");
    }
    assert_eq!(client.ask(request("/", "multipart/mixed; boundary=B", "--B--")).status, 415);
}

#[test]
fn row_53_too_many_parts_and_too_large_headers_are_answered_413() {
    let web = teller();
    let many = |count: usize| {
        let part = format!("--B\r\n{NAMED}\r\n\r\nx\r\n");
        part.repeat(count) + "--B--"
    };
    assert_eq!(send(&web, many(128)).status, 200);
    assert_eq!(send(&web, many(129)).status, 413);
    let room = (8 << 10) - NAMED.len() - "\r\nX: \r\n\r\n".len();
    let filled = |count| part(&format!("{NAMED}\r\nX: {}", "x".repeat(count)));
    assert_eq!(send(&web, filled(room)).status, 200);
    assert_eq!(send(&web, filled(room + 1)).status, 413);
    // One without an end is refused when it is too large, and not kept until it ends.
    let endless = format!("--B\r\n{}", "x".repeat(100_000));
    assert_eq!(send(&web, endless).status, 413);
    let lines = format!("--B\r\n{}", "X: y\r\n".repeat(100_000));
    assert_eq!(send(&web, lines).status, 413);
}

#[test]
fn row_53_the_name_of_a_file_is_data_and_never_a_path() {
    let web = teller();
    for (sent, told) in [
        ("/etc/passwd", "passwd"),
        ("../../x", "x"),
        (r"C:\\dir\\x.txt", "x.txt"),
        (r"C:\dir\x.txt", "x.txt"),
        ("..", ".."),
        ("dir/", ""),
        ("", ""),
        ("a%22b", "a\\\"b"),
        (r#"a\"b"#, "a\\\"b"),
        ("%2e%2e%2fx", "%2e%2e%2fx"),
        ("ü;x", "ü;x"),
    ] {
        let fields = format!("{NAMED}; filename=\"{sent}\"");
        send(&web, part(&fields)).expect(200, &format!("\"a\" Some(\"{told}\") None: \"x\"\n"));
    }
    let star = format!("{NAMED}; filename*=utf-8''..%2fx; filename=\"x\"");
    assert_eq!(send(&web, part(&star)).status, 400);
}

#[test]
fn row_53_parts_within_parts_and_encoded_parts_are_answered_400() {
    let web = teller();
    for field in [
        "Content-Type: multipart/mixed; boundary=C",
        "Content-Type: Multipart/Form-Data",
        "Content-Transfer-Encoding: base64",
        "Content-Transfer-Encoding: quoted-printable",
        "Content-Transfer-Encoding: 8bit\r\nContent-Transfer-Encoding: 8bit",
        "Content-Type: text/plain\r\nContent-Type: text/html",
        NAMED,
        "X : y",
        "X: a\r\n b",
        "X",
        "X: a\nY: b",
    ] {
        assert_eq!(send(&web, part(&format!("{NAMED}\r\n{field}"))).status, 400, "{field}");
    }
    for field in [
        "X: y",
        "Content-Disposition: form-data",
        "Content-Disposition: attachment; name=\"a\"",
        "Content-Disposition: form-data; name=\"a",
        "Content-Disposition: form-data; name",
        "Content-Disposition:",
    ] {
        assert_eq!(send(&web, part(field)).status, 400, "{field}");
    }
    let latin = [&b"--B\r\nContent-Disposition: form-data; name=\"\xe4\"\r\n\r\nx\r\n--B--"[..]];
    assert_eq!(send(&web, latin.concat()).status, 400);
    assert_eq!(
        send(&web, part(&format!("{NAMED}\r\nContent-Transfer-Encoding: 8bit"))).status,
        200
    );
}

#[test]
fn row_53_a_body_in_parts_that_is_cut_is_answered_400() {
    let web = teller();
    let whole = part(NAMED);
    let last = whole.find("--B--").unwrap() + 4;
    assert_eq!(send(&web, whole.replacen("--B", "--C", 1)).status, 400);
    for end in 0..=last {
        assert_eq!(send(&web, &whole[..end]).status, 400, "{:?}", &whole[..end]);
    }
    assert_eq!(send(&web, &whole[..=last]).status, 200);
}

/// Tells a thread what it was called with, and pauses at each piece.
struct Watch(mpsc::Sender<String>);

impl Multipart<()> for Watch {
    fn on_part(&mut self, (): &mut (), part: &Part<'_>, res: &mut Response<'_, ()>) -> Flow {
        if part.name() == "stop" {
            res.status(403).text("no");
        }
        self.0.send(part.name().to_owned()).unwrap();
        Flow::More
    }

    fn on_part_data(&mut self, (): &mut (), data: &[u8], _: &mut Response<'_, ()>) -> Flow {
        self.0.send(data.len().to_string()).unwrap();
        Flow::Pause
    }

    fn on_end(&mut self, (): &mut (), res: &mut Response<'_, ()>) {
        self.0.send("end".to_owned()).unwrap();
        res.text("end");
    }

    fn on_gone(&mut self, (): &mut ()) {
        self.0.send("gone".to_owned()).unwrap();
    }
}

fn watched() -> (Web, mpsc::Receiver<String>) {
    let (sender, receiver) = mpsc::channel();
    let web = Web::serve(move || {
        let watch = Route::new().post(move |(), req, res| {
            res.later();
            res.receive_multipart(req, Watch(sender.clone()));
        });
        Server::new((), Router::new().route("/", watch.max_body_bytes(1 << 30)))
    });
    (web, receiver)
}

#[test]
fn a_pause_holds_the_sender_and_an_answer_ends_the_receiving() {
    let (web, calls) = watched();
    let mut client = web.client();
    let body = format!("--B\r\n{NAMED}\r\n\r\n{}", "x".repeat(64 << 20));
    let body = request("/", "multipart/form-data; boundary=B", body);
    client.stream.set_nonblocking(true).unwrap();
    let mut sent = 0;
    while let Ok(count) = std::io::Write::write(&mut client.stream, &body[sent..]) {
        sent += count;
        std::thread::yield_now();
    }
    assert!(sent < body.len(), "the sender is not held");
    drop(web);
    let calls: Vec<_> = calls.iter().collect();
    let (first, last) = (calls.first().map(String::as_str), calls.last().map(String::as_str));
    assert_eq!((first, last, calls.len()), (Some("a"), Some("gone"), 3));

    let (web, calls) = watched();
    let stop = part("Content-Disposition: form-data; name=stop");
    let mut client = web.client();
    let answer = client.ask(request("/", "multipart/form-data; boundary=B", &stop));
    answer.expect(403, "no");
    client.expect_alive();
    drop(web);
    assert_eq!(calls.iter().collect::<Vec<_>>(), ["stop"]);
}

#[test]
fn a_malformed_part_is_told_once() {
    let (web, calls) = watched();
    let body = format!("--B\r\n{NAMED}\r\n\r\n\r\n--B\r\nmalformed\r\n\r\nmore\r\n--B--\r\n");
    let mut client = web.client();
    let answer = client.ask(request("/", "multipart/form-data; boundary=B", body));
    assert_eq!(answer.status, 400);
    client.expect_alive();
    drop(web);
    assert_eq!(calls.iter().collect::<Vec<_>>(), ["a", "gone"]);
}
