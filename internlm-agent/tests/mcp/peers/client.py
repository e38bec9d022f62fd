"""A client with the official SDK for Python: `client.py stdio COMMAND ARGUMENTS…`, or `client.py http URL`."""

import asyncio
import sys

import mcp
from mcp import Client, MCPError, StdioServerParameters


async def talk(client):
    tools = {tool.name: tool for tool in (await client.list_tools()).tools}
    assert list(tools)[:2] == ["calculator", "text_stats"], list(tools)
    calculator = tools["calculator"]
    assert calculator.description.startswith("Calculates exactly"), calculator
    assert calculator.input_schema["required"] == ["expression"], calculator

    result = await client.call_tool("calculator", {"expression": "37*12+5"})
    assert not result.is_error and result.content[0].text == "449", result
    result = await client.call_tool("text_stats", {"text": "天 晴", "part": "晴"})
    assert result.structured_content["occurrences"] == 1, result
    assert '"characters":3' in result.content[0].text, result

    result = await client.call_tool("calculator", {"expression": "1/0"})
    assert result.is_error and result.content[0].text == "division by zero", result
    result = await client.call_tool("calculator", {"sum": "1"})
    assert result.is_error and "`expression` is missing" in result.content[0].text, result
    try:
        await client.call_tool("telescope", {})
    except MCPError as error:
        assert "there is no tool `telescope`" in str(error), error
    else:
        raise AssertionError("an unknown tool was called")
    many = [client.call_tool("calculator", {"expression": f"{i}*{i}"}) for i in range(50)]
    texts = [result.content[0].text for result in await asyncio.gather(*many)]
    assert texts == [str(i * i) for i in range(50)], texts


async def main():
    kind, *rest = sys.argv[1:]
    # The greeting of every older client, and the way without one that the protocol has since 2026-07-28.
    for mode in ["legacy", "auto"]:
        server = StdioServerParameters(command=rest[0], args=rest[1:]) if kind == "stdio" else rest[0]
        async with Client(server, mode=mode, read_timeout_seconds=60) as client:
            await talk(client)
            print(f"{kind}, {mode}: protocol {client.protocol_version}")
    print("all good")


asyncio.run(main())
