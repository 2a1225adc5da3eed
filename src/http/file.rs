//! Answers whose body is a file.

use std::fs::File;
use std::io;
use std::ops::{Range, RangeBounds};
use std::sync::Arc;

use super::exchange::Output;
use super::fields;
#[cfg(feature = "http-files")]
use super::head::Version;
use super::method::Method;
use super::respond::{self, MAX_DIGITS, digits, note, write_head};
use super::response::Response;
use super::status::is_without_body;
use crate::sys::{range_of, read_of};

/// A part of a file up to this size is read, and leaves in one piece with the head: that saves the
/// call of sendfile. From there on copying the bytes costs the kernel more than that call does.
pub(super) const MAX_READ_BYTES: u64 = 16 << 10;

/// The body of an answer.
pub(super) enum Source<'a> {
    Bytes(&'a [u8]),
    /// A part of a file that is known to be one, and to have this part.
    File(&'a Arc<File>, Range<u64>),
}

impl Source<'_> {
    fn length(&self) -> u64 {
        match self {
            Source::Bytes(bytes) => bytes.len() as u64,
            Source::File(_, range) => range.end - range.start,
        }
    }
}

impl<A: 'static> Response<'_, A> {
    /// Answers with a part of a file; its length stands in the head. Up to 16 KiB are read and sent
    /// together with the head. More is sent as [`Conn::send_file`](crate::Conn::send_file) does,
    /// which costs no memory. If the file has become shorter, the connection is reset, so that the
    /// client does not take the part for the whole.
    ///
    /// The status is 200 unless another one was set. The caller must handle conditions and ranges
    /// of the request; `Files`, of the feature `http-files`, does so.
    ///
    /// # Examples
    /// ```
    /// use std::fs::File;
    /// use waterwheel::http::Router;
    /// let routes: Router<()> = Router::new().get("/report", |_, _, res| {
    ///     let sent = File::open("report.pdf")
    ///         .and_then(|file| res.file("application/pdf", file, ..));
    ///     if let Err(error) = sent {
    ///         res.status(404).text(&format!("there is no report: {error}\n"));
    ///     }
    /// });
    /// # let _ = routes;
    /// ```
    ///
    /// # Errors
    /// Nothing is answered then, and another answer can be given:
    /// - `InvalidInput`: the range runs backwards or goes past the end of the file, or it is no
    ///   file, or was opened for writing only.
    /// - The system's, if the file cannot be read.
    pub fn file(
        &mut self,
        media_type: &str,
        file: impl Into<Arc<File>>,
        range: impl RangeBounds<u64>,
    ) -> io::Result<()> {
        let file = file.into();
        let range = range_of(&file, range)?;
        let length = range.end - range.start;
        let is_head = self.exchange.method == Method::Head;
        let bytes = match length <= MAX_READ_BYTES && !is_head {
            true => Some(read(&file, range.clone())?),
            false => None,
        };
        if let Err(error) = fields::check("Content-Type", media_type.as_bytes()) {
            self.fail(format_args!("{error}"));
        }
        if !self.is_unanswered() {
            self.refuse_second();
        } else if self.exchange.is_failed {
            respond::fail(self);
        } else if is_without_body(self.exchange.status) {
            self.empty();
        } else {
            let mut room = [0; MAX_DIGITS];
            let length = digits(length, 10, &mut room);
            let media_type = media_type.as_bytes();
            let (before, behind): (&[u8], &[u8]) = match media_type {
                [] => (b"", b"Content-Length: "),
                _ => (b"Content-Type: ", b"\r\nContent-Length: "),
            };
            let own = [before, media_type, behind];
            let tail = [length, b"\r\n\r\n"].concat();
            match &bytes {
                Some(bytes) => send(self, &own, &tail, Source::Bytes(bytes)),
                None => send(self, &own, &tail, Source::File(&file, range)),
            }
        }
        Ok(())
    }
}

/// Writes an answer with these fields, the end of the head, and this body. The length is among the
/// fields.
pub(super) fn send<A: 'static>(
    res: &mut Response<'_, A>,
    own: &[&[u8]; 3],
    tail: &[u8],
    body: Source<'_>,
) {
    let exchange = &mut *res.exchange;
    exchange.keep_alive = exchange.can_keep_alive();
    exchange.output = Output::Done;
    let status = exchange.status;
    if exchange.method == Method::Head || is_without_body(status) || status == 304 {
        return write_head(res, own, tail, b"");
    }
    exchange.sent_bytes = body.length();
    match body {
        Source::Bytes(bytes) => write_head(res, own, tail, bytes),
        Source::File(file, range) => {
            write_head(res, own, tail, b"");
            send_behind(res, file, range);
        }
    }
}

/// Writes the most usual answer: 200, with these fields and the end of the head.
#[cfg(feature = "http-files")]
#[inline]
pub(super) fn send_whole<A: 'static>(res: &mut Response<'_, A>, fields: &[u8], body: Source<'_>) {
    let exchange = &mut *res.exchange;
    exchange.status = 200;
    let is_usual = exchange.method != Method::Head
        && exchange.version == Version::Http11
        && exchange.can_keep_alive();
    if !is_usual {
        return send(res, &[b"", b"", b""], fields, body);
    }
    exchange.output = Output::Done;
    exchange.sent_bytes = body.length();
    res.shared.stats.count(200);
    let cx = res.conn.context();
    let head = res.shared.date.with_ok(cx.now(), || cx.system_time());
    let bytes = match body {
        Source::Bytes(bytes) => bytes,
        Source::File(..) => b"",
    };
    let written = res.conn.write_vectored(&[head, &res.shared.fields, fields, bytes]);
    res.shared.fields.clear();
    note(res, written);
    if let Source::File(file, range) = body {
        send_behind(res, file, range);
    }
}

/// Queues a part of a file behind the head.
fn send_behind<A: 'static>(res: &mut Response<'_, A>, file: &Arc<File>, range: Range<u64>) {
    let written = res.conn.send_checked_file(Arc::clone(file), range);
    note(res, written);
}

/// Reads a part of a file.
pub(super) fn read(file: &File, range: Range<u64>) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; (range.end - range.start) as usize];
    let mut at = 0;
    while at < bytes.len() {
        match read_of(file, &mut bytes[at..], range.start + at as u64)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            count => at += count,
        }
    }
    Ok(bytes)
}
