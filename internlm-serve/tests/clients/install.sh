#!/bin/sh
# Fetches OpenAI's official clients for the tests of the server, to target/clients (or where $1 says).
set -eu
cd "$(dirname "$0")/../../.."
clients=${1:-target/clients}
mkdir -p "$clients"
[ -x "$clients/bin/python3" ] || python3 -m venv "$clients"
"$clients/bin/pip" install --quiet --disable-pip-version-check openai
npm install --silent --no-fund --no-audit --prefix "$clients" openai
