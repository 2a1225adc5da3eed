//! Forms of pages: collected, streamed, or with their files written to a directory.

mod form;
mod multipart;
pub(super) mod parts;
mod receive_files;
mod upload_writer;
mod uploads;

pub use form::{Form, InvalidForm};
pub use multipart::{Multipart, Part};
pub use receive_files::Received;
pub use uploads::{UploadOptions, UploadedFile, Uploads};
