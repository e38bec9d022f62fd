"""A server with the official SDK for Python: `server.py stdio`, or `server.py http PORT`."""

import sys

from mcp.server.mcpserver import Audio, Image, MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp_types import ContentBlock, ResourceLink, TextContent
from pydantic import BaseModel

server = MCPServer("peer", instructions="Ask politely.")


class Weather(BaseModel):
    celsius: float
    sky: str


@server.tool()
def add(a: int, b: int) -> int:
    """Adds two numbers."""
    return a + b


@server.tool()
def weather(city: str) -> Weather:
    """The weather in a city."""
    return Weather(celsius=21.5, sky=f"clear over {city}")


@server.tool()
def media() -> list:
    """A picture and a sound."""
    return [Image(data=b"picture", format="png"), Audio(data=b"sound", format="wav")]


@server.tool()
def link() -> list[ContentBlock]:
    """A text and a link."""
    text = TextContent(type="text", text="see")
    return [text, ResourceLink(type="resource_link", uri="test://a", name="a")]


@server.tool()
def fails() -> str:
    """Does not work."""
    raise ToolError("the disk is full")


if sys.argv[1] == "stdio":
    server.run()
else:
    server.run("streamable-http", port=int(sys.argv[2]))
