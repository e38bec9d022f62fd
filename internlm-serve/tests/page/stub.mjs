// A tiny OpenAI-compatible server with scripted answers. The last message of a request names the script.
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { createServer } from "node:http";

const page = readFileSync(new URL("../../src/http/chat.html", import.meta.url), "utf8");

/** The policy that the router sends: the page's one script and one style by their hashes, nothing else. */
function policy() {
  const hash = tag => {
    const [, text] = new RegExp(`<${tag}>([^]*?)</${tag}>`).exec(page);
    return `'sha256-${createHash("sha256").update(text).digest("base64")}'`;
  };
  return `default-src 'none'; script-src ${hash("script")}; style-src ${hash("style")}; connect-src 'self'; img-src data:; `
    + "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'";
}

const chunk = (delta, finish_reason = null) => ({ id: "c", object: "chat.completion.chunk", created: 0, model: "stub", choices: [{ index: 0, delta, finish_reason }] });
const usage = completion_tokens => ({ ...chunk({}), choices: [], usage: { prompt_tokens: 21, completion_tokens, total_tokens: 21 + completion_tokens, prompt_tokens_details: { cached_tokens: 16 } } });
const event = value => `data: ${typeof value === "string" ? value : JSON.stringify(value)}\n\n`;
const sleep = ms => new Promise(done => setTimeout(done, ms));

/** Events of an answer in pieces of a few characters, with the counts at its end. */
function whole(text, size = 5) {
  const pieces = Array.from(text).reduce((all, c, i) => (i % size ? all[all.length - 1] += c : all.push(c), all), []);
  return [chunk({ role: "assistant", content: "" }), ...pieces.map(content => chunk({ content })), chunk({}, "stop"), usage(pieces.length), "[DONE]"].map(event);
}

export const MARKDOWN = readFileSync(new URL("sample.md", import.meta.url), "utf8");
export const CHINESE = readFileSync(new URL("sample.zh.md", import.meta.url), "utf8");
export const MALICIOUS = `<img src=x onerror="window.hacked=1"> <script>window.hacked=2</script>
[click](javascript:window.hacked=3) [data](data:text/html,<script>window.hacked=4</script>) [v](vbscript:x)
![track](http://tracker.invalid/pixel.png) <a href="javascript:window.hacked=5">a</a> <http://good.invalid/" onclick="x>
[spaces](java\tscript:window.hacked=6) [ok](https://good.invalid/?q=%22%3E%3Cscript%3E)

| <svg onload=window.hacked=7> | b |
|---|---|
| <iframe src=javascript:window.hacked=8> | <br> |

\`\`\`html"><img src=x onerror=window.hacked=9>
<script>window.hacked=10</script>
`;

export async function serve() {
  const requests = [];
  const state = { gate: null, key: null, busy: 0 };

  async function chat(request, response, body) {
    requests.push({ body, authorization: request.headers.authorization });
    const fail = (status, error, headers = {}) => {
      response.writeHead(status, { "Content-Type": "application/json", ...headers });
      response.end(JSON.stringify({ error: { message: "", type: "invalid_request_error", param: null, code: null, ...error } }));
    };
    const script = body.messages.at(-1).content.split(" ")[0];
    if (script === "busy" && state.busy++ % 2 === 0) return fail(429, { message: "queue is full", code: "rate_limit_exceeded" }, { "Retry-After": "1" });
    if (script === "unready") return fail(503, { message: "model is loading", type: "server_error" }, { "Retry-After": "2" });
    if (script === "long") return fail(400, { message: "the prompt has 9000 tokens, the context 4096", code: "context_length_exceeded" });
    if (script === "crash") return fail(500, { message: "worker <b>stopped</b>", type: "server_error" });
    if (script === "html") { response.writeHead(502, { "Content-Type": "text/html" }); return response.end("<h1>Bad gateway</h1>"); }
    response.writeHead(200, { "Content-Type": "text/event-stream", "Cache-Control": "no-store" });
    response.on("close", () => { state.closed = true; });
    state.closed = false;
    if (script === "markdown") for (const e of whole(MARKDOWN, 7)) response.write(e);
    else if (script === "中文") {
      // Split inside of characters, lines and events.
      const bytes = Buffer.from(": a comment\r\n\r\n" + whole(CHINESE, 3).join("").replaceAll("\n", "\r\n"));
      for (let at = 0; at < bytes.length; at += 97) { response.write(bytes.subarray(at, at + 97)); await sleep(1); }
    } else if (script === "malicious") for (const e of whole(MALICIOUS, 3)) response.write(e);
    else if (script === "slow") {
      for (let i = 0; !state.closed; i++) { response.write(event(chunk({ content: `word${i} ` }))); await sleep(20); }
    } else if (script === "gate") {
      response.write(event(chunk({ content: "before " })));
      await new Promise(open => { state.gate = open; });
      for (const e of whole("after", 1)) response.write(e);
    } else if (script === "midway") {
      response.write(event(chunk({ content: "half of" })));
      response.write(event({ error: { message: "cache is exhausted", type: "server_error", param: null, code: null } }));
    } else if (script === "cut") response.write(event(chunk({ content: "half of an answer" })));
    else if (script === "limit") {
      response.write(event(chunk({ content: "as far as" })) + event(chunk({}, "length")) + event(usage(3)) + event("[DONE]"));
    } else if (script === "tool") {
      response.write(event(chunk({ reasoning_content: "The weather needs a look." })) + event(chunk({ content: "I'll look." })));
      response.write(event(chunk({ tool_calls: [{ index: 0, id: "call_1", type: "function", function: { name: "weather", arguments: "" } }] })));
      for (const part of ['{"city":', '"上海",', '"html":"<img src=x onerror=window.hacked=11>"}']) response.write(event(chunk({ tool_calls: [{ index: 0, function: { arguments: part } }] })));
      response.write(event(chunk({}, "tool_calls")) + event(usage(12)) + event("[DONE]"));
    } else for (const e of whole(`You said: ${body.messages.at(-1).content}`)) { response.write(e); await sleep(25); }
    response.end();
  }

  const server = createServer(async (request, response) => {
    if (request.url === "/chat") {
      response.writeHead(200, { "Content-Type": "text/html; charset=utf-8", "Content-Security-Policy": policy(), "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer" });
      return response.end(page);
    }
    if (state.key && request.headers.authorization !== `Bearer ${state.key}`) {
      response.writeHead(401, { "Content-Type": "application/json" });
      return response.end(JSON.stringify({ error: { message: "no key", type: "authentication_error", param: null, code: "invalid_api_key" } }));
    }
    if (request.url === "/v1/models") {
      response.writeHead(200, { "Content-Type": "application/json" });
      return response.end(JSON.stringify({ object: "list", data: [{ id: "internlm2_5-1_8b-chat", object: "model" }, { id: "poetry-lora", object: "model" }] }));
    }
    if (request.url === "/v1/chat/completions" && request.method === "POST") {
      const parts = [];
      for await (const part of request) parts.push(part);
      return chat(request, response, JSON.parse(Buffer.concat(parts)));
    }
    requests.push({ unexpected: request.url });
    response.writeHead(404).end();
  });
  await new Promise(done => server.listen(0, "127.0.0.1", done));
  return { address: `http://127.0.0.1:${server.address().port}`, requests, state, close: () => { server.closeAllConnections(); server.close(); } };
}
