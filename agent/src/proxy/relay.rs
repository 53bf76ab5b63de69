//! The model's answer on its way to the caller: masked as it streams, everything but the last byte.

use super::headers;
use super::ledger::{Account, Admitted, Outcome};
use super::limits::Limits;
use super::meter::Meter;
use super::removal::Removal;
use super::reply::{Gone, Last, Reply};
use super::request_id::RequestId;
use super::upstream::{Dialled, ModelAnswer, Question, UpstreamError};
use crate::protocol::{self, Answer, Dialect, Form, ProtocolError, Tail, Unsent};
use bailiwick_masking::{Findings, Masker};
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Response, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use std::pin::Pin;
use std::time::Duration;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at, timeout_at};

/// An SSE comment: keeps middleboxes from closing a stream while the model thinks.
const PING: Bytes = Bytes::from_static(b": ping\n\n");

/// What a relay needs besides the model and the caller.
pub(super) struct Call<'a> {
    pub(super) id: &'a RequestId,
    /// What the caller speaks.
    pub(super) dialect: Dialect,
    /// For the answer.
    pub(super) masker: Masker,
    pub(super) limits: &'a Limits,
    /// Between the comments that keep a silent stream's connection open.
    pub(super) ping: Duration,
    /// Whether the caller is still admitted.
    pub(super) removal: Removal,
    /// Where tokens are limited.
    pub(super) meter: Option<Meter>,
}

/// How it went, and what is left to send once that is recorded.
pub(super) struct Ending {
    pub(super) account: Account,
    pub(super) last: Last,
    /// Tokens that it cost, where they are counted.
    pub(super) tokens: Option<u64>,
    /// When a stream's first piece came.
    pub(super) first: Option<Instant>,
}

/// Why an answer was not passed on to its end.
enum Stop {
    Gone(Gone),
    /// Another policy admits the caller no more.
    Removed,
    /// The model failed: what the caller may read.
    Failed(ProtocolError),
    /// The answer may not pass.
    Blocked(ProtocolError),
}

impl From<Gone> for Stop {
    fn from(gone: Gone) -> Self {
        Self::Gone(gone)
    }
}

/// Asks the model over the connection that there is and passes its answer on, but for the last byte. Watches the caller
/// all the while.
pub(super) fn relay<'a>(
    dialled: Result<Dialled<'a>, UpstreamError>,
    admitted: &'a Admitted,
    question: Question,
    call: Call<'a>,
    reply: &'a mut Reply,
) -> impl Future<Output = Ending> + Send {
    let commented = question.streamed && call.dialect.streams_events();
    let mut relay = Relay::new(call, commented, reply);
    // Boxed: what it takes to ask is gone once a stream begins, which may be long.
    let limits = relay.call.limits;
    let asked = dialled.map(|dialled| Box::pin(dialled.forward(admitted, question, limits)));
    async move {
        match relay.run(asked).await {
            Ok(last) => relay.ending(Outcome::Complete, None, last),
            Err(stop) => relay.stopped(stop),
        }
    }
}

/// What is waited for until the answer's head is there.
type Asked<F> = Pin<Box<F>>;

struct Relay<'a> {
    call: Call<'a>,
    reply: &'a mut Reply,
    /// The caller asked for a stream of events, and so can read comments in one.
    streamed: bool,
    pings: Interval,
    status: StatusCode,
    form: Form,
    /// How what was sent of a stream ends.
    tail: Tail,
    bytes: u64,
    findings: Findings,
    first: Option<Instant>,
}

impl<'a> Relay<'a> {
    fn new(call: Call<'a>, streamed: bool, reply: &'a mut Reply) -> Self {
        let mut pings = interval_at(Instant::now() + call.ping, call.ping);
        pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self {
            call,
            reply,
            streamed,
            pings,
            status: StatusCode::OK,
            form: Form::Json,
            tail: Tail::default(),
            bytes: 0,
            findings: Findings::default(),
            first: None,
        }
    }

    /// Waits for the answer and passes it on as it comes, but for its end; where it is no stream, holds it until it is whole.
    async fn run<'m>(
        &mut self,
        asked: Result<Asked<impl Future<Output = Result<ModelAnswer<'m>, UpstreamError>>>, UpstreamError>,
    ) -> Result<Last, Stop> {
        let mut model = self.head(asked.map_err(unavailable)?).await?;
        let mut answer = self.open(&model.head)?;
        if self.form.is_stream() {
            // They share, and so keep, the buffer that they were read into.
            *model.head.headers_mut() = HeaderMap::new();
        }
        let (mut held, mut unsent) = (BytesMut::new(), Unsent::new(self.call.dialect));
        while let Some(piece) = self.next(&mut model.body).await? {
            if self.form.is_stream() {
                self.first.get_or_insert_with(Instant::now);
            }
            if let Some(meter) = &mut self.call.meter {
                meter.see(&piece, self.form);
            }
            let released = answer.push(&piece);
            self.findings = answer.findings().clone();
            let released = released.map_err(Stop::Blocked)?;
            self.bytes += released.len() as u64;
            if self.form.is_stream() {
                let ready = unsent.push(&released);
                if !ready.is_empty() {
                    self.tail.sent(&ready);
                    self.reply.send(ready).await?;
                }
                continue;
            }
            held.extend_from_slice(&released);
            if self.bytes > self.call.limits.answer_bytes {
                return Err(failed(
                    "upstream-too-large",
                    "the model's answer is too large to be inspected whole",
                ));
            }
        }
        let rest = answer.finish();
        self.findings = answer.findings().clone();
        let rest = rest.map_err(Stop::Blocked)?;
        self.bytes += rest.len() as u64;
        if self.form.is_stream() {
            model.ended();
            return Ok(Last::Tail(unsent.finish(&rest)));
        }
        held.extend_from_slice(&rest);
        let head = headers::for_caller(self.status, self.form, self.call.id, Some(model.head.headers()));
        model.ended();
        Ok(Last::Whole(head, held.freeze()))
    }

    /// Waits for the model's head. A caller who waits for a stream of events is kept company by comments once the model has
    /// been silent for `ping`, which means that the answer's head goes out before the model's is known. Until then an
    /// answer's status is the model's own.
    async fn head<'m>(
        &mut self,
        mut asked: Asked<impl Future<Output = Result<ModelAnswer<'m>, UpstreamError>>>,
    ) -> Result<ModelAnswer<'m>, Stop> {
        loop {
            tokio::select! {
                biased;
                () = self.reply.gone() => return Err(Stop::Gone(Gone::Left)),
                () = self.call.removal.removed() => return Err(Stop::Removed),
                answered = &mut asked => return answered.map_err(unavailable),
                _ = self.pings.tick(), if self.streamed => {
                    self.form = Form::Events;
                    self.reply.begin(headers::for_caller(StatusCode::OK, self.form, self.call.id, None))?;
                    self.tail.sent(&PING);
                    self.reply.send(PING).await?;
                }
            }
        }
    }

    /// Judges the model's head; begins the caller's stream if it is one.
    fn open(&mut self, head: &Response<()>) -> Result<Answer, Stop> {
        let status = head.status();
        self.status = status;
        match status.as_u16() {
            401 | 403 | 407 => {
                let message =
                    "the model refuses the proxy's own credential: an operator must set [[model]] credential";
                return Err(failed("upstream-credential-refused", message));
            }
            200..=299 | 400..=599 => {}
            _ => return Err(failed("upstream-status", "the model answered with a status that is no answer")),
        }
        if headers::is_encoded(head.headers()) {
            let message = "the model answered with a Content-Encoding, which cannot be inspected";
            return Err(failed("upstream-encoded", message));
        }
        let content_type = headers::content_type(head.headers());
        let answer = Answer::new(content_type, self.call.dialect, self.call.masker.clone());
        let answer = answer.map_err(Stop::Blocked)?;
        if self.reply.is_streaming() && (answer.form() != Form::Events || !status.is_success()) {
            // Too late for a status of its own: it is told inside the stream.
            return Err(failed("upstream-refused", &format!("the model answered with status {status}")));
        }
        self.form = answer.form();
        if self.form.is_stream() {
            let head = headers::for_caller(status, self.form, self.call.id, Some(head.headers()));
            self.reply.begin(head)?;
        }
        Ok(answer)
    }

    /// The model's next piece; `None` at its end. While it is silent, comments go out between events, before the first
    /// token and after it; lines of JSON know no comments.
    async fn next(&mut self, body: &mut Incoming) -> Result<Option<Bytes>, Stop> {
        let deadline = Instant::now() + self.call.limits.model_idle;
        if self.streamed {
            self.pings.reset();
        }
        loop {
            let may_ping = self.form == Form::Events && self.streamed && self.tail.is_between_events();
            let frame = tokio::select! {
                biased;
                () = self.reply.gone() => return Err(Stop::Gone(Gone::Left)),
                () = self.call.removal.removed() => return Err(Stop::Removed),
                frame = timeout_at(deadline, body.frame()) => frame,
                _ = self.pings.tick(), if may_ping => {
                    self.tail.sent(&PING);
                    self.reply.send(PING).await?;
                    continue;
                }
            };
            match frame {
                Err(_) => return Err(failed("upstream-timed-out", "the model fell silent")),
                Ok(None) => return Ok(None),
                Ok(Some(Err(cause))) => {
                    tracing::debug!(%cause, "a model's answer broke off");
                    return Err(failed("upstream-broke-off", "the model's answer broke off"));
                }
                Ok(Some(Ok(frame))) => {
                    if let Ok(piece) = frame.into_data() {
                        return Ok(Some(piece));
                    }
                }
            }
        }
    }

    /// What an answer that stops midway comes to: an error of its own, or inside the stream that has begun.
    fn stopped(self, stop: Stop) -> Ending {
        let (outcome, error) = match stop {
            Stop::Gone(gone) => {
                let reason = match gone {
                    Gone::Left => "caller-left",
                    Gone::Stalled => "caller-stalled",
                };
                return self.ending(Outcome::Cancelled, Some(reason), Last::Cut);
            }
            Stop::Removed => {
                let message = "the policy was changed, and admits this caller no more".to_owned();
                let error = ProtocolError { status: StatusCode::FORBIDDEN, code: "access-removed", message };
                (Outcome::Cancelled, error)
            }
            Stop::Failed(error) => (Outcome::UpstreamFailed, error),
            Stop::Blocked(error) => (Outcome::Blocked, error),
        };
        tracing::debug!(request = %self.call.id, code = error.code, "an answer was stopped");
        let (status, code) = (error.status, error.code);
        let last = if self.reply.is_streaming() {
            Last::Tail(self.error_event(&error))
        } else {
            let head = headers::for_caller(status, Form::Json, self.call.id, None);
            let (dialect, id) = (self.call.dialect, self.call.id.as_str());
            Last::Whole(head, protocol::error_in(dialect, status, code, &error.message, id))
        };
        let mut ending = self.ending(outcome, Some(code), last);
        ending.account.status = status;
        ending
    }

    /// The error in the stream's own shape, after the end of what was begun. Nothing that is held leaves.
    fn error_event(&self, error: &ProtocolError) -> Bytes {
        let event = protocol::error_event(self.call.dialect, self.form, error, self.call.id.as_str());
        Bytes::from([self.tail.ending(self.form == Form::Lines), &*event].concat())
    }

    fn ending(mut self, outcome: Outcome, reason: Option<&'static str>, last: Last) -> Ending {
        let account =
            Account { outcome, status: self.status, bytes: self.bytes, findings: self.findings, reason };
        let tokens = self.call.meter.as_mut().map(Meter::tokens);
        Ending { account, last, tokens, first: self.first }
    }
}

fn unavailable(error: UpstreamError) -> Stop {
    tracing::debug!(cause = %error, "a model could not be asked");
    match error {
        // The operator is told what was found, by an alert; the caller only that nothing was sent.
        UpstreamError::Impostor(_) => {
            failed("upstream-impostor", "the model's socket is not served by the model: nothing was sent")
        }
        UpstreamError::TimedOut => failed("upstream-timed-out", "the model did not answer in time"),
        UpstreamError::Connect(_)
        | UpstreamError::ConnectTimedOut
        | UpstreamError::Broken(_)
        | UpstreamError::Closed
        | UpstreamError::Unaskable => {
            failed("upstream-unavailable", "the model cannot be reached at the moment")
        }
    }
}

fn failed(code: &'static str, message: &str) -> Stop {
    Stop::Failed(ProtocolError { status: StatusCode::BAD_GATEWAY, code, message: message.to_owned() })
}
