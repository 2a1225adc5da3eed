//! Stands for this folder in a build without the feature `http-gzip`: no answer is compressed.

use super::respond::Kind;
use super::response::Response;
use crate::stream::Written;

/// Whether and how an answer is compressed: it is not.
pub(super) enum Plan {}

/// What a client is offered: nothing.
pub(super) enum Offer {}

#[inline]
pub(super) fn take_offer<A: 'static>(res: &mut Response<'_, A>) -> Option<Offer> {
    res.exchange.gzip.take().map(|plan| match plan {})
}

pub(super) fn send<A: 'static>(_: &mut Response<'_, A>, offer: &Offer, _: Kind<'_>, _: &[u8]) {
    match *offer {}
}

pub(super) fn begin<A: 'static>(_: &mut Response<'_, A>, length: Option<u64>) -> Option<u64> {
    length
}

pub(super) fn write<A: 'static>(_: &mut Response<'_, A>, _: &[u8]) -> Option<Written> {
    None
}

pub(super) fn flush<A: 'static>(_: &mut Response<'_, A>) -> Option<Written> {
    None
}

pub(super) fn end<A: 'static>(_: &mut Response<'_, A>) -> bool {
    true
}
