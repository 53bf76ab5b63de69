//! The parts that others can play: the model server, the issuer, the caller.

use super::StoryError;
use super::stage::Stage;
use crate::probe::Attempt;
use crate::system_box::init::Bind;
use std::net::SocketAddr;
use std::time::Duration;

/// The file in the box with the key that the model server demands and that Bailiwick injects.
pub const MODEL_KEY_FILE: &str = "/etc/bailiwick/llama-api-key";

/// The port of the model server in the box.
pub const MODEL_PORT: u16 = 8000;

/// The group that may use the model.
pub const GROUP: &str = "ml-analysts";

/// What `aud` must be.
pub const AUDIENCE: &str = "bailiwick";

/// Who plays the model server, the issuer and the caller.
///
/// The order of calls: [`binds`](Self::binds), [`start_issuer`](Self::start_issuer), then the model server's unit is
/// started from [`model_service`](Self::model_service), then the rest in any order. Dropping it ends what it started;
/// processes that it starts with [`Host::command`](crate::lab_network::Host::command) end with the testbed anyway.
pub trait Cast {
    /// Who they are, for the listener: model server, issuer, caller.
    fn introduction(&self) -> String;

    /// What they need to see in the box, besides `bailiwick-testbed`.
    fn binds(&self) -> Vec<Bind>;

    /// The `server` of the config: which endpoints the model server has.
    fn preset(&self) -> &'static str;

    /// The lines of `llama.service`'s `[Service]` section. It must listen on [`MODEL_PORT`] of every address (so that
    /// there is something to guard), and demand the key in [`MODEL_KEY_FILE`].
    ///
    /// # Errors
    /// When it cannot be said.
    fn model_service(&self) -> Result<String, StoryError>;

    /// How long the model server may take until it answers.
    fn model_patience(&self) -> Duration;

    /// Whether the model server, which listens by now, also answers; asked again and again until it does.
    ///
    /// # Errors
    /// When it cannot be found out.
    fn model_is_ready(&self, _stage: &Stage) -> Result<bool, StoryError> {
        Ok(true)
    }

    /// Starts the issuer on the lab's issuer host, over https with a certificate of the stage's authority, and
    /// gives its URL exactly as in `iss`.
    ///
    /// # Errors
    /// When it does not start.
    fn start_issuer(&mut self, stage: &Stage) -> Result<String, StoryError>;

    /// Gets a token from the issuer.
    ///
    /// # Errors
    /// When the issuer gives none.
    fn token(&mut self, stage: &Stage, kind: TokenKind) -> Result<String, StoryError>;

    /// Asks for a streamed chat answer, from the lab's client host, through the proxy.
    ///
    /// # Errors
    /// When there was no answer at all; a refusal is an answer.
    fn chat(&mut self, stage: &Stage, ask: &Chat<'_>) -> Result<Reply, StoryError>;

    /// The last chat as the model server got it.
    ///
    /// # Errors
    /// When it cannot be seen.
    fn seen_by_model(&mut self, stage: &Stage) -> Result<ModelView, StoryError>;

    /// Lets the model server try to open a TCP connection.
    ///
    /// # Errors
    /// When it cannot be told to.
    fn model_connects(&mut self, stage: &Stage, to: SocketAddr) -> Result<Attempt, StoryError>;

    /// What [`Self::model_connects`] makes act, in words: the process itself, or one beside it.
    fn who_connects(&self) -> &'static str;
}

/// The tokens of the story.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenKind {
    /// For a member of [`GROUP`], for [`AUDIENCE`].
    Valid,
    /// For a member of another group.
    OtherGroup,
    /// For another service.
    OtherAudience,
    /// Valid an hour ago.
    Expired,
}

/// A chat request.
#[derive(Clone, Copy, Debug)]
pub struct Chat<'a> {
    /// `https://…/v1`.
    pub base_url: &'a str,
    /// The bearer token, if any.
    pub token: Option<&'a str>,
    /// The user's message.
    pub prompt: &'a str,
}

/// What the caller got.
#[derive(Clone, Debug)]
pub enum Reply {
    /// An answer.
    Answered {
        /// Its pieces as they came, with the time since the request was sent.
        pieces: Vec<(Duration, String)>,
    },
    /// An error in the API's own shape.
    Refused {
        /// The HTTP status.
        status: u16,
        /// `error.code`.
        code: String,
        /// `error.message`.
        message: String,
        /// `error.request_id`, where the caller shows it.
        request_id: Option<String>,
        /// What the caller's user sees, where it is more than the error: the client library's exception.
        exception: Option<String>,
    },
}

/// A chat from the model's side.
#[derive(Clone, Debug)]
pub struct ModelView {
    /// Where this was seen, for the listener.
    pub source: &'static str,
    /// The prompt.
    pub prompt: String,
    /// All that can be seen of the request, the prompt included.
    pub everything: String,
    /// How it is known that the injected credential arrived; an error in words when it did not.
    pub credential: Result<String, String>,
    /// Personal data that the caller sent besides the prompt's, and identifying fields: none may be in `everything`.
    pub hidden: Vec<String>,
    /// Personal data that the model itself said: must not reach the caller.
    pub said: Option<String>,
}

impl Reply {
    /// The whole text of an answer; empty for a refusal.
    #[must_use]
    pub fn text(&self) -> String {
        match self {
            Self::Answered { pieces } => pieces.iter().map(|(_, piece)| piece.as_str()).collect(),
            Self::Refused { .. } => String::new(),
        }
    }

    /// In one line.
    #[must_use]
    pub fn summary(&self) -> String {
        match self {
            Self::Answered { pieces } => {
                let first = pieces.first().map_or(0, |(after, _)| after.as_millis());
                let last = pieces.last().map_or(0, |(after, _)| after.as_millis());
                format!("200, {} pieces, the first after {first} ms, the last after {last} ms", pieces.len())
            }
            Self::Refused { status, code, message, exception, .. } => {
                let exception = exception.as_deref().map(|name| format!(" ({name})")).unwrap_or_default();
                format!("{status} {code}{exception}: {message}")
            }
        }
    }
}
