"""Streams one chat with the official openai client and prints what it got, one JSON object a line.

Settings come from the environment (CHAT_*), so that no token stands in a process list. Retries are off: a refusal
must be seen as it came. Exit status: 0 for an answer, 3 when the client raised an exception.
"""

import json
import os
import ssl
import sys
import time

import openai


def tell(event, **fields):
    print(json.dumps({"event": event, **fields}), flush=True)


def request_id(error):
    """The server's name for the request: from the error's body, else from the header x-request-id."""
    body = error.body if isinstance(error.body, dict) else {}
    return body.get("request_id") or getattr(error, "request_id", None)


def main():
    setting = {name: os.environ["CHAT_" + name.upper()] for name in (
        "base_url", "authority", "token", "model", "prompt", "max_tokens")}
    trust = ssl.create_default_context(cafile=setting["authority"])
    # The client insists on a key; without a token it must send no Authorization header at all.
    headers = {} if setting["token"] else {"Authorization": openai.Omit()}
    client = openai.OpenAI(
        base_url=setting["base_url"], api_key=setting["token"] or "none", max_retries=0, timeout=60.0,
        http_client=openai.DefaultHttpxClient(verify=trust, trust_env=False))
    finish_reason, total_tokens = None, None
    sent = time.monotonic()
    try:
        stream = client.chat.completions.create(
            model=setting["model"], max_tokens=int(setting["max_tokens"]), temperature=0, stream=True,
            stream_options={"include_usage": True}, extra_headers=headers,
            messages=[{"role": "user", "content": setting["prompt"]}])
        for chunk in stream:
            if chunk.usage:
                total_tokens = chunk.usage.total_tokens
            for choice in chunk.choices:
                if choice.delta.content:
                    after_ms = round((time.monotonic() - sent) * 1000)
                    tell("chunk", text=choice.delta.content, after_ms=after_ms)
                finish_reason = choice.finish_reason or finish_reason
    except openai.APIError as error:
        tell("refused", exception=type(error).__name__, status=getattr(error, "status_code", None),
             code=error.code, kind=error.type, message=error.message, request_id=request_id(error))
        return 3
    tell("end", finish_reason=finish_reason, total_tokens=total_tokens)
    return 0


if __name__ == "__main__":
    sys.exit(main())
