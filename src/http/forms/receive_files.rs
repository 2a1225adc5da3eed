//! From a form in parts to files, and from a file to an answer.

use std::fs::File;
use std::io;
use std::sync::{Arc, Mutex};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::form::Form;
use super::multipart::{Multipart, Part, refuse};
use super::upload_writer::{Call, Job, OnError};
use super::uploads::{UploadedFile, Uploads};
use crate::handler::{HandlerKey, Remote};
use crate::http::body::Flow;
use crate::http::exchange::ReplyId;
use crate::http::refusal::Refusal;
use crate::http::request::Request;
use crate::http::response::Response;
use crate::http::server::Server;
use crate::sys::Shortage;

/// What a multipart form contained.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Received {
    /// The fields of the form that are no files.
    pub form: Form,
    /// The files, in the order of the form. Each is removed when it is dropped, unless it was
    /// [kept](UploadedFile::keep).
    pub files: Vec<UploadedFile>,
}

/// What is called when all is written.
type Then<A> = Box<dyn FnOnce(&mut A, Received, &mut Response<'_, A>) + Send>;

impl<A: 'static> Response<'_, A> {
    /// Asks for the body, which is a multipart form, and writes its files to the directory of
    /// `uploads`, on the threads of its offload. Calls `then` on the loop when all files are
    /// written. `then` passes through the thread that writes, and so must be `Send`.
    ///
    /// Reading pauses while more than [`max_queued_bytes`] wait to be written. If the
    /// client goes, or the body is refused, the files written so far are removed. If no file was
    /// chosen in the page, the browser sends one without name and data; it is left out.
    ///
    /// Besides the answers of [`receive_multipart`](Self::receive_multipart):
    ///
    /// | why the form is refused | answer |
    /// |---|---|
    /// | a file is larger than `max_bytes`, or the form has more files than `max_files` | 413 |
    /// | the texts are longer than `max_text_bytes` | 413 |
    /// | a text is not UTF-8 | 400 |
    /// | `max_files` or `max_bytes` of the directory is reached, or the disk is full | 507 |
    /// | a file cannot be written | 500 |
    /// | the offload is full | 503 |
    ///
    /// # Examples
    /// See [`Uploads`].
    ///
    /// [`max_queued_bytes`]: crate::http::UploadOptions::max_queued_bytes
    pub fn receive_files(
        &mut self,
        req: &Request<'_>,
        uploads: &Uploads,
        then: impl FnOnce(&mut A, Received, &mut Response<'_, A>) + Send + 'static,
    ) {
        let way = Way { id: self.later(), key: self.server(), remote: self.context().remote() };
        let told = way.clone();
        let on_error: Box<dyn FnOnce(&io::Error) + Send> =
            Box::new(move |error| told.refuse(error));
        let files = Files {
            uploads: uploads.clone(),
            then: Some(Box::new(then)),
            received: Received::default(),
            current: Current::None,
            text_bytes: 0,
            way,
            on_error: Arc::new(Mutex::new(Some(on_error))),
        };
        self.receive_multipart(req, files);
    }

    /// Answers with a file that was uploaded and kept, by its [name](UploadedFile::name). Browsers
    /// save it as `file_name` and never show it, because a file of a stranger must not run as a
    /// page of this site. The answer is 404 if there is no such file, 503 if no descriptor is left
    /// or the offload is full, and 500 if the file cannot be read.
    pub fn attachment(&mut self, uploads: &Uploads, name: &str, file_name: &str) {
        let Some(path) = uploads.path_of(name) else {
            return self.status(404).text("there is no such file\n");
        };
        let disposition = disposition(file_name);
        let way = Way { id: self.later(), key: self.server(), remote: self.context().remote() };
        let then = Box::new(move |opened| {
            way.answer(move |_, res| send_attachment(res, opened, &disposition));
        });
        if let Err(refusal) = uploads.ask(Job::Open { path, then }) {
            refuse(self, refusal);
        }
    }
}

/// How an exchange is reached from another thread.
struct Way<A> {
    id: ReplyId,
    key: HandlerKey<Server<A>>,
    remote: Remote,
}

impl<A> Clone for Way<A> {
    fn clone(&self) -> Self {
        Self { id: self.id, key: self.key, remote: self.remote.clone() }
    }
}

impl<A: 'static> Way<A> {
    fn answer(self, call: impl FnOnce(&mut A, &mut Response<'_, A>) + Send + 'static) {
        let id = self.id;
        // A reactor that has stopped has no use for answers.
        let _ = self.remote.with(self.key, move |server, cx| {
            server.answer(cx, id, call);
        });
    }

    /// A file could not be written.
    fn refuse(self, error: &io::Error) {
        let is_full =
            matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
        log::error!("{}: an upload could not be written: {error}", self.id);
        self.answer(move |_, res| {
            res.resume();
            refuse(
                res,
                if is_full {
                    Refusal::new(507, "the disk of the server is full")
                } else {
                    Refusal::new(500, "the file could not be written")
                },
            );
        });
    }

    fn resume(self) -> Call {
        Box::new(move || self.answer(|_, res| res.resume()))
    }
}

/// The part that comes in.
enum Current {
    None,
    /// A field that is no file.
    Text(String, Vec<u8>),
    /// A file without a name, and without data so far.
    Nameless {
        field: String,
        content_type: Option<String>,
    },
    File(UploadedFile),
}

/// A form in parts on its way to files.
struct Files<A> {
    uploads: Uploads,
    then: Option<Then<A>>,
    received: Received,
    current: Current,
    text_bytes: usize,
    way: Way<A>,
    on_error: OnError,
}

impl<A: 'static> Files<A> {
    fn begin(&mut self, part: &Part<'_>) -> Result<(), Refusal> {
        let field = part.name().to_owned();
        let content_type = part.content_type().map(str::to_owned);
        self.current = match part.file_name() {
            None => Current::Text(field, Vec::new()),
            Some("") => Current::Nameless { field, content_type },
            Some(name) => self.file(field, name.to_owned(), content_type)?,
        };
        Ok(())
    }

    fn file(
        &self,
        field: String,
        file_name: String,
        content_type: Option<String>,
    ) -> Result<Current, Refusal> {
        if self.received.files.len() as u64 >= self.uploads.options().max_files {
            return Err(Refusal::new(413, "these are more files than the server keeps"));
        }
        let claim = self.uploads.create(&self.on_error)?;
        Ok(Current::File(UploadedFile { claim, field, file_name, content_type }))
    }

    fn take(&mut self, data: &[u8]) -> Result<Flow, Refusal> {
        if let Current::Nameless { field, content_type } = &mut self.current {
            let (field, content_type) = (std::mem::take(field), content_type.take());
            self.current = self.file(field, String::new(), content_type)?;
        }
        match &mut self.current {
            Current::Text(_, text) => {
                self.text_bytes += data.len();
                if self.text_bytes > self.uploads.options().max_text_bytes {
                    return Err(Refusal::new(413, "the texts of the form are too long"));
                }
                text.extend_from_slice(data);
                Ok(Flow::More)
            }
            Current::File(file) => {
                let way = &self.way;
                file.claim.write(data, || way.clone().resume())
            }
            Current::None | Current::Nameless { .. } => Ok(Flow::More),
        }
    }

    fn end(&mut self) -> Result<(), Refusal> {
        match std::mem::replace(&mut self.current, Current::None) {
            Current::Text(name, text) => {
                let Ok(text) = String::from_utf8(text) else {
                    return Err(Refusal::bad("a field of the form is not UTF-8"));
                };
                self.received.form.push(name, text);
            }
            Current::File(file) => {
                file.claim.close();
                self.received.files.push(file);
            }
            Current::None | Current::Nameless { .. } => {}
        }
        Ok(())
    }
}

/// Goes on, or refuses the body.
fn go_on<A: 'static>(result: Result<Flow, Refusal>, res: &mut Response<'_, A>) -> Flow {
    result.unwrap_or_else(|refusal| {
        refuse(res, refusal);
        Flow::More
    })
}

impl<A: 'static> Multipart<A> for Files<A> {
    fn on_part(&mut self, _: &mut A, part: &Part<'_>, res: &mut Response<'_, A>) -> Flow {
        go_on(self.begin(part).map(|()| Flow::More), res)
    }

    fn on_part_data(&mut self, _: &mut A, data: &[u8], res: &mut Response<'_, A>) -> Flow {
        go_on(self.take(data), res)
    }

    fn on_part_end(&mut self, _: &mut A, res: &mut Response<'_, A>) -> Flow {
        go_on(self.end().map(|()| Flow::More), res)
    }

    fn on_end(&mut self, _: &mut A, res: &mut Response<'_, A>) {
        let Some(then) = self.then.take() else { return };
        let (way, received) = (self.way.clone(), std::mem::take(&mut self.received));
        let say = Box::new(move || way.answer(move |app, res| then(app, received, res)));
        if let Err(refusal) = self.uploads.ask(Job::Say(say)) {
            refuse(res, refusal);
        }
    }
}

/// The value of `Content-Disposition` (RFC 6266): in ASCII, and as it is.
fn disposition(file_name: &str) -> String {
    const KEPT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_');
    let is_plain = |c: char| c.is_ascii_alphanumeric() || " -._".contains(c);
    let plain: String = file_name.chars().map(|c| if is_plain(c) { c } else { '_' }).collect();
    let encoded = utf8_percent_encode(file_name, KEPT);
    format!("attachment; filename=\"{plain}\"; filename*=UTF-8''{encoded}")
}

fn send_attachment<A: 'static>(
    res: &mut Response<'_, A>,
    opened: io::Result<File>,
    disposition: &str,
) {
    let sent = opened.and_then(|file| {
        res.header("Content-Disposition", disposition).header("X-Content-Type-Options", "nosniff");
        res.file("application/octet-stream", file, ..)
    });
    let Err(error) = sent else { return };
    if error.kind() == io::ErrorKind::NotFound {
        return refuse(res, Refusal::new(404, "there is no such file"));
    }
    log::error!("{}: an uploaded file cannot be sent: {error}", res.id());
    let is_shortage = Shortage::of(&error) == Shortage::Descriptors;
    refuse(
        res,
        if is_shortage {
            Refusal::new(503, "too many files are open; try again")
        } else {
            Refusal::new(500, "the file cannot be read")
        },
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_an_attachment_cannot_leave_its_field() {
        let value = disposition("a\"; x=\r\n\u{fc}.html");
        let encoded = "a%22%3B%20x%3D%0D%0A%C3%BC.html";
        let plain = "attachment; filename=\"a__ x____.html\"";
        assert_eq!(value, format!("{plain}; filename*=UTF-8''{encoded}"));
    }
}
