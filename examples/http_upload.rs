//! Uploads of files: a page with a form that shows how far they are, and a list of what came.
//! Files are written beside the loop, and served as attachments that no browser runs.
//!
//! ```text
//! cargo run --features http-forms --example http_upload -- 127.0.0.1:8080 /tmp/uploads
//! curl -F note=hello -F file=@README.md http://127.0.0.1:8080/upload
//! ```

use std::env;
use std::fmt::Write as _;
use std::io::{self, Write as _};

use waterwheel::http::{self, Received, Response, Route, Router, UploadOptions, Uploads};
use waterwheel::offload::{Offload, OffloadOptions};
use waterwheel::{ListenOptions, Reactor};

/// The largest body of an upload, in bytes.
const MAX_UPLOAD: u64 = 1 << 30;

/// What came, since the program was started.
#[derive(Default)]
struct Came {
    files: Vec<Kept>,
}

struct Kept {
    /// In the directory.
    name: String,
    /// At the client.
    file_name: String,
    note: String,
    bytes: u64,
}

fn main() -> io::Result<()> {
    env_logger::init();
    let mut args = env::args().skip(1);
    let addr = args.next().unwrap_or_else(|| "127.0.0.1:8080".to_owned());
    let directory = args.next().unwrap_or_else(|| "uploads".to_owned());
    let options = UploadOptions::default().max_bytes(4 << 30).max_files(1_000);
    let mut reactor = Reactor::new()?;
    let offload = Offload::new(&mut reactor, OffloadOptions::default().threads(1).name("uploads"))?;
    let uploads = Uploads::open(directory, &offload, options)?;
    let web = reactor.register(http::Server::new(Came::default(), routes(&uploads)));
    let addr = reactor.listen(&*addr, web, ListenOptions::default().limits(http::limits()))?;
    let _ = writeln!(io::stdout(), "listening on {addr}");
    reactor.run()
}

fn routes(uploads: &Uploads) -> Router<Came> {
    let (to, from) = (uploads.clone(), uploads.clone());
    let upload = Route::new().post(move |_, req, res| {
        // The answer comes when all is written. A client that leaves before leaves no file.
        res.receive_files(req, &to, keep);
    });
    Router::new()
        .get("/", |came: &mut Came, _, res| {
            res.header("Content-Security-Policy", CONTENT_POLICY).html(&page(came));
        })
        .route("/upload", upload.max_body_bytes(MAX_UPLOAD))
        .get("/file/{name}", move |came: &mut Came, req, res| {
            match came.files.iter().find(|kept| kept.name == req.param("name")) {
                Some(kept) => res.attachment(&from, &kept.name, &kept.file_name),
                None => res.status(404).text("there is no such file\n"),
            }
        })
}

/// Keeps what came with a form.
fn keep(came: &mut Came, received: Received, res: &mut Response<'_, Came>) {
    let note = received.form.get("note").unwrap_or_default();
    let mut text = String::new();
    for file in received.files {
        let (file_name, bytes) = (file.file_name().to_owned(), file.length());
        let name = file.keep();
        let _ = writeln!(text, "{bytes} bytes: /file/{name}");
        came.files.push(Kept { name, file_name, note: note.to_owned(), bytes });
    }
    res.text(&text);
}

/// Only the script and the style of this page.
const CONTENT_POLICY: &str = "default-src 'self'; img-src data:; \
    script-src 'unsafe-inline'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'";

fn page(came: &Came) -> String {
    let mut rows = String::new();
    for Kept { name, file_name, note, bytes } in &came.files {
        let (file_name, note) = (escape(file_name), escape(note));
        let _ = write!(rows, "<tr><td><a href=\"/file/{name}\">{file_name}</a>");
        let _ = writeln!(rows, "<td class=number>{bytes}<td>{note}");
    }
    PAGE.replace("ROWS", &rows)
}

/// What a stranger wrote is text, and never a part of the page.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            _ => escaped.push(c),
        }
    }
    escaped
}

const PAGE: &str = r#"<!doctype html><html lang=en><meta charset=utf-8><title>Uploads</title>
<meta name=viewport content="width=device-width"><link rel=icon href="data:,">
<style>
body { font: 16px/1.5 system-ui, sans-serif; max-width: 40rem; margin: 2rem auto; padding: 0 1rem }
label { display: block; margin: .5rem 0 } progress { width: 100% } .number { text-align: right }
table { border-collapse: collapse; width: 100%; margin-top: 2rem }
th, td { padding: .3rem .6rem; border-bottom: 1px solid #ccc; text-align: left }
</style>
<h1>Uploads</h1>
<form method=post action=/upload enctype=multipart/form-data>
<label>Files <input type=file name=file multiple required></label>
<label>Note <input name=note maxlength=200></label>
<button>Upload</button>
</form>
<progress value=0 max=1 hidden></progress>
<p role=status></p>
<table><thead><tr><th>File<th class=number>Bytes<th>Note<tbody>
ROWS</table>
<script>
const form = document.querySelector("form"), bar = document.querySelector("progress");
const says = document.querySelector("[role=status]"), button = document.querySelector("button");
form.addEventListener("submit", event => {
  event.preventDefault();
  const request = new XMLHttpRequest();
  request.upload.onprogress = ({ loaded, total }) => {
    bar.value = loaded / total;
    says.textContent = `${loaded} of ${total} bytes`;
  };
  request.onload = () => {
    if (request.status == 200) return location.reload();
    says.textContent = `${request.status}: ${request.responseText}`;
    button.disabled = false;
  };
  request.onerror = () => {
    says.textContent = "The connection was lost.";
    button.disabled = false;
  };
  bar.hidden = false;
  button.disabled = true;
  request.open("POST", form.action);
  request.send(new FormData(form));
});
</script>
</html>
"#;
