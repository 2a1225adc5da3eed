//! In place of `accounts/`, in a build without the feature `db`.

use std::io;
use std::path::Path;

use waterwheel::http::Router;
use waterwheel::{Context, Reactor};

#[derive(Clone, Debug)]
pub(crate) enum Accounts {}

fn unsupported() -> io::Error {
    let text = "this program was built without --db: build it with --features db";
    io::Error::new(io::ErrorKind::Unsupported, text)
}

impl Accounts {
    pub(crate) fn open(_: &Path, _: Option<&Path>, _: bool) -> io::Result<Self> {
        Err(unsupported())
    }

    pub(crate) fn add_user(&self, _: &str, _: &str) -> io::Result<()> {
        match *self {}
    }

    pub(crate) fn mount(
        &self,
        _: &mut Reactor,
        _: Router<()>,
    ) -> io::Result<(Router<()>, fn(&mut Context<'_>))> {
        match *self {}
    }
}
