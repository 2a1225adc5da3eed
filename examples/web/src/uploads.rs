//! `/upload`: a page with a form that shows how far it is, and files written beside the loop.

use std::fmt::Write as _;
use std::io;
use std::path::Path;

use waterwheel::Reactor;
use waterwheel::http::{Received, Response, Route, Router, UploadOptions, Uploads};
use waterwheel::offload::{Offload, OffloadOptions};

use crate::html::CONTENT_POLICY;

/// The largest body of an upload, in bytes.
const MAX_UPLOAD: u64 = 1 << 30;

pub(crate) fn mount(
    reactor: &mut Reactor,
    directory: &Path,
    routes: Router<()>,
) -> io::Result<Router<()>> {
    let options = OffloadOptions::default().threads(2).name("uploads");
    let offload = Offload::new(reactor, options)?;
    let options = UploadOptions::default().max_bytes(4 << 30).max_files(1_000);
    let uploads = Uploads::open(directory, &offload, options)?;
    let from = uploads.clone();
    let upload = Route::new()
        .get(|(), _, res| res.header("Content-Security-Policy", CONTENT_POLICY).html(PAGE))
        .post(move |(), req, res| res.receive_files(req, &uploads, keep));
    Ok(routes.route("/upload", upload.max_body_bytes(MAX_UPLOAD)).get(
        "/upload/{name}",
        move |(), req, res| {
            let name = req.param("name");
            res.attachment(&from, name, name);
        },
    ))
}

/// Keeps what came with a form.
fn keep((): &mut (), received: Received, res: &mut Response<'_, ()>) {
    let mut text = String::new();
    for file in received.files {
        let bytes = file.length();
        let _ = writeln!(text, "{bytes} bytes: /upload/{}", file.keep());
    }
    res.text(&text);
}

const PAGE: &str = r#"<!doctype html><html lang=en><meta charset=utf-8><title>Upload</title>
<meta name=viewport content="width=device-width"><link rel=icon href="data:,">
<style>body { font: 16px/1.5 system-ui, sans-serif; max-width: 40rem; margin: 2rem auto }
progress { width: 100% }</style>
<h1>Upload</h1>
<form method=post action=/upload enctype=multipart/form-data>
<label>Files <input type=file name=file multiple required></label> <button>Upload</button>
</form>
<progress value=0 max=1 hidden></progress>
<pre role=status></pre>
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
