//! The head of an answer.

/// What the head says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) status: u16,
    pub(crate) framing: Framing,
    /// The server ends the connection behind the answer.
    pub(crate) is_last: bool,
}

/// How the end of the body is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    /// By its length; there is none where that is 0.
    Length(u64),
    Chunked,
    /// By the end of the connection.
    UntilEnd,
}

/// Fields of a head at the most.
const MOST_FIELDS: usize = 100;

/// Parses the head at the front of the input: what it says and its length, or `None` if more of it
/// is to come. Nothing that two readers could understand differently is accepted.
pub(crate) fn parse(
    input: &[u8],
    is_answer_to_head: bool,
) -> Result<Option<(Head, usize)>, String> {
    let mut fields = [httparse::EMPTY_HEADER; MOST_FIELDS];
    let mut answer = httparse::Response::new(&mut fields);
    let length = match answer.parse(input) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(error) => return Err(format!("its head: {error}")),
    };
    let status = answer.code.unwrap_or_default();
    let is_old = answer.version == Some(0);
    let said = Said::of(answer.headers)?;
    let has_no_body = is_answer_to_head || matches!(status, 100..200 | 204 | 304);
    let framing = match (said.is_chunked, said.length) {
        (true, Some(_)) => return Err("it has a length and chunks".to_owned()),
        (true, None) if is_old => return Err("it has chunks in HTTP/1.0".to_owned()),
        _ if has_no_body => Framing::Length(0),
        (true, None) => Framing::Chunked,
        (false, Some(length)) => Framing::Length(length),
        (false, None) => Framing::UntilEnd,
    };
    let goes_on = !said.closes && (!is_old || said.keeps);
    let is_last = framing == Framing::UntilEnd || !goes_on;
    Ok(Some((Head { status, framing, is_last }, length)))
}

/// What the fields say that matter here.
#[derive(Default)]
struct Said {
    length: Option<u64>,
    is_chunked: bool,
    closes: bool,
    keeps: bool,
}

impl Said {
    fn of(fields: &[httparse::Header<'_>]) -> Result<Self, String> {
        let mut said = Self::default();
        for field in fields {
            let is = |name: &str| field.name.eq_ignore_ascii_case(name);
            if is("content-length") {
                let length = length(field.value).filter(|_| said.length.is_none());
                said.length = Some(length.ok_or("its Content-Length is not one number")?);
            } else if is("transfer-encoding") {
                if said.is_chunked || !field.value.eq_ignore_ascii_case(b"chunked") {
                    return Err("its Transfer-Encoding is not chunked alone".to_owned());
                }
                said.is_chunked = true;
            } else if is("connection") {
                for word in field.value.split(|byte| *byte == b',') {
                    let word = word.trim_ascii();
                    said.closes |= word.eq_ignore_ascii_case(b"close");
                    said.keeps |= word.eq_ignore_ascii_case(b"keep-alive");
                }
            }
        }
        Ok(said)
    }
}

/// A number without a sign.
fn length(value: &[u8]) -> Option<u64> {
    let is_number = (1..=18).contains(&value.len()) && value.iter().all(u8::is_ascii_digit);
    std::str::from_utf8(value).ok().filter(|_| is_number)?.parse().ok()
}
