//! The page for uploads, and what becomes of them.

use std::fs;

use crate::peers::Dir;
use crate::process::Process;
use crate::servers::{Client, expect_clean_end};
use crate::{WEB, answer, exchange};

#[test]
fn an_upload_is_kept_and_served_as_an_attachment() {
    let dir = Dir::new();
    let folder = dir.path("uploads");
    let (server, addr) = Process::serve(WEB, &["--uploads", folder.to_str().unwrap()]);
    let mut client = Client::connect(addr);
    let page = exchange(&mut client, "GET", "/upload", b"");
    assert!(page.status == 200 && page.body.starts_with(b"<!doctype html>"), "{page:?}");
    let data = "<script>alert(1)</script>".repeat(10_000);
    let head = "--B\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.html\"\r\n\r\n";
    let body = format!("{head}{data}\r\n--B--\r\n");
    let (length, kind) = (body.len(), "multipart/form-data; boundary=B");
    client.send("POST /upload HTTP/1.1\r\nHost: a\r\n");
    client.send(format!("Content-Type: {kind}\r\nContent-Length: {length}\r\n\r\n{body}"));
    let told = answer(&mut client);
    assert_eq!(told.status, 200, "{told:?}");
    let text = String::from_utf8(told.body).unwrap();
    let target = text.trim_end().strip_prefix("250000 bytes: ").expect(&text);
    let file = exchange(&mut client, "GET", target, b"");
    file.expect(200, &data);
    assert!(file.has("x-content-type-options: nosniff"), "{file:?}");
    assert!(file.fields.iter().any(|line| line.starts_with("content-disposition: attachment")));
    assert_eq!(fs::read_dir(folder).unwrap().count(), 1);
    drop(client);
    expect_clean_end(server);
}
