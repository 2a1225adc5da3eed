//! Row 52: no path leads out of the directory, nor to what is not served.

use std::fs;

use crate::files::Dir;

const SECRET: &str = "secret";

/// A directory with an outside, of which nothing may be seen.
fn site() -> (Dir, Dir) {
    let (dir, outside) = (Dir::new(), Dir::new());
    outside.write("passwd", SECRET);
    dir.write("a/b/c.txt", "c");
    dir.write("index.html", "root");
    dir.write(".hidden", SECRET);
    dir.write(".git/config", SECRET);
    dir.write("a/.env", SECRET);
    (dir, outside)
}

#[test]
fn row_52_names_that_are_not_served() {
    let (dir, _outside) = site();
    if cfg!(unix) {
        for name in ["con", "aux.js", "nul.txt", "a:b", "a\\b", "x.", "y ", "%2Fz"] {
            dir.write(name, SECRET);
        }
    }
    let web = dir.serve(|files| files);
    let mut client = web.client();
    for path in [
        "/s/.hidden",
        "/s/%2ehidden",
        "/s/.git/config",
        "/s/a/.env",
        "/s/.git/",
        "/s/.git",
        "/s/con",
        "/s/CON",
        "/s/aux.js",
        "/s/nul.txt",
        "/s/Lpt1.x",
        "/s/com%c2%b9",
        "/s/a%3ab",
        "/s/a:b",
        "/s/c:/",
        "/s/c:%5c",
        "/s/a%5cb",
        "/s/a%5Cb",
        "/s/..%5cpasswd",
        "/s/x.",
        "/s/x%2e",
        "/s/y%20",
        "/s/index.html.",
        "/s/index.html%20",
        "/s/index.html::$DATA",
        "/s/a%2fb%2fc.txt",
        "/s/a%2Fb/c.txt",
        "/s/%252Fz",
        "/s/a/b%2f..%2fb%2fc.txt",
        "/s/..%2fpasswd",
        "/s/%2e%2e%2fpasswd",
        "/s/..%252fpasswd",
        "/s/a//b/c.txt",
        "/s//etc/passwd",
        "/s/a/b/c.txt/",
        "/s/a/b/c.txt/x",
        "/s/...",
        "/s/....//",
        "/s/a/%0a",
        "/s/%7f",
        "/s/%c2%85",
    ] {
        let answer = client.get(path);
        assert_eq!(answer.status, 404, "{path}: {}", answer.head);
        assert!(!answer.text().contains(SECRET), "{path}");
    }
    client.get("/s/a/./b/../b/c.txt").expect(200, "c");
    client.get("/s/a/b/%63.txt").expect(200, "c");
    // What is no path at all is refused before any route.
    for path in
        ["/s/%00", "/s/index.html%00", "/s/%c0%ae%c0%ae/passwd", "/s/%c0%afpasswd", "/s/%ff"]
    {
        assert_eq!(web.client().get(path).status, 400, "{path}");
    }
}

#[test]
fn row_52_hidden_files_are_an_option() {
    let (dir, _outside) = site();
    let web = dir.serve(|files| files.hidden_files(true));
    let mut client = web.client();
    client.get("/s/.hidden").expect(200, SECRET);
    client.get("/s/a/.env").expect(200, SECRET);
    assert_eq!(client.get("/s/...").status, 404);
}

#[cfg(unix)]
mod links {
    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixListener;
    use std::process::Command;

    use super::*;
    use crate::files::ask;
    use crate::web::Web;

    fn link_all(dir: &Dir, outside: &Dir) {
        let at = |name: &str| dir.path().join(name);
        symlink(outside.path(), at("out")).unwrap();
        symlink(outside.path().join("passwd"), at("out.txt")).unwrap();
        symlink("../../../../../../../../etc/passwd", at("etc")).unwrap();
        symlink("a/b/c.txt", at("in.html")).unwrap();
        symlink("a/b", at("inner")).unwrap();
        symlink("loop", at("loop")).unwrap();
        symlink("nowhere", at("dangling")).unwrap();
        symlink(".", at("self")).unwrap();
        symlink("../b/c.txt", at("a/b/up.txt")).unwrap();
    }

    #[test]
    fn row_52_links_are_not_followed() {
        let (dir, outside) = site();
        link_all(&dir, &outside);
        let web = dir.serve(|files| files);
        let mut client = web.client();
        for name in [
            "out",
            "out/",
            "out/passwd",
            "out.txt",
            "etc",
            "in.html",
            "inner/c.txt",
            "inner/",
            "inner",
            "loop",
            "loop/x",
            "dangling",
            "self/index.html",
            "self/",
            "a/b/up.txt",
        ] {
            let answer = client.get(&format!("/s/{name}"));
            assert_eq!(answer.status, 404, "{name}: {}", answer.head);
        }
    }

    #[test]
    fn row_52_links_are_an_option_and_lead_nowhere_else() {
        let (dir, outside) = site();
        link_all(&dir, &outside);
        let web = dir.serve(|files| files.symlinks(true));
        let mut client = web.client();
        let answer = client.get("/s/in.html").expect(200, "c");
        assert_eq!(answer.field("content-type"), Some("text/html; charset=utf-8"));
        client.get("/s/inner/c.txt").expect(200, "c");
        client.get("/s/self/self/index.html").expect(200, "root");
        client.get("/s/a/b/up.txt").expect(200, "c");
        client.get("/s/self/").expect(200, "root");
        assert_eq!(client.get("/s/inner").status, 301);
        for name in ["out", "out/", "out/passwd", "out.txt", "etc", "loop", "dangling"] {
            let answer = client.get(&format!("/s/{name}"));
            assert_eq!(answer.status, 404, "{name}: {}", answer.head);
        }
    }

    #[test]
    fn row_52_a_link_beside_a_file_is_no_compressed_copy() {
        let (dir, outside) = site();
        symlink(outside.path().join("passwd"), dir.path().join("index.html.gz")).unwrap();
        let web = dir.serve(|files| files);
        let fields = "Accept-Encoding: gzip\r\n";
        ask(&mut web.client(), "GET", "/s/index.html", fields).expect(200, "root");
    }

    #[test]
    fn row_52_pipes_sockets_and_devices_do_not_hold_up_the_loop() {
        let (dir, _outside) = site();
        let pipe = dir.path().join("pipe");
        assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        let _socket = UnixListener::bind(dir.path().join("socket")).unwrap();
        symlink("/dev/zero", dir.path().join("zero")).unwrap();
        symlink(&pipe, dir.path().join("to-pipe")).unwrap();
        for symlinks in [false, true] {
            let web = dir.serve(move |files| files.symlinks(symlinks));
            let mut client = web.client();
            for name in ["pipe", "socket", "zero", "to-pipe", "pipe/", "pipe/x"] {
                assert_eq!(client.get(&format!("/s/{name}")).status, 404, "{name}");
            }
        }
        let web = Web::of(|| {
            let files = waterwheel::http::Files::new("/dev");
            waterwheel::http::Router::new().files("/s", files)
        });
        let mut client = web.client();
        for name in ["null", "zero", "tty", "fd/0", "stdin"] {
            assert_eq!(client.get(&format!("/s/{name}")).status, 404, "{name}");
        }
    }

    #[test]
    fn row_52_what_may_not_be_read_is_not_there() {
        use std::os::unix::fs::PermissionsExt;
        let (dir, _outside) = site();
        dir.write("locked", SECRET);
        let path = dir.path().join("locked");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o000)).unwrap();
        if fs::File::open(&path).is_ok() {
            return; // root may read it
        }
        let web = dir.serve(|files| files);
        assert_eq!(web.client().get("/s/locked").status, 404);
    }
}

/// Every way to write each step that has ever led somewhere, in every combination of three.
#[test]
fn row_52_no_combination_of_steps_leads_outside() {
    let steps = [
        "..",
        ".",
        "%2e%2e",
        "%2e.",
        ".%2E",
        "%252e%252e",
        "..%2f",
        "%2e%2e%2f",
        "..%5c",
        "..\\",
        "..%255c",
        "..%c0%af",
        "..%c1%9c",
        "%c0%ae%c0%ae",
        "..%00",
        "....//",
        "..;",
        "a",
        "a/b",
        "",
        "%2f",
        "c:",
        "~",
        "..%u2215",
        "%uff0e%uff0e",
        "..%ef%bc%8f",
    ];
    let ends =
        ["passwd", "out/passwd", "%2e%2e%2fpasswd", ".hidden", "etc/passwd", "etc/passwd%00.txt"];
    let (dir, outside) = site();
    // The secret stands where `..` of the root would find it.
    fs::write(dir.path().parent().unwrap().join("passwd"), SECRET).unwrap();
    #[cfg(unix)]
    std::os::unix::fs::symlink(outside.path(), dir.path().join("out")).unwrap();
    let _ = &outside;
    let web = dir.serve(|files| files);
    let mut client = web.client();
    let mut count = 0;
    for first in steps {
        for second in steps {
            for third in steps {
                let end = ends[count % ends.len()];
                count += 1;
                let path = format!("/s/{first}/{second}/{third}/{end}");
                client.send(format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n"));
                let answer = client.answer();
                assert!([301, 400, 404].contains(&answer.status), "{path}: {}", answer.status);
                assert!(!answer.text().contains(SECRET), "{path}");
                if answer.field("connection") == Some("close") {
                    client = web.client();
                }
            }
        }
    }
}
