//! Streams as the servers of each dialect send them.

use super::super::super::Dialect;
use serde_json::{Value, json};

/// A stream of three texts in the shapes of a dialect: each in pieces, taken in turn.
pub(super) fn recorded(dialect: Dialect, said: &[Vec<String>; 3]) -> String {
    let mut script = Script { dialect, stream: String::new(), number: 0 };
    let longest = said.iter().map(Vec::len).max().unwrap_or(0);
    let whole: Vec<String> = said.iter().map(|pieces| pieces.concat()).collect();
    match dialect {
        Dialect::Anthropic => {
            script.say(json!({"type": "message_start", "message": {"id": "msg_1", "type": "message", "role": "assistant", "model": "m", "content": [], "stop_reason": null, "stop_sequence": null, "usage": {"input_tokens": 3, "output_tokens": 0}}}));
            script.say(json!({"type": "ping"}));
            let blocks = [
                (json!({"type": "thinking", "thinking": "", "signature": ""}), "thinking_delta", "thinking"),
                (json!({"type": "text", "text": ""}), "text_delta", "text"),
                (
                    json!({"type": "tool_use", "id": "toolu_1", "name": "mail", "input": {}}),
                    "input_json_delta",
                    "partial_json",
                ),
            ];
            for (index, (block, kind, name)) in blocks.into_iter().enumerate() {
                script.say(json!({"type": "content_block_start", "index": index, "content_block": block}));
                for piece in &said[index] {
                    script.say(json!({"type": "content_block_delta", "index": index, "delta": {"type": kind, name: piece}}));
                }
                script.say(json!({"type": "content_block_stop", "index": index}));
            }
            script.say(json!({"type": "message_delta", "delta": {"stop_reason": "end_turn", "stop_sequence": null}, "usage": {"output_tokens": 9}}));
            script.say(json!({"type": "message_stop"}));
        }
        Dialect::Responses => {
            script.say(json!({"type": "response.created", "response": {"id": "resp_1", "object": "response", "status": "in_progress", "output": []}}));
            let kinds =
                ["response.reasoning_text", "response.output_text", "response.function_call_arguments"];
            let items = [
                json!({"id": "rs_1", "type": "reasoning", "summary": [], "content": [{"type": "reasoning_text", "text": whole[0]}]}),
                json!({"id": "msg_1", "type": "message", "role": "assistant", "status": "completed", "content": [{"type": "output_text", "text": whole[1], "annotations": [], "logprobs": []}]}),
                json!({"id": "fc_1", "type": "function_call", "call_id": "call_1", "name": "mail", "arguments": whole[2]}),
            ];
            for (index, kind) in kinds.into_iter().enumerate() {
                let (id, part) = (&items[index]["id"], if index == 2 { "arguments" } else { "text" });
                script.say(json!({"type": "response.output_item.added", "output_index": index, "item": {"id": id, "type": "message", "content": []}}));
                for piece in &said[index] {
                    script.say(json!({"type": format!("{kind}.delta"), "item_id": id, "output_index": index, "content_index": 0, "delta": piece, "logprobs": [{"token": piece}]}));
                }
                script.say(json!({"type": format!("{kind}.done"), "item_id": id, "output_index": index, "content_index": 0, part: whole[index]}));
                script.say(
                    json!({"type": "response.output_item.done", "output_index": index, "item": items[index]}),
                );
            }
            script.say(json!({"type": "response.completed", "response": {"id": "resp_1", "object": "response", "status": "completed", "output": items, "usage": {"input_tokens": 3, "output_tokens": 9, "total_tokens": 12}}}));
        }
        Dialect::Ollama => {
            for at in 0..longest {
                let piece = |which: usize| said[which].get(at).cloned().unwrap_or_default();
                script.say(json!({"model": "m", "created_at": "2026-01-01T00:00:00Z", "message": {"role": "assistant", "content": piece(1), "thinking": piece(0)}, "done": false}));
            }
            script.say(json!({"model": "m", "created_at": "2026-01-01T00:00:01Z", "message": {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "mail", "arguments": {"to": whole[2]}}}]}, "done": false}));
            script.say(json!({"model": "m", "created_at": "2026-01-01T00:00:02Z", "message": {"role": "assistant", "content": ""}, "done": true, "done_reason": "stop", "prompt_eval_count": 3, "eval_count": 9}));
        }
        Dialect::Tgi => {
            for (at, piece) in said[1].iter().enumerate() {
                script.say(json!({"index": at + 1, "token": {"id": 4000 + at, "text": piece, "logprob": -0.5, "special": false}, "generated_text": null, "details": null}));
            }
            script.say(json!({"index": said[1].len() + 1, "token": {"id": 2, "text": "</s>", "logprob": -0.5, "special": true}, "generated_text": whole[1], "details": {"finish_reason": "eos_token", "generated_tokens": 9, "seed": null}}));
        }
        Dialect::Kserve => {
            for piece in &said[1] {
                script.say(json!({"model_name": "ensemble", "model_version": "1", "sequence_end": false, "text_output": piece, "output_log_probs": [0.5, 0.25]}));
            }
        }
        Dialect::OpenAi => {
            for (at, name) in ["reasoning_content", "content"].into_iter().enumerate() {
                for piece in &said[at] {
                    script.say(json!({"id": "c", "choices": [{"index": 0, "delta": {name: piece}, "finish_reason": null}]}));
                }
            }
            for piece in &said[2] {
                script.say(json!({"id": "c", "choices": [{"index": 0, "delta": {"tool_calls": [{"index": 0, "function": {"arguments": piece}}]}, "finish_reason": null}]}));
            }
            script.say(json!({"id": "c", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}));
        }
    }
    script.stream
}

struct Script {
    dialect: Dialect,
    stream: String,
    number: u64,
}

impl Script {
    fn say(&mut self, mut event: Value) {
        match self.dialect {
            Dialect::Ollama => self.stream += &format!("{event}\n"),
            Dialect::Tgi | Dialect::Kserve | Dialect::OpenAi => self.stream += &format!("data: {event}\n\n"),
            Dialect::Responses | Dialect::Anthropic => {
                if self.dialect == Dialect::Responses {
                    event["sequence_number"] = json!(self.number);
                    self.number += 1;
                }
                let name = event["type"].as_str().unwrap().to_owned();
                self.stream += &format!("event: {name}\ndata: {event}\n\n");
            }
        }
    }
}
