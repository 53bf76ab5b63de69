//! The way back to the caller: at most one piece in flight, and no end without a receipt.
//!
//! A request's story runs in its own task and talks to the HTTP library through this pair. The library drops its
//! half when the caller is gone; the story sees that at once. If the story's half is dropped before the end (or
//! without a head), the library's half fails, and the connection or stream is cut: no terminal chunk, no END_STREAM.

use super::ledger::{Recorded, Settled};
use bytes::Bytes;
use http::Response;
use hyper::body::{Body, Frame, SizeHint};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

/// The caller left, or stopped reading for too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Gone {
    Left,
    Stalled,
}

/// The answer was cut before its end.
#[derive(Debug, thiserror::Error)]
#[error("the answer was cut")]
pub(super) struct Cut;

/// The story's half. Nothing here can be shown: what passes is what was said.
pub(super) struct Reply {
    stage: Stage,
    patience: Duration,
}

enum Stage {
    /// Nothing was sent.
    Silent(oneshot::Sender<Response<AnswerBody>>),
    /// The head was sent, pieces follow.
    Streaming(mpsc::Sender<Piece>),
}

/// What travels in a stream. Boxed: a channel has room for thirty-two of them, however few it may hold.
pub(super) enum Piece {
    Bytes(Box<Bytes>),
    End,
}

/// The last thing a caller gets.
pub(super) enum Last {
    /// A whole answer; nothing was sent before.
    Whole(Response<()>, Bytes),
    /// The rest of a stream (may be empty).
    Tail(Bytes),
    /// Nothing: there is nobody to get it, or it must not be taken for whole.
    Cut,
}

/// Both halves. A caller who does not read is waited for as long as `patience`.
pub(super) fn pair(patience: Duration) -> (Reply, oneshot::Receiver<Response<AnswerBody>>) {
    let (head, answer) = oneshot::channel();
    (Reply { stage: Stage::Silent(head), patience }, answer)
}

impl Reply {
    /// Resolves when the caller has left.
    pub(super) async fn gone(&mut self) {
        match &mut self.stage {
            Stage::Silent(head) => head.closed().await,
            Stage::Streaming(pieces) => pieces.closed().await,
        }
    }

    /// Whether a head was sent.
    pub(super) fn is_streaming(&self) -> bool {
        match self.stage {
            Stage::Silent(_) => false,
            Stage::Streaming(_) => true,
        }
    }

    /// Sends the head of a stream.
    pub(super) fn begin(&mut self, head: Response<()>) -> Result<(), Gone> {
        let (pieces, coming) = mpsc::channel(1);
        match std::mem::replace(&mut self.stage, Stage::Streaming(pieces)) {
            Stage::Silent(sender) => {
                sender.send(head.map(|()| AnswerBody::Stream(coming))).map_err(|_| Gone::Left)
            }
            // A head is sent once: whoever asks again goes on with the stream that is there.
            streaming @ Stage::Streaming(_) => {
                self.stage = streaming;
                Ok(())
            }
        }
    }

    /// Sends a piece of a stream; returns when there is room for the next one.
    pub(super) async fn send(&mut self, bytes: Bytes) -> Result<(), Gone> {
        let Stage::Streaming(pieces) = &self.stage else { return Err(Gone::Left) };
        match tokio::time::timeout(self.patience, pieces.send(Piece::Bytes(Box::new(bytes)))).await {
            Ok(sent) => sent.map_err(|_| Gone::Left),
            Err(_) => Err(Gone::Stalled),
        }
    }

    /// The end of an admitted request's answer, once its outcome is recorded.
    pub(super) async fn end(self, _outcome: &Settled, last: Last) {
        match (self.stage, last) {
            (Stage::Silent(head), Last::Whole(response, body)) => {
                // If the caller left in this very moment there is nobody to tell.
                let _gone = head.send(response.map(|()| AnswerBody::Whole(Some(body))));
            }
            (Stage::Streaming(pieces), Last::Tail(tail)) => {
                let ending = async {
                    if !tail.is_empty() {
                        pieces.send(Piece::Bytes(Box::new(tail))).await?;
                    }
                    pieces.send(Piece::End).await
                };
                let _gone = tokio::time::timeout(self.patience, ending).await;
            }
            // Dropping both ends here is what cuts.
            (Stage::Silent(_) | Stage::Streaming(_), Last::Whole(..) | Last::Tail(_) | Last::Cut) => {}
        }
    }

    /// A refusal, once it is recorded.
    pub(super) fn refuse(self, _denial: &Recorded, head: Response<()>, body: Bytes) {
        self.tell(head, body);
    }

    /// The one refusal that is not recorded: that nothing can be.
    pub(super) fn cannot_record(self, head: Response<()>, body: Bytes) {
        self.tell(head, body);
    }

    fn tell(self, head: Response<()>, body: Bytes) {
        if let Stage::Silent(sender) = self.stage {
            let _gone = sender.send(head.map(|()| AnswerBody::Whole(Some(body))));
        }
    }
}

/// The library's half: what it sends to the caller.
pub(super) enum AnswerBody {
    Whole(Option<Bytes>),
    Stream(mpsc::Receiver<Piece>),
    Ended,
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = Cut;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        match &mut *self {
            Self::Whole(bytes) => Poll::Ready(
                bytes.take().filter(|bytes| !bytes.is_empty()).map(|bytes| Ok(Frame::data(bytes))),
            ),
            Self::Ended => Poll::Ready(None),
            Self::Stream(pieces) => match std::task::ready!(pieces.poll_recv(cx)) {
                Some(Piece::Bytes(bytes)) => Poll::Ready(Some(Ok(Frame::data(*bytes)))),
                Some(Piece::End) => {
                    *self = Self::Ended;
                    Poll::Ready(None)
                }
                None => Poll::Ready(Some(Err(Cut))),
            },
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(bytes) => bytes.as_ref().is_none_or(Bytes::is_empty),
            Self::Stream(_) => false,
            Self::Ended => true,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            Self::Stream(_) => SizeHint::default(),
            Self::Ended => SizeHint::with_exact(0),
        }
    }
}

/// A head that never comes is a cut.
pub(super) async fn head(
    answer: oneshot::Receiver<Response<AnswerBody>>,
) -> Result<Response<AnswerBody>, Cut> {
    answer.await.map_err(|_| Cut)
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt;

    const PATIENCE: Duration = Duration::from_millis(50);

    #[tokio::test]
    async fn a_stream_ends_only_with_a_receipt() {
        let (mut reply, answer) = pair(PATIENCE);
        reply.begin(Response::new(())).unwrap();
        let mut body = head(answer).await.unwrap().into_body();
        reply.send("one".into()).await.unwrap();
        assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "one");
        let settled = Settled::for_test();
        let ending = reply.end(&settled, Last::Tail("two".into()));
        let (collected, ()) = tokio::join!(body.collect(), ending);
        assert_eq!(collected.unwrap().to_bytes(), "two");
    }

    #[tokio::test]
    async fn a_story_that_stops_cuts_the_stream() {
        let (mut reply, answer) = pair(PATIENCE);
        reply.begin(Response::new(())).unwrap();
        let body = head(answer).await.unwrap().into_body();
        drop(reply);
        assert!(body.collect().await.is_err(), "no end without a receipt");

        let (reply, answer) = pair(PATIENCE);
        drop(reply);
        assert!(head(answer).await.is_err(), "nor a head");
    }

    #[tokio::test]
    async fn a_caller_who_left_or_does_not_read_is_noticed() {
        let (mut reply, answer) = pair(PATIENCE);
        drop(answer);
        reply.gone().await;

        let (mut reply, answer) = pair(PATIENCE);
        reply.begin(Response::new(())).unwrap();
        let response = head(answer).await.unwrap();
        reply.send("fits".into()).await.unwrap();
        assert_eq!(reply.send("waits".into()).await, Err(Gone::Stalled));
        drop(response);
        reply.gone().await;
        assert_eq!(reply.send("lost".into()).await, Err(Gone::Left));
    }
}
