//! Forms that are sent in parts (`multipart/form-data`), as those with files are.

use super::parts::{PartReader, Piece};
use crate::http::body::{Body, Flow};
use crate::http::exchange::Output;
use crate::http::fields::trim;
use crate::http::refusal::Refusal;
use crate::http::request::Request;
use crate::http::response::Response;

/// The header of a part of a form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part<'a> {
    name: &'a str,
    file_name: Option<&'a str>,
    content_type: Option<&'a str>,
}

impl<'a> Part<'a> {
    pub(super) fn new(
        name: &'a str,
        file_name: Option<&'a str>,
        content_type: Option<&'a str>,
    ) -> Self {
        Self { name, file_name, content_type }
    }

    /// The name of the field.
    #[must_use]
    pub fn name(&self) -> &'a str {
        self.name
    }

    /// The name that a file has at the client, if the part is a file. Of a path only the part
    /// behind the last `/` or `\` is returned.
    ///
    /// A stranger chooses the name: it may be empty, `..`, or have control characters. Only show
    /// it; never use it in a path.
    #[must_use]
    pub fn file_name(&self) -> Option<&'a str> {
        self.file_name.map(|name| name.rsplit(['/', '\\']).next().unwrap_or_default())
    }

    /// The media type of the data, as the client reports it.
    #[must_use]
    pub fn content_type(&self) -> Option<&'a str> {
        self.content_type
    }
}

/// Takes a form in parts, as it comes in; see [`Response::receive_multipart`].
///
/// The calls of a part are `on_part`, `on_part_data` any number of times, and `on_part_end`. An
/// answer that is given in one of them ends the receiving: none is called again.
///
/// [`Flow::Pause`] stops reading. Pieces that have come in already, at most 132 KiB, still follow.
/// [`Response::resume`] goes on.
///
/// # Examples
/// ```
/// use waterwheel::http::{Flow, Multipart, Part, Response};
///
/// /// Says how large each part is.
/// #[derive(Default)]
/// struct Sizes { text: String, bytes: u64 }
///
/// impl<A: 'static> Multipart<A> for Sizes {
///     fn on_part(&mut self, _: &mut A, part: &Part<'_>, _: &mut Response<'_, A>) -> Flow {
///         self.text += part.name();
///         self.bytes = 0;
///         Flow::More
///     }
///
///     fn on_part_data(&mut self, _: &mut A, data: &[u8], _: &mut Response<'_, A>) -> Flow {
///         self.bytes += data.len() as u64;
///         Flow::More
///     }
///
///     fn on_part_end(&mut self, _: &mut A, _: &mut Response<'_, A>) -> Flow {
///         self.text += &format!(": {} bytes\n", self.bytes);
///         Flow::More
///     }
///
///     fn on_end(&mut self, _: &mut A, res: &mut Response<'_, A>) {
///         res.text(&self.text);
///     }
/// }
/// ```
pub trait Multipart<A>: 'static {
    /// A part begins.
    fn on_part(&mut self, app: &mut A, part: &Part<'_>, res: &mut Response<'_, A>) -> Flow;

    /// A piece of the part, never empty.
    fn on_part_data(&mut self, app: &mut A, data: &[u8], res: &mut Response<'_, A>) -> Flow;

    /// The part is complete. Default: more.
    fn on_part_end(&mut self, app: &mut A, res: &mut Response<'_, A>) -> Flow {
        let _ = (app, res);
        Flow::More
    }

    /// The body is complete. Gives the answer, or asks to give it later.
    fn on_end(&mut self, app: &mut A, res: &mut Response<'_, A>);

    /// The connection ended before the body was complete, or the body was malformed, too large or
    /// too slow. Nothing follows. Default: nothing.
    fn on_gone(&mut self, app: &mut A) {
        let _ = app;
    }
}

impl<A: 'static> Response<'_, A> {
    /// Asks for the body, which is a form in parts, and which `multipart` gets piece by piece as it
    /// comes in. A client that waits for a 100 gets it now.
    ///
    /// | the request | answer |
    /// |---|---|
    /// | is not `multipart/form-data` | 415 |
    /// | has no boundary, or one of more than 70 characters | 400 |
    /// | is larger than the limit of the route | 413 |
    /// | has more than 128 parts, or a part whose header has more than 8,192 bytes | 413 |
    /// | has a part without a name, with parts of its own, encoded, or with `filename*` | 400 |
    /// | has a header with bare line ends, or that is not UTF-8 | 400 |
    /// | ends before the last delimiter, or has text and no part | 400 |
    ///
    /// # Examples
    /// See [`Multipart`]. A route for it:
    /// ```
    /// # use waterwheel::http::{Flow, Multipart, Part, Response};
    /// use waterwheel::http::{Route, Router};
    /// # struct Sizes;
    /// # impl<A: 'static> Multipart<A> for Sizes {
    /// #     fn on_part(&mut self, _: &mut A, _: &Part<'_>, _: &mut Response<'_, A>) -> Flow {
    /// #         Flow::More
    /// #     }
    /// #     fn on_part_data(&mut self, _: &mut A, _: &[u8], _: &mut Response<'_, A>) -> Flow {
    /// #         Flow::More
    /// #     }
    /// #     fn on_end(&mut self, _: &mut A, _: &mut Response<'_, A>) {}
    /// # }
    /// let upload = Route::new().post(|_, req, res| res.receive_multipart(req, Sizes));
    /// let routes: Router<()> = Router::new().route("/upload", upload.max_body_bytes(1 << 30));
    /// # let _ = routes;
    /// ```
    pub fn receive_multipart(&mut self, req: &Request<'_>, multipart: impl Multipart<A>) {
        if !media_type(req).eq_ignore_ascii_case(b"multipart/form-data") {
            let why = "the body shall be of the type multipart/form-data";
            return refuse(self, Refusal::new(415, why));
        }
        match PartReader::new(req.header_bytes("content-type").unwrap_or_default()) {
            Ok(reader) => self.receive(Receiver { reader, multipart, is_over: false }),
            Err(refusal) => refuse(self, refusal),
        }
    }
}

/// A body that is cut into parts.
struct Receiver<M> {
    reader: PartReader,
    multipart: M,
    /// Whether the program has been told that the body is gone.
    is_over: bool,
}

impl<M> Receiver<M> {
    /// The body is malformed.
    #[cold]
    fn give_up<A: 'static>(&mut self, app: &mut A, refusal: Refusal, res: &mut Response<'_, A>)
    where
        M: Multipart<A>,
    {
        self.is_over = true;
        self.multipart.on_gone(app);
        if res.is_unanswered() {
            refuse(res, refusal);
        } else {
            res.conn.abort(); // the answer that has begun cannot be finished
        }
    }
}

impl<A: 'static, M: Multipart<A>> Body<A> for Receiver<M> {
    fn on_chunk(&mut self, app: &mut A, chunk: &[u8], res: &mut Response<'_, A>) -> Flow {
        if self.is_over {
            return Flow::More;
        }
        let mut flow = Flow::More;
        let multipart = &mut self.multipart;
        let fed = self.reader.feed(chunk, &mut |piece| {
            let wanted = match piece {
                Piece::Part(part) => multipart.on_part(app, part, res),
                Piece::Data(data) => multipart.on_part_data(app, data, res),
                Piece::End => multipart.on_part_end(app, res),
            };
            if wanted == Flow::Pause {
                flow = Flow::Pause;
            }
            res.exchange.output != Output::Done
        });
        if let Err(refusal) = fed {
            self.give_up(app, refusal, res);
        }
        flow
    }

    fn on_end(&mut self, app: &mut A, res: &mut Response<'_, A>) {
        if self.reader.is_finished() {
            self.multipart.on_end(app, res);
        } else if !self.is_over {
            let why = "the multipart body ends before its last delimiter";
            self.give_up(app, Refusal::bad(why), res);
        }
    }

    fn on_gone(&mut self, app: &mut A) {
        if !self.is_over {
            self.multipart.on_gone(app);
        }
    }
}

/// The media type of the body of a request, without parameters.
pub(super) fn media_type<'a>(req: &Request<'a>) -> &'a [u8] {
    let value = req.header_bytes("content-type").unwrap_or_default();
    trim(value.split(|&byte| byte == b';').next().unwrap_or_default())
}

/// Answers a request whose body cannot be taken. What a handler has set for its own answer is left
/// out.
#[cold]
pub(super) fn refuse<A: 'static>(res: &mut Response<'_, A>, refusal: Refusal) {
    res.shared.fields.clear();
    log::debug!("{}: {} {}", res.id(), refusal.status, refusal.why);
    res.status(refusal.status).text(&format!("{}\n", refusal.why));
}
