// The same scenes as speak.py, with the official JavaScript clients. The authority is trusted by Node itself
// (NODE_EXTRA_CA_CERTS); nothing about the clients is changed.

import Anthropic from "@anthropic-ai/sdk";
import { Ollama } from "ollama";
import OpenAI from "openai";

const setting = (name) => {
  const value = process.env[`SPEAK_${name}`];
  if (value === undefined) throw new Error(`SPEAK_${name} is not set`);
  return value;
};
const [api, scene, base, token, model] = ["API", "SCENE", "BASE_URL", "TOKEN", "MODEL"].map(setting);
const messages = [{ role: "user", content: setting("PROMPT") }];
const maxRetries = scene === "retry" ? 2 : 0;
const timeout = scene === "impatient" ? 700 : 120_000;
const stream = ["stream", "leave", "impatient"].includes(scene);
const max_tokens = scene === "leave" ? 2000 : 24;
const schema = { type: "object", properties: { city: { type: "string", enum: ["Bonn", "Lyon"] } }, required: ["city"] };
const tool = { type: "function", function: { name: "weather", description: "of a city", parameters: schema } };
const tools = scene === "tools";

async function* pieces(events, text) {
  for await (const event of events) {
    const piece = text(event);
    if (piece) yield piece;
  }
}

const players = {
  async openai() {
    const client = new OpenAI({ baseURL: `${base}/v1`, apiKey: token, maxRetries, timeout });
    const answer = await client.chat.completions.create({
      model, messages, max_tokens, temperature: 0, stream, ...(tools && { tools: [tool], tool_choice: "required" }),
    });
    if (stream) {
      return { pieces: pieces(answer, (chunk) => chunk.choices[0]?.delta.content), close: () => answer.controller.abort() };
    }
    const { content, tool_calls } = answer.choices[0].message;
    const called = ({ function: { name, arguments: given } }) => ({ name, arguments: JSON.parse(given) });
    return { text: content, tools: (tool_calls ?? []).map(called) };
  },

  async anthropic() {
    const client = new Anthropic({ baseURL: base, apiKey: token, maxRetries, timeout });
    const asked = tools && { tools: [{ name: "weather", description: "of a city", input_schema: schema }], tool_choice: { type: "any" } };
    const answer = await client.messages.create({ model, messages, max_tokens, stream, ...asked });
    if (stream) {
      const text = ({ type, delta }) => (type === "content_block_delta" && delta.type === "text_delta" ? delta.text : "");
      return { pieces: pieces(answer, text), close: () => answer.controller.abort() };
    }
    const of = (type) => answer.content.filter((block) => block.type === type);
    return { text: of("text").map((block) => block.text).join(""), tools: of("tool_use").map(({ name, input }) => ({ name, arguments: input })) };
  },

  async ollama() {
    // The client knows no timeout, and its abort() reaches a stream only once it has begun: who would wait less gives it
    // a fetch of their own, which is one of its settings.
    const impatient = scene === "impatient" && { fetch: (url, init) => fetch(url, { ...init, signal: AbortSignal.timeout(timeout) }) };
    const client = new Ollama({ host: base, headers: { Authorization: `Bearer ${token}` }, ...impatient });
    const answer = await client.chat({ model, messages, stream, ...(tools && { tools: [tool] }) });
    if (stream) return { pieces: pieces(answer, (chunk) => chunk.message.content), close: () => answer.abort() };
    const { content, tool_calls } = answer.message;
    return { text: content, tools: (tool_calls ?? []).map((call) => call.function) };
  },
};

async function play() {
  const answer = await players[api]();
  if (!answer.pieces) return { text: answer.text, pieces: 1, tools: answer.tools.map(({ name, arguments: given }) => ({ name, arguments: given })) };
  const got = [];
  for await (const piece of answer.pieces) {
    got.push(piece);
    if (scene === "leave") {
      answer.close();
      break;
    }
  }
  return { text: got.join(""), pieces: got.length, tools: [] };
}

const began = Date.now();
let told;
try {
  told = await play();
} catch (error) {
  told = { exception: error.constructor.name, status: error.status ?? error.status_code ?? null, message: error.message };
}
console.log(JSON.stringify({ ...told, elapsed_ms: Date.now() - began }));
// Until nobody wants it any more: what ends a stream is its being closed, not the end of this process.
process.stdin.resume();
