//! Uploads to files: what is kept, what is removed, and what has no room.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use waterwheel::http::{self, Route, Router, Server, UploadOptions, Uploads};
use waterwheel::offload::{Offload, OffloadOptions};
use waterwheel::{ListenOptions, Reactor};

use crate::web::{Client, Web};

/// The time that the threads have to end, where nothing holds them up.
const PATIENCE: Duration = Duration::from_secs(5);

/// A directory that is removed.
struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Self {
        let name = format!("waterwheel-{name}-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        let _ = fs::remove_dir_all(&path);
        Self(path)
    }

    fn files(&self) -> usize {
        fs::read_dir(&self.0).map_or(0, Iterator::count)
    }

    /// Waits until there are so many files.
    #[track_caller]
    fn expect_files(&self, count: usize) {
        expect(|| self.files() == count, &format!("{count} files, not {}", self.files()));
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[track_caller]
fn expect(mut is_so: impl FnMut() -> bool, what: &str) {
    let end = Instant::now() + Duration::from_secs(10);
    while !is_so() {
        assert!(Instant::now() < end, "{what}");
        thread::sleep(Duration::from_millis(1));
    }
}

/// A server that keeps the files of the field `keep`, and tells the field, name and length of each.
fn server(path: &Path, options: UploadOptions) -> Web {
    server_with(path, options, OffloadOptions::default(), |_| ())
}

/// The same with other threads, which may have work before the first upload.
fn server_with(
    path: &Path,
    options: UploadOptions,
    threads: OffloadOptions,
    prepare: impl FnOnce(&Offload) + Send + 'static,
) -> Web {
    let path = path.to_owned();
    let listen = ListenOptions::default().limits(http::limits());
    Web::serve_in(listen, move |reactor| {
        let offload = Offload::new(reactor, threads).unwrap();
        prepare(&offload);
        let uploads = Uploads::open(path, &offload, options).unwrap();
        let (kept, served, used) = (uploads.clone(), uploads.clone(), uploads.clone());
        let upload = Route::new().post(move |(), req, res| {
            res.receive_files(req, &uploads, |(), received, res| {
                let mut text: String =
                    received.form.pairs().map(|(name, text)| format!("{name}={text}\n")).collect();
                for file in received.files {
                    let (field, length) = (file.field().to_owned(), file.length());
                    text += &format!("{field} {} {length} ", file.file_name());
                    text += &if field == "keep" { file.keep() } else { "-".to_owned() };
                    text += "\n";
                }
                res.text(&text);
            });
        });
        let file = Route::new()
            .get(move |(), req, res| res.attachment(&served, req.param("name"), "a \"b\".html"))
            .delete(move |(), req, res| {
                kept.remove(req.param("name"));
                res.status(204).empty();
            });
        let routes = Router::new().route("/", upload.max_body_bytes(64 << 20));
        let routes = routes.get("/used", move |(), _, res| res.text(&format!("{:?}", used.used())));
        Server::new((), routes.route("/file/{name}", file))
    })
}

fn field(name: &str, file: Option<&str>, data: &[u8]) -> Vec<u8> {
    let file = file.map(|file| format!("; filename=\"{file}\"")).unwrap_or_default();
    let head = format!("--B\r\nContent-Disposition: form-data; name=\"{name}\"{file}\r\n\r\n");
    [head.as_bytes(), data, b"\r\n"].concat()
}

fn request(fields: &[Vec<u8>]) -> Vec<u8> {
    let body = [&fields.concat()[..], b"--B--\r\n"].concat();
    let head = "POST / HTTP/1.1\r\nHost: x\r\nContent-Type: multipart/form-data; boundary=B\r\n";
    let head = format!("{head}Content-Length: {}\r\n\r\n", body.len());
    [head.as_bytes(), &body].concat()
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn files_are_written_kept_served_and_removed() {
    let directory = Directory::new("kept");
    let web = server(&directory.0, UploadOptions::default());
    let data: Vec<u8> = (0..3_000_000_u32).map(|at| (at % 251) as u8).collect();
    let fields = [
        field("title", None, "ü".as_bytes()),
        field("keep", Some("../../page.html"), &data),
        field("none", Some(""), b""),
        field("other", Some("x"), b""),
    ];
    let mut client = web.client();
    let answer = client.ask(request(&fields));
    let text = answer.text();
    let rest = text.strip_prefix("title=ü\nkeep page.html 3000000 ").expect(text);
    let name = rest.strip_suffix("\nother x 0 -\n").expect(text).to_owned();
    directory.expect_files(1);
    assert_eq!((mode(&directory.0), mode(&directory.0.join(&name))), (0o700, 0o600));
    assert!(fs::read(directory.0.join(&name)).unwrap() == data);
    let answer = client.get(&format!("/file/{name}"));
    assert_eq!((answer.status, answer.body == data), (200, true));
    assert_eq!(answer.field("x-content-type-options"), Some("nosniff"));
    assert_eq!(answer.field("content-type"), Some("application/octet-stream"));
    let disposition = "attachment; filename=\"a _b_.html\"; filename*=UTF-8''a%20%22b%22.html";
    assert_eq!(answer.field("content-disposition"), Some(disposition));
    fs::write(directory.0.join("other"), "no").unwrap();
    for other in ["other", "..%2fx", &"0".repeat(32), &name.to_uppercase()] {
        assert_eq!(client.get(&format!("/file/{other}")).status, 404, "{other}");
    }
    client.ask(format!("DELETE /file/{name} HTTP/1.1\r\nHost: x\r\n\r\n"));
    directory.expect_files(1);
    assert_eq!(client.get(&format!("/file/{name}")).status, 404);
}

/// Descriptors of this process that are open in a directory.
fn open_in(directory: &Path) -> usize {
    let links = fs::read_dir("/proc/self/fd").unwrap();
    let paths = links.filter_map(|link| fs::read_link(link.ok()?.path()).ok());
    paths.filter(|path| path.starts_with(directory)).count()
}

#[test]
#[cfg(target_os = "linux")]
fn a_client_that_goes_at_any_byte_leaves_no_file_and_no_descriptor() {
    let directory = Directory::new("gone");
    let web = server(&directory.0, UploadOptions::default());
    let whole = request(&[
        field("a", Some("a"), &[b'x'; 20]),
        field("title", None, b"t"),
        field("b", Some("b"), &[b'y'; 200_000]),
    ]);
    let steps = (0..600).chain((600..whole.len()).step_by(9_973));
    for end in steps.chain(whole.len() - 40..whole.len()) {
        let mut client = web.client();
        client.send(&whole[..end]);
        drop(client);
    }
    directory.expect_files(0);
    expect(|| web.client().get("/used").text() == "(0, 0)", "what is gone still counts");
    // And when it is all there, none is kept.
    web.client().ask(&whole).expect(200, "title=t\na a 20 -\nb b 200000 -\n");
    directory.expect_files(0);
    expect(|| open_in(&directory.0) == 0, "a descriptor is left");
    // A malformed end removes what came before it.
    let malformed = request(&[field("keep", Some("a"), b"x"), b"--B\r\nX\r\n\r\n\r\n".to_vec()]);
    assert_eq!(web.client().ask(&malformed).status, 400);
    directory.expect_files(0);
    // So does the end of the server.
    let mut client = web.client();
    client.send(&whole[..whole.len() - 10]);
    directory.expect_files(2);
    drop(web);
    directory.expect_files(0);
}

#[track_caller]
fn expect_status(client: &mut Client, fields: &[Vec<u8>], status: u16) {
    let answer = client.ask(request(fields));
    assert_eq!(answer.status, status, "{}", answer.text());
}

#[test]
fn a_quota_of_bytes_and_files_holds() {
    let directory = Directory::new("quota");
    fs::create_dir(&directory.0).unwrap();
    fs::write(directory.0.join("0"), "12345").unwrap();
    let options = UploadOptions::default().max_bytes(1_000).max_files(3).max_text_bytes(10);
    let web = server(&directory.0, options);
    let mut client = web.client();
    expect_status(&mut client, &[field("a", Some("a"), &[b'x'; 1_001])], 413);
    expect_status(&mut client, &[field("a", Some("a"), &[b'x'; 996])], 507);
    expect_status(&mut client, &[field("a", None, &[b'x'; 11])], 413);
    let small = || field("keep", Some("a"), b"x");
    expect_status(&mut client, &[small(), small(), small()], 507);
    expect_status(&mut client, &[field("a", None, b"\xff")], 400);
    // What was refused counts until it is removed, which comes soon.
    expect(|| web.client().get("/used").text() == "(1, 5)", "what was refused still counts");
    directory.expect_files(1);
    expect_status(&mut client, &[small(), field("keep", Some("a"), &[b'x'; 994])], 200);
    expect_status(&mut client, &[field("a", Some("a"), b"")], 507);
    directory.expect_files(3);
    client.get("/used").expect(200, "(3, 1000)");
}

#[test]
fn what_waits_to_be_written_is_bounded_and_all_of_it_arrives() {
    let directory = Directory::new("slow");
    let web = server(&directory.0, UploadOptions::default().max_queued_bytes(1));
    let data: Vec<u8> = (0..8_000_000_u32).map(|at| (at % 253) as u8).collect();
    let mut threads = Vec::new();
    for _ in 0..4 {
        let (addr, request) = (web.addr, request(&[field("keep", Some("a"), &data)]));
        threads.push(thread::spawn(move || Client::new(addr).ask(request)));
    }
    for thread in threads {
        let answer = thread.join().unwrap();
        let name = answer.text().trim().rsplit(' ').next().unwrap();
        assert!(fs::read(directory.0.join(name)).unwrap() == data);
    }
}

/// A file system of 1 MiB, if this user may mount one.
struct Small(PathBuf);

impl Small {
    fn mount(path: &Path) -> Option<Self> {
        fs::create_dir(path).unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=1m", "tmpfs"]).arg(path);
        let is_mounted = mount.output().is_ok_and(|output| output.status.success());
        is_mounted.then(|| Self(path.to_owned()))
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).output();
    }
}

#[test]
#[cfg(target_os = "linux")]
fn a_full_disk_is_answered_507_and_a_directory_that_is_gone_500() {
    let directory = Directory::new("full-disk");
    let web = server(&directory.0, UploadOptions::default());
    fs::remove_dir(&directory.0).unwrap();
    let mut client = web.client();
    expect_status(&mut client, &[field("a", Some("a"), b"x")], 500);
    drop(web);
    // Only root can mount; for others the way to 507 is the same as that to 500, but for the kind.
    let Some(_small) = Small::mount(&directory.0) else { return };
    let web = server(&directory.0, UploadOptions::default());
    let mut client = web.client();
    expect_status(&mut client, &[field("a", Some("a"), &[b'x'; 2 << 20])], 507);
    directory.expect_files(0);
    let mut client = web.client();
    expect_status(&mut client, &[field("a", Some("a"), &[b'x'; 500_000])], 200);
    directory.expect_files(0);
}

/// A server with room for one file. Its offload is full from `/fill` until the sender is dropped,
/// and only held up from `/fill?in_part`.
fn server_that_fills_up(directory: &Directory, drain: Duration) -> (Web, mpsc::Sender<()>) {
    let (open, gate) = mpsc::channel::<()>();
    let path = directory.0.clone();
    let listen = ListenOptions::default().limits(http::limits());
    let web = Web::serve_in(listen, move |reactor| {
        let options = OffloadOptions::default().threads(1).max_queued(1).drain_timeout(drain);
        let offload = Offload::new(reactor, options).unwrap();
        let uploads = Uploads::open(path, &offload, UploadOptions::default().max_files(1)).unwrap();
        let used = uploads.clone();
        let mut gate = Some(gate);
        let upload = Route::new().post(move |(), req, res| {
            res.receive_files(req, &uploads, |(), _, res| res.text("came\n"));
        });
        let routes = Router::new().route("/", upload).get("/fill", move |(), req, res| {
            let gate = gate.take().unwrap();
            let (begun, has_begun) = mpsc::channel();
            let work = move |(): &mut ()| {
                begun.send(()).unwrap();
                assert!(gate.recv().is_err());
            };
            while offload.stats().queued + offload.stats().running > 0 {
                thread::yield_now(); // an upload's own
            }
            offload.run_alone((), work).unwrap();
            has_begun.recv().unwrap();
            while req.query() != Some("in_part") && offload.run_alone((), |()| ()).is_ok() {}
            res.text("full");
        });
        Server::new(
            (),
            routes.get("/used", move |(), _, res| res.text(&format!("{:?}", used.used()))),
        )
    });
    (web, open)
}

/// Its answer is one that a client understands, nothing is left over, and later uploads go on.
#[test]
fn an_offload_that_is_full_is_answered_with_503() {
    let directory = Directory::new("full-offload");
    let (web, open) = server_that_fills_up(&directory, PATIENCE);
    let upload = || request(&[field("keep", Some("x"), b"some data")]);
    web.client().get("/fill").expect(200, "full");
    for _ in 0..3 {
        assert_eq!(web.client().ask(upload()).status, 503);
        web.client().get("/used").expect(200, "(0, 0)");
    }
    drop(open);
    expect(|| web.client().ask(upload()).status == 200, "an upload that is taken");
    expect(|| web.client().get("/used").text() == "(0, 0)", "nothing that counts");
    directory.expect_files(0);
}

/// Nothing of an upload that has broken off is left, although no other one comes.
#[test]
fn the_file_of_a_client_that_goes_is_removed_though_the_offload_is_full() {
    let directory = Directory::new("gone-while-full");
    let (web, open) = server_that_fills_up(&directory, PATIENCE);
    let whole = request(&[field("keep", Some("x"), b"some data")]);
    let mut client = web.client();
    client.send(&whole[..whole.len() - 10]);
    directory.expect_files(1);
    let mut other = web.client();
    other.get("/fill").expect(200, "full");
    drop(client);
    other.get("/used"); // by now the end was seen
    drop(open);
    expect(|| other.get("/used").text() == "(0, 0)", "nothing that counts");
    directory.expect_files(0);
}

/// The threads may be held up by other work when the reactor ends.
#[test]
fn a_reactor_that_ends_before_what_waits_is_written_leaves_no_file() {
    let directory = Directory::new("ends-early");
    let whole = request(&[field("keep", Some("x"), b"some data")]);
    for (fill, sent, then_sent) in [
        ("/fill", whole.len() - 10, whole.len() - 10), // its removal waits
        ("/fill?in_part", whole.len() - 15, whole.len() - 10), // and bytes of it
        ("/fill?in_part", whole.len() - 15, whole.len()), // and its end
        ("/fill?in_part", 0, whole.len()),             // and its beginning
    ] {
        let (web, open) = server_that_fills_up(&directory, Duration::from_millis(1));
        let mut client = web.client();
        client.send(&whole[..sent]);
        directory.expect_files(usize::from(sent > 0));
        web.client().get(fill).expect(200, "full");
        client.send(&whole[sent..then_sent]);
        web.client().get("/used"); // by now it was read
        drop(web);
        assert_eq!(directory.files(), 0, "{fill} {sent} {then_sent}");
        drop(open);
    }
}

/// What is there and cannot be read is no page that a cache may take for missing.
#[test]
fn a_file_that_cannot_be_opened_is_no_missing_one() {
    let directory = Directory::new("unreadable");
    let web = server(&directory.0, UploadOptions::default());
    let name = "0123456789abcdef".repeat(2);
    // A link that leads to itself.
    std::os::unix::fs::symlink(&name, directory.0.join(&name)).unwrap();
    let mut client = web.client();
    assert_eq!(client.get(&format!("/file/{name}")).status, 500);
    assert_eq!(client.get(&format!("/file/{}", "0".repeat(32))).status, 404);
}

/// Two reactors that each open the directory have its room once, and count what the other removes.
#[test]
fn a_directory_that_is_opened_twice_counts_once() {
    let directory = Directory::new("twice");
    let options = || UploadOptions::default().max_files(2);
    let webs = [server(&directory.0, options()), server(&directory.0, options())];
    let mut clients = [webs[0].client(), webs[1].client()];
    let keep = request(&[field("keep", Some("x"), b"12345")]);
    let mut names = Vec::new();
    for client in &mut clients {
        let answer = client.ask(&keep);
        let name = answer.text().trim_end().rsplit_once(' ').expect("a name").1.to_owned();
        names.push(name);
    }
    for client in &mut clients {
        assert_eq!(client.get("/used").text(), "(2, 10)");
        assert_eq!(client.ask(&keep).status, 507);
    }
    let mut clients = [webs[0].client(), webs[1].client()];
    // Both remove the same one.
    for client in &mut clients {
        client.ask(format!("DELETE /file/{} HTTP/1.1\r\nHost: x\r\n\r\n", names[0]));
    }
    directory.expect_files(1);
    expect(|| clients[0].get("/used").text() == "(1, 5)", "one that is left counts");
    assert_eq!(clients[1].ask(&keep).status, 200);
}

/// Or the quota would be that much larger.
#[test]
fn a_file_that_is_removed_by_its_name_and_dropped_is_taken_off_once() {
    let directory = Directory::new("once");
    let path = directory.0.clone();
    let listen = ListenOptions::default().limits(http::limits());
    let web = Web::serve_in(listen, move |reactor| {
        let offload = Offload::new(reactor, OffloadOptions::default()).unwrap();
        let uploads = Uploads::open(path, &offload, UploadOptions::default()).unwrap();
        let used = uploads.clone();
        let upload = Route::new().post(move |(), req, res| {
            let from = uploads.clone();
            res.receive_files(req, &uploads, move |(), received, res| {
                for file in received.files {
                    match file.field() {
                        "keep" => drop(file.keep()),
                        "both" => {
                            from.remove(file.name());
                            from.remove(&file.keep());
                        }
                        _ => from.remove(file.name()),
                    }
                }
                res.text("done");
            });
        });
        let routes = Router::new().route("/", upload);
        let routes = routes.get("/used", move |(), _, res| res.text(&format!("{:?}", used.used())));
        Server::new((), routes)
    });
    let mut client = web.client();
    for fields in [
        vec![field("keep", Some("a"), b"12345"), field("drop", Some("b"), b"1")],
        vec![field("drop", Some("c"), b"1"), field("both", Some("d"), b"1")],
        vec![field("keep", Some("e"), b"12345")], // those before are done with then
    ] {
        expect_status(&mut client, &fields, 200);
    }
    client.get("/used").expect(200, "(2, 10)");
    directory.expect_files(2);
}

/// Two loops that take uploads for one directory at the same time keep no file too many.
#[test]
fn uploads_to_two_reactors_at_once_keep_within_one_quota() {
    const MAX_FILES: u64 = 8;
    let directory = Directory::new("at-once");
    let options = || UploadOptions::default().max_files(MAX_FILES);
    let webs = [server(&directory.0, options()), server(&directory.0, options())];
    let keep = request(&[field("keep", Some("x"), &[b'x'; 1_000])]);
    let mut threads = Vec::new();
    for web in webs.iter().cycle().take(6) {
        let (addr, keep) = (web.addr, keep.clone());
        threads.push(thread::spawn(move || {
            let ask = || Client::new(addr).ask(&keep).status;
            (0..MAX_FILES).map(|_| ask()).collect::<Vec<_>>()
        }));
    }
    let statuses: Vec<u16> = threads.into_iter().flat_map(|it| it.join().unwrap()).collect();
    assert!(statuses.iter().all(|status| [200, 507].contains(status)), "{statuses:?}");
    let kept = statuses.iter().filter(|status| **status == 200).count();
    assert_eq!(kept, MAX_FILES as usize);
    directory.expect_files(kept);
    for web in &webs {
        web.client().get("/used").expect(200, "(8, 8000)");
    }
}

/// The bytes that wait are each reactor's own: a body that is paused goes on when they are written.
#[test]
fn a_reactor_whose_files_are_not_written_holds_up_no_upload_of_another() {
    let directory = Directory::new("held-up");
    let options = || UploadOptions::default().max_queued_bytes(1);
    let (open, gate) = mpsc::channel::<()>();
    let one = OffloadOptions::default().threads(1);
    let held = server_with(&directory.0, options(), one, move |offload| {
        offload.run_alone((), move |()| assert!(gate.recv().is_err())).unwrap();
    });
    let upload = |length| request(&[field("keep", Some("x"), &vec![b'x'; length])]);
    let mut waiting = held.client();
    waiting.send(upload(150_000));
    let has_begun = || !held.client().get("/used").text().ends_with(" 0)");
    expect(has_begun, "bytes that wait to be written");
    let web = server(&directory.0, options());
    assert_eq!(web.client().ask(upload(1_000_000)).status, 200);
    drop(open);
    assert_eq!(waiting.answer().status, 200);
    directory.expect_files(2);
    web.client().get("/used").expect(200, "(2, 1150000)");
}

/// What another process or an earlier run removes meanwhile does not count, and is no failure.
#[test]
fn a_directory_is_opened_while_files_in_it_are_removed() {
    const FILES: u64 = 2_000;
    let mut reactor = Reactor::new().unwrap();
    let offload = Offload::new(&mut reactor, OffloadOptions::default()).unwrap();
    let has_raced = (0..50).any(|round| {
        let directory = Directory::new(&format!("raced-{round}"));
        fs::create_dir(&directory.0).unwrap();
        let paths: Vec<_> = (0..FILES).map(|at| directory.0.join(at.to_string())).collect();
        paths.iter().for_each(|path| fs::write(path, b"x").unwrap());
        let remover = thread::spawn(move || {
            paths.iter().for_each(|path| fs::remove_file(path).unwrap());
        });
        let uploads = Uploads::open(&directory.0, &offload, UploadOptions::default()).unwrap();
        remover.join().unwrap();
        let (files, bytes) = uploads.used();
        assert_eq!(files, bytes);
        (1..FILES).contains(&files)
    });
    assert!(has_raced, "no file was removed while the directory was opened");
}

#[test]
fn an_error_of_open_names_the_directory() {
    let directory = Directory::new("uploads-unopened");
    let mut reactor = Reactor::new().unwrap();
    let offload = Offload::new(&mut reactor, OffloadOptions::default().threads(1)).unwrap();
    let open = |path: &Path| {
        let error = Uploads::open(path, &offload, UploadOptions::default()).unwrap_err();
        let text = error.to_string();
        assert!(text.contains(&path.display().to_string()), "{text}");
        (error.kind(), text)
    };
    let (kind, text) = open(&directory.0.join("missing/uploads"));
    assert_eq!(kind, ErrorKind::NotFound);
    assert!(text.ends_with("; the directory above it must be there"), "{text}");
    fs::create_dir(&directory.0).unwrap();
    let file = directory.0.join("file");
    fs::write(&file, "").unwrap();
    let (kind, text) = open(&file);
    assert_eq!(kind, ErrorKind::AlreadyExists);
    assert!(text.ends_with("; it is no directory"), "{text}");
}
