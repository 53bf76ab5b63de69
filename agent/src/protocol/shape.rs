//! The names that mean something in requests, answers and events.

/// Members that say who calls; they are taken out of a request, however their letters are cased: some servers do not
/// mind. `prompt_cache_key` is what took the place of `user` in OpenAI's own API.
pub(super) const IDENTITY: &[&str] = &["user", "safety_identifier", "prompt_cache_key"];

/// What a caller's own application has to say of a request.
pub(super) const METADATA: &str = "metadata";

/// The same, within [`METADATA`].
pub(super) const IDENTITY_IN_METADATA: &[&str] = &["user_id"];

/// The longest answer, in all of its names.
pub(super) const ANSWER_LENGTH: &[&str] = &[
    "max_tokens",
    "max_completion_tokens",
    "max_output_tokens",
    "max_new_tokens",
    "num_predict",
    "n_predict",
];

/// How many answers.
pub(super) const ANSWERS: &[&str] = &["n", "best_of"];

/// Content parts that are text.
pub(super) const TEXT_PARTS: &[&str] =
    &["text", "refusal", "input_text", "output_text", "thinking", "reasoning"];

/// Members of an answer that spell text out in pieces: `null` takes their place where a mask applies.
pub(super) const SPELLED_OUT: &[&str] = &[
    "logprobs",
    "prompt_logprobs",
    "token_ids",
    "prompt_token_ids",
    "completion_probabilities",
    "__verbose",
];

/// Strings of an event that are complete in it: scanned on their own. Every other string under a choice is a piece of a text.
pub(super) const COMPLETE: &[&str] = &[
    "id",
    "object",
    "model",
    "role",
    "finish_reason",
    "stop_reason",
    "system_fingerprint",
    "service_tier",
    "type",
    "created",
    "name",
];

/// The member that holds a tool call's arguments: JSON, held until it is complete.
pub(super) const ARGUMENTS: &str = "arguments";

/// Members of an event that an event of our own repeats.
pub(super) const ENVELOPE: &[&str] =
    &["id", "object", "created", "model", "system_fingerprint", "service_tier"];
