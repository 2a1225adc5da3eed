//! What is known of a file: its bytes or the open file, and the fields that describe it.

use std::fs::File;
use std::io;
use std::sync::Arc;
use std::time::SystemTime;

use super::coding::{CODINGS, Coding};
use super::conditions::Facts;
use crate::http::date::http_date;
use crate::http::file::{MAX_READ_BYTES, Source, read};
use crate::sys::file_id;

/// How often a file is read that changes while it is read.
const READ_TRIES: usize = 3;

/// What tells one state of a file from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    pub(super) length: u64,
    pub(super) modified: SystemTime,
    id: u64,
}

impl Stamp {
    /// The stamp of an open file; an error if it is none, but a directory or a device.
    fn of(file: &File) -> io::Result<Self> {
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(io::ErrorKind::NotFound.into());
        }
        let (length, modified) = (metadata.len(), metadata.modified()?);
        Ok(Self { length, modified, id: file_id(&metadata) })
    }
}

/// Where the bytes of a file are.
#[derive(Debug)]
enum Content {
    Memory(Box<[u8]>),
    File(Arc<File>),
}

/// What the fields of all forms of a file depend on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Description<'a> {
    pub(super) media_type: &'a str,
    pub(super) cache_control: Option<&'a str>,
    /// Whether there is a compressed form, so that the answer depends on the client.
    pub(super) varies: bool,
    /// The time of day.
    pub(super) now: SystemTime,
}

/// A file as it is sent: itself, or a compressed copy.
#[derive(Debug)]
pub(super) struct Form {
    pub(super) stamp: Stamp,
    content: Content,
    /// The fields of an answer with all of it, and the end of the head. In this order: those of a
    /// 304, those that describe the content, and the length.
    fields: Box<[u8]>,
    /// How many bytes of `fields` are for a 304.
    validators: usize,
    /// How many bytes of `fields` are for a part.
    description: usize,
    /// How many bytes of `fields` are the tag, which they begin with behind its name.
    etag: usize,
    /// Where in `fields` the date is.
    last_modified: (usize, usize),
}

const ETAG: &str = "ETag: ";

impl Form {
    /// The stamp of a file that was opened, before anything is read.
    pub(super) fn stamp(file: &File) -> io::Result<Stamp> {
        Stamp::of(file)
    }

    /// Reads what is small.
    pub(super) fn new(
        file: File,
        mut stamp: Stamp,
        coding: Option<&Coding>,
        about: Description<'_>,
    ) -> io::Result<Self> {
        let content = match read_unchanged(&file, &mut stamp, MAX_READ_BYTES)? {
            Some(bytes) => Content::Memory(bytes),
            None => Content::File(Arc::new(file)),
        };
        let etag = etag(stamp, coding);
        let mut fields = format!("{ETAG}{etag}\r\n");
        let mut last_modified = (0, 0);
        if stamp.modified <= about.now {
            // A date in the future says nothing.
            fields.push_str("Last-Modified: ");
            let start = fields.len();
            fields.push_str(&http_date(stamp.modified).to_string());
            last_modified = (start, fields.len());
            fields.push_str("\r\n");
        }
        if about.varies {
            fields.push_str("Vary: Accept-Encoding\r\n");
        }
        if let Some(value) = about.cache_control {
            fields.push_str(&format!("Cache-Control: {value}\r\n"));
        }
        let validators = fields.len();
        fields.push_str(&format!("Content-Type: {}\r\n", about.media_type));
        if let Some(coding) = coding {
            fields.push_str(&format!("Content-Encoding: {}\r\n", coding.name));
        }
        fields.push_str("Accept-Ranges: bytes\r\nX-Content-Type-Options: nosniff\r\n");
        let description = fields.len();
        fields.push_str(&format!("Content-Length: {}\r\n\r\n", stamp.length));
        let fields = fields.into_bytes().into_boxed_slice();
        let etag = etag.len();
        Ok(Self { stamp, content, fields, validators, description, etag, last_modified })
    }

    /// All fields of an answer with the whole, and the end of the head.
    pub(super) fn fields(&self) -> &[u8] {
        &self.fields
    }

    /// The fields of a 304.
    pub(super) fn validators(&self) -> &[u8] {
        &self.fields[..self.validators]
    }

    /// The fields of an answer with a part, without its length.
    pub(super) fn description(&self) -> &[u8] {
        &self.fields[..self.description]
    }

    /// What conditions are compared with.
    pub(super) fn facts(&self, now: SystemTime) -> Facts<'_> {
        let (start, end) = self.last_modified;
        Facts {
            etag: &self.fields[ETAG.len()..ETAG.len() + self.etag],
            modified: self.stamp.modified,
            last_modified: &self.fields[start..end],
            length: self.stamp.length,
            now,
        }
    }

    /// A part of the content.
    #[inline]
    pub(super) fn source(&self, range: std::ops::Range<u64>) -> Source<'_> {
        match &self.content {
            Content::Memory(bytes) => {
                Source::Bytes(&bytes[range.start as usize..range.end as usize])
            }
            Content::File(file) => Source::File(file, range),
        }
    }

    /// Bytes in memory.
    fn bytes(&self) -> usize {
        let content = match &self.content {
            Content::Memory(bytes) => bytes.len(),
            Content::File(_) => 0,
        };
        content + self.fields.len() + size_of::<Self>()
    }

    fn is_open(&self) -> bool {
        matches!(self.content, Content::File(_))
    }
}

/// Reads a file of at most `max` bytes that does not change meanwhile, so that the tag is of what
/// was read; `None` if it is larger, or is written to all the time.
fn read_unchanged(file: &File, stamp: &mut Stamp, max: u64) -> io::Result<Option<Box<[u8]>>> {
    for _ in 0..READ_TRIES {
        if stamp.length > max {
            return Ok(None);
        }
        let result = read(file, 0..stamp.length);
        let now = Stamp::of(file)?;
        match result {
            Ok(bytes) if now == *stamp => return Ok(Some(bytes.into_boxed_slice())),
            Err(error) if error.kind() != io::ErrorKind::UnexpectedEof => return Err(error),
            _ => *stamp = now,
        }
    }
    Ok(None)
}

/// A strong tag: the file, its length and when it was changed, and the form.
fn etag(stamp: Stamp, coding: Option<&Coding>) -> String {
    let since = stamp.modified.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let form = coding.map_or("", |coding| coding.ending);
    let (time, length, id) = (since.as_nanos(), stamp.length, stamp.id);
    format!("\"{time:x}-{length:x}-{id:x}{form}\"")
}

/// All forms of a file.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) plain: Form,
    /// Compressed copies, in the order of [`CODINGS`].
    pub(super) coded: [Option<Box<Form>>; CODINGS.len()],
    /// Whether there is any.
    pub(super) has_coded: bool,
}

impl Entry {
    /// Bytes in memory.
    pub(super) fn bytes(&self) -> usize {
        let coded = self.coded.iter().flatten().map(|form| form.bytes());
        self.plain.bytes() + coded.sum::<usize>()
    }

    /// How many files are open.
    pub(super) fn open_files(&self) -> usize {
        let coded = self.coded.iter().flatten().filter(|form| form.is_open());
        usize::from(self.plain.is_open()) + coded.count()
    }
}
