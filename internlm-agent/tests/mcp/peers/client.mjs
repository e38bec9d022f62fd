// A client with the official SDK for JavaScript: `client.mjs stdio COMMAND ARGUMENTS…`, or `client.mjs http URL`.
import assert from "node:assert";
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

// The SDK is where it was installed, not beside this file.
const require = createRequire(`${process.env.MCP_PEERS}/`);
const load = (name) => import(pathToFileURL(require.resolve(`@modelcontextprotocol/sdk/client/${name}.js`)));
const { Client } = await load("index");
const { StdioClientTransport } = await load("stdio");
const { StreamableHTTPClientTransport } = await load("streamableHttp");

const [kind, where, ...args] = process.argv.slice(2);
const transport = kind === "stdio"
    ? new StdioClientTransport({ command: where, args })
    : new StreamableHTTPClientTransport(new URL(where));
const client = new Client({ name: "peer", version: "1" });
await client.connect(transport);

const { tools } = await client.listTools();
assert.deepEqual(tools.slice(0, 2).map((tool) => tool.name), ["calculator", "text_stats"]);
assert.deepEqual(tools[0].inputSchema.required, ["expression"]);
const call = (name, given) => client.callTool({ name, arguments: given });
const sum = await call("calculator", { expression: "37*12+5" });
assert.equal(sum.content[0].text, "449");
const stats = await call("text_stats", { text: "天 晴" });
assert.equal(stats.structuredContent.characters, 3);
const division = await call("calculator", { expression: "1/0" });
assert.ok(division.isError);
assert.equal(division.content[0].text, "division by zero");
await assert.rejects(() => call("telescope", {}), /there is no tool `telescope`/);
await client.close();
console.log(`${kind}: all good`);
