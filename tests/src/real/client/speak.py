"""Plays one scene with one of the official Python clients and prints what its user would have seen, as one JSON object.

The client is set up as its documentation says, with nothing but an address, a token and an authority: settings come from
the environment (SPEAK_*), so that no token stands in a process list. Scenes: plain, stream, tools, retry (as plain, with the
client's own retries), leave (closes a stream after its first piece), impatient (gives up before the first one). After a
stream was closed this process lives on until its standard input ends: what ends the stream is the closing.
"""

import json
import os
import ssl
import sys
import time

import anthropic
import ollama
import openai

SETTING = {name: os.environ["SPEAK_" + name.upper()]
           for name in ("api", "scene", "base_url", "authority", "token", "model", "prompt")}
SCENE = SETTING["scene"]
TRUST = ssl.create_default_context(cafile=SETTING["authority"])
RETRIES = 2 if SCENE == "retry" else 0
PATIENCE = 0.7 if SCENE == "impatient" else 120.0
STREAMS = SCENE in ("stream", "leave", "impatient")
MAX_TOKENS = 2000 if SCENE == "leave" else 24
MESSAGES = [{"role": "user", "content": SETTING["prompt"]}]
SCHEMA = {"type": "object", "properties": {"city": {"type": "string", "enum": ["Bonn", "Lyon"]}}, "required": ["city"]}
FUNCTION = {"type": "function", "function": {"name": "weather", "description": "of a city", "parameters": SCHEMA}}


def with_openai():
    client = openai.OpenAI(
        base_url=SETTING["base_url"] + "/v1", api_key=SETTING["token"], max_retries=RETRIES, timeout=PATIENCE,
        http_client=openai.DefaultHttpxClient(verify=TRUST, trust_env=False))
    tools = {"tools": [FUNCTION], "tool_choice": "required"} if SCENE == "tools" else {}
    answer = client.chat.completions.create(
        model=SETTING["model"], messages=MESSAGES, max_tokens=MAX_TOKENS, temperature=0, stream=STREAMS, **tools)
    if STREAMS:
        return answer, (choice.delta.content for chunk in answer for choice in chunk.choices)
    message = answer.choices[0].message
    return message.content, [(call.function.name, json.loads(call.function.arguments)) for call in message.tool_calls or []]


def with_anthropic():
    client = anthropic.Anthropic(
        base_url=SETTING["base_url"], api_key=SETTING["token"], max_retries=RETRIES, timeout=PATIENCE,
        http_client=anthropic.DefaultHttpxClient(verify=TRUST, trust_env=False))
    tools = {"tools": [{"name": "weather", "description": "of a city", "input_schema": SCHEMA}],
             "tool_choice": {"type": "any"}} if SCENE == "tools" else {}
    answer = client.messages.create(
        model=SETTING["model"], messages=MESSAGES, max_tokens=MAX_TOKENS, stream=STREAMS, **tools)
    if STREAMS:
        return answer, (event.delta.text for event in answer
                        if event.type == "content_block_delta" and event.delta.type == "text_delta")
    text = "".join(block.text for block in answer.content if block.type == "text")
    return text, [(block.name, block.input) for block in answer.content if block.type == "tool_use"]


def with_ollama():
    client = ollama.Client(host=SETTING["base_url"], headers={"Authorization": "Bearer " + SETTING["token"]},
                           verify=TRUST, trust_env=False, timeout=PATIENCE)
    tools = {"tools": [FUNCTION]} if SCENE == "tools" else {}
    answer = client.chat(model=SETTING["model"], messages=MESSAGES, stream=STREAMS, **tools)
    if STREAMS:
        return answer, (chunk.message.content for chunk in answer)
    calls = answer.message.tool_calls or []
    return answer.message.content, [(call.function.name, dict(call.function.arguments)) for call in calls]


def play():
    first, second = {"openai": with_openai, "anthropic": with_anthropic, "ollama": with_ollama}[SETTING["api"]]()
    if not STREAMS:
        return {"text": first, "pieces": 1, "tools": [{"name": name, "arguments": given} for name, given in second]}
    pieces = []
    for piece in second:
        if piece:
            pieces.append(piece)
            if SCENE == "leave":
                first.close()
                break
    return {"text": "".join(pieces), "pieces": len(pieces), "tools": []}


def main():
    began = time.monotonic()
    try:
        told = play()
    except Exception as error:  # whatever a user of the client would have to deal with
        told = {"exception": type(error).__name__, "status": getattr(error, "status_code", None), "message": str(error)}
    told["elapsed_ms"] = round((time.monotonic() - began) * 1000)
    print(json.dumps(told), flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
