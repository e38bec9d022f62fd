#!/bin/sh
# Fetches the official SDKs and reference servers of MCP for the tests, to target/mcp-peers (or where $1 says).
set -eu
cd "$(dirname "$0")/../../../.."
peers=${1:-target/mcp-peers}
mkdir -p "$peers"
[ -x "$peers/bin/python3" ] || python3 -m venv "$peers"
"$peers/bin/pip" install --quiet --disable-pip-version-check 'mcp>=2,<3'
npm install --silent --no-fund --no-audit --prefix "$peers" \
    @modelcontextprotocol/sdk@1 @modelcontextprotocol/server-everything@2026 @modelcontextprotocol/server-filesystem@2026
