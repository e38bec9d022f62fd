// OpenAI's own client for Node as a peer of the server: client.cjs BASE_URL API_KEY.
//
// The server runs the small model of ../http/fixture.rs, which a bias makes say what is asked for here.
"use strict";

const assert = require("node:assert/strict");
const OpenAI = require("openai");

const [HELLO, WEATHER, TIME, END] = ["264", "266", "267", "259"];
const [baseURL, apiKey] = process.argv.slice(2);
const client = new OpenAI({ baseURL, apiKey, maxRetries: 0, timeout: 60000 });
const HI = [{ role: "user", content: "Hi" }];
const create = (fields, options) =>
  client.chat.completions.create({ model: "tiny", messages: HI, max_tokens: 3, ...fields }, options);

const tool = (name) => ({ type: "function", function: { name, parameters: { type: "object" } } });
const TOOLS = {
  tools: [tool("weather"), tool("time")],
  presence_penalty: 2,
  frequency_penalty: 2,
  logit_bias: { [WEATHER]: 100, [TIME]: 98.7, [END]: 97.4 },
  max_tokens: 8,
};
const hello = { logit_bias: { [HELLO]: 100 } };

const checks = {
  async chat() {
    const models = await client.models.list();
    assert.deepEqual(models.data.map((model) => model.id), ["tiny"]);
    const reply = await create(hello);
    assert.equal(reply.choices[0].message.content, "HelloHelloHello");
    assert.equal(reply.usage.completion_tokens, 3);
  },

  async stream() {
    const stream = await create({ ...hello, stream: true, stream_options: { include_usage: true } });
    let text = "";
    let usage = null;
    for await (const chunk of stream) {
      text += chunk.choices[0]?.delta.content ?? "";
      usage = chunk.usage ?? usage;
    }
    assert.equal(text, "HelloHelloHello");
    assert.equal(usage.completion_tokens, 3);
    // One that is left in the middle.
    const endless = await create({ max_tokens: 100000, ignore_eos: true, stream: true });
    for await (const _ of endless) break;
  },

  async tools() {
    const reply = await create(TOOLS);
    const calls = reply.choices[0].message.tool_calls;
    assert.deepEqual(calls.map((call) => call.function.name), ["weather", "time"]);
    assert.deepEqual(JSON.parse(calls[0].function.arguments), { city: "Paris" });
    const final = await client.chat.completions
      .stream({ model: "tiny", messages: HI, ...TOOLS })
      .finalChatCompletion();
    assert.deepEqual(final.choices[0].message.tool_calls.map((call) => call.function.name), ["weather", "time"]);
    assert.equal(final.choices[0].finish_reason, "tool_calls");
  },

  async json_schema() {
    const schema = { type: "object", properties: { ok: { type: "boolean" } }, required: ["ok"] };
    const response_format = { type: "json_schema", json_schema: { name: "answer", schema } };
    const reply = await create({ response_format, max_tokens: 200, temperature: 0 });
    if (reply.choices[0].finish_reason === "stop") {
      assert.equal(typeof JSON.parse(reply.choices[0].message.content).ok, "boolean");
    }
  },

  async logprobs() {
    const reply = await create({ ...hello, logprobs: true, top_logprobs: 2 });
    const content = reply.choices[0].logprobs.content;
    assert.deepEqual(content.map((token) => token.token), ["Hello", "Hello", "Hello"]);
    assert.equal(Buffer.from(content[0].bytes).toString(), "Hello");
    assert.equal(content[0].top_logprobs.length, 2);
  },

  async completions() {
    const fields = { model: "tiny", max_tokens: 4, ignore_eos: true };
    const one = await client.completions.create({ ...fields, prompt: "ab" });
    const ids = await client.completions.create({ ...fields, prompt: [97, 98] });
    assert.equal(one.choices[0].text, ids.choices[0].text);
  },

  async errors() {
    const refused = (kind, param, promise) =>
      assert.rejects(promise, (error) => error instanceof kind && (error.param ?? null) === param);
    await refused(OpenAI.BadRequestError, "temperature", create({ temperature: 3 }));
    await refused(OpenAI.BadRequestError, "messages", create({ messages: [] }));
    await refused(OpenAI.NotFoundError, "model", create({ model: "gpt-4" }));
    const stranger = new OpenAI({ baseURL, apiKey: "wrong", maxRetries: 0 });
    await refused(OpenAI.AuthenticationError, null, stranger.models.list());
  },
};

(async () => {
  for (const [name, check] of Object.entries(checks)) {
    await check();
    console.log(`${name}: good`);
  }
  console.log("openai for node: all good");
})().catch((error) => {
  console.error(error);
  process.exit(1);
});
