"""OpenAI's own Python client as a peer of the server: client.py BASE_URL API_KEY.

The server runs the small model of ../http/fixture.rs, which a bias makes say what is asked for here.
"""

import json
import sys

import openai

HELLO, WEATHER, TIME, END = "264", "266", "267", "259"

base_url, api_key = sys.argv[1:]
client = openai.OpenAI(base_url=base_url, api_key=api_key, max_retries=0, timeout=60)
HI = [{"role": "user", "content": "Hi"}]


def tool(name):
    return {"type": "function", "function": {"name": name, "description": "", "parameters": {"type": "object"}}}


TOOLS = {
    "tools": [tool("weather"), tool("time")],
    "presence_penalty": 2, "frequency_penalty": 2,
    "logit_bias": {WEATHER: 100, TIME: 98.7, END: 97.4},
    "max_tokens": 8,
}


def chat():
    assert [model.id for model in client.models.list()] == ["tiny"]
    reply = client.chat.completions.create(
        model="tiny", messages=HI, logit_bias={HELLO: 100}, max_completion_tokens=3, user="me", store=True
    )
    assert reply.choices[0].message.content == "HelloHelloHello", reply
    assert reply.choices[0].finish_reason == "length"
    assert reply.usage.completion_tokens == 3
    reply = client.chat.completions.create(
        model="tiny", messages=HI, n=3, temperature=1.5, seed=1, max_tokens=5, stop=["x", "y"], top_p=0.9
    )
    assert [choice.index for choice in reply.choices] == [0, 1, 2]


def stream():
    chunks = list(
        client.chat.completions.create(
            model="tiny",
            messages=HI,
            logit_bias={HELLO: 100},
            max_tokens=3,
            stream=True,
            stream_options={"include_usage": True},
        )
    )
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == "HelloHelloHello", chunks
    assert chunks[-1].usage.completion_tokens == 3 and not chunks[-1].choices
    # One that is left in the middle.
    endless = client.chat.completions.create(
        model="tiny", messages=HI, max_tokens=100000, stream=True, extra_body={"ignore_eos": True}
    )
    next(iter(endless))
    endless.close()


def tools():
    reply = client.chat.completions.create(model="tiny", messages=HI, **TOOLS)
    calls = reply.choices[0].message.tool_calls
    assert [call.function.name for call in calls] == ["weather", "time"], reply
    assert json.loads(calls[0].function.arguments) == {"city": "Paris"}
    assert reply.choices[0].finish_reason == "tool_calls"
    # The answers go back.
    messages = HI + [reply.choices[0].message] + [
        {"role": "tool", "tool_call_id": call.id, "content": "fine"} for call in calls
    ]
    client.chat.completions.create(model="tiny", messages=messages, tools=TOOLS["tools"], max_tokens=2)
    # The client's own gathering of a stream.
    with client.chat.completions.stream(model="tiny", messages=HI, **TOOLS) as events:
        for _ in events:
            pass
        final = events.get_final_completion()
    calls = final.choices[0].message.tool_calls
    assert [call.function.name for call in calls] == ["weather", "time"], final
    assert json.loads(calls[0].function.arguments) == {"city": "Paris"}
    assert final.choices[0].finish_reason == "tool_calls"


def json_schema():
    schema = {
        "type": "object",
        "properties": {"ok": {"type": "boolean"}},
        "required": ["ok"],
        "additionalProperties": False,
    }
    form = {"type": "json_schema", "json_schema": {"name": "answer", "strict": True, "schema": schema}}
    reply = client.chat.completions.create(
        model="tiny", messages=HI, response_format=form, max_tokens=200, temperature=0
    )
    if reply.choices[0].finish_reason == "stop":
        assert isinstance(json.loads(reply.choices[0].message.content)["ok"], bool), reply


def logprobs():
    reply = client.chat.completions.create(
        model="tiny", messages=HI, logit_bias={HELLO: 100}, max_tokens=2, logprobs=True, top_logprobs=3
    )
    content = reply.choices[0].logprobs.content
    assert [token.token for token in content] == ["Hello", "Hello"]
    assert all(bytes(token.bytes) == b"Hello" and len(token.top_logprobs) == 3 for token in content)
    reply = client.completions.create(model="tiny", prompt="ab", max_tokens=0, echo=True, logprobs=1)
    assert reply.choices[0].text == "ab"
    assert reply.choices[0].logprobs.token_logprobs[0] is None
    assert reply.choices[0].logprobs.token_logprobs[1] < 0


def completions():
    one = client.completions.create(model="tiny", prompt="ab", max_tokens=4, extra_body={"ignore_eos": True})
    ids = client.completions.create(model="tiny", prompt=[97, 98], max_tokens=4, extra_body={"ignore_eos": True})
    assert one.choices[0].text == ids.choices[0].text
    many = client.completions.create(model="tiny", prompt=["a", "b"], n=2, max_tokens=2)
    assert [choice.index for choice in many.choices] == [0, 1, 2, 3]
    chunks = client.completions.create(
        model="tiny", prompt="ab", max_tokens=4, stream=True, extra_body={"ignore_eos": True}
    )
    assert "".join(chunk.choices[0].text for chunk in chunks) == one.choices[0].text


def refused(kind, status, param, call):
    try:
        call()
    except kind as error:
        assert error.status_code == status and error.param == param, (error.status_code, error.param)
    else:
        raise AssertionError(f"{kind.__name__} was expected")


def errors():
    create = client.chat.completions.create
    bad = openai.BadRequestError
    refused(bad, 400, "temperature", lambda: create(model="tiny", messages=HI, temperature=3))
    refused(bad, 400, "messages", lambda: create(model="tiny", messages=[]))
    refused(bad, 400, "n", lambda: create(model="tiny", messages=HI, n=1000))
    refused(openai.NotFoundError, 404, "model", lambda: create(model="gpt-4", messages=HI))
    stranger = client.with_options(api_key="wrong")
    refused(openai.AuthenticationError, 401, None, lambda: stranger.models.list())
    embed = client.embeddings.create
    refused(openai.InternalServerError, 501, "model", lambda: embed(model="tiny", input="a"))


for check in [chat, stream, tools, json_schema, logprobs, completions, errors]:
    check()
    print(f"{check.__name__}: good")
print(f"openai {openai.__version__}: all good")
