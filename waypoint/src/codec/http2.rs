use std::task::{Context, Poll};
use bytes::Bytes;
use http_body::{Frame, SizeHint};
use super::{BodyError, Connection, Io, Journey};

pub(super) struct RequestBody;
impl RequestBody {
    pub(super) fn poll_frame(&mut self, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> { Poll::Ready(None) }
    pub(super) fn is_end_stream(&self) -> bool { true }
    pub(super) fn size_hint(&self) -> SizeHint { SizeHint::default() }
}
pub(super) async fn serve<J: Journey>(_io: Io, _b: Bytes, _c: Connection<J>) {}
