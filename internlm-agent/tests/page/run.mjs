// Tests of a trace's HTML page in headless Chromium, from the disk and without a network.
//   (cd internlm-serve/tests/page && npm install --no-package-lock)      the driver, shared with the chat page's tests
//   INTERNLM_AGENT_TEST_PAGES=$PWD/target/trace-pages cargo test -p internlm-agent --test agents traces::
//   node internlm-agent/tests/page/run.mjs target/trace-pages [--screenshots FOLDER] [--only PART-OF-A-NAME]
import assert from "node:assert/strict";
import { saved } from "../../../internlm-serve/tests/page/saved.mjs";

const { look, fits, colours, run } = await saved("target/trace-pages", ["trace.html", "empty.html"]);

/** Opens everything that is folded. */
const unfold = async page => {
  const folded = page.locator("details:not([open]) > summary");
  while (await folded.count()) await folded.first().click();
};

look("the runs are there, each under its agent", "trace.html", async page => {
  assert.equal(await page.title(), "Agent trace");
  const heads = await page.locator("h2").allInnerTexts();
  assert.equal(heads.length, 3, heads.join(" | "));
  assert.ok(heads[0].startsWith("<img src=x") && heads[1].startsWith("waits ") && heads[2].startsWith("limited "), heads.join(" | "));
  for (const head of heads) assert.match(head, / · [\d.]+ m?s$/);
});

look("turns, calls, failures and endings are told", "trace.html", async page => {
  await unfold(page);
  const text = await page.locator("main").innerText();
  for (const part of ["Request 1", "Try 1 failed: ", "draw failed", "there is no tool `nobody`", "[image] \"plot.png\"", "Waits for approval", "bold({\"text\":\"a\"})", "truncated after 3 turns", "paused after 1 turn", "limit of calls (1) after 1 turn"]) assert.ok(text.includes(part), `${part}: ${text.slice(0, 2000)}`);
  assert.equal(await page.locator("details.model").count(), 5);
  assert.equal(await page.locator("details.tool:not(.bad)").count(), 1);
  assert.match(await page.locator("details.model .dim").nth(2).innerText(), / tokens · [\d.]+ m?s · cut$/);
});

look("bars lie within their boxes", "trace.html", async page => {
  const bars = page.locator("details[open] .bar");
  assert.ok((await bars.count()) >= 7);
  for (const bar of await bars.all()) {
    const [outer, inner] = [await bar.boundingBox(), await bar.locator("i").boundingBox()];
    assert.ok(inner.width >= 2 && inner.x >= outer.x - 1 && inner.x + inner.width <= outer.x + outer.width + 3, JSON.stringify([outer, inner]));
  }
});

look("requests fold and unfold", "trace.html", async page => {
  const second = page.locator("details", { hasText: "Request 2" }).first();
  assert.equal(await second.getAttribute("open"), null);
  await second.locator("summary").click();
  assert.ok(await second.locator("pre").first().isVisible());
  await second.locator("summary").focus();
  await page.keyboard.press("Enter");
  assert.equal(await second.getAttribute("open"), null);
});

look("texts of models and tools are never markup", "trace.html", async page => {
  await unfold(page);
  assert.ok(await page.locator("pre", { hasText: "<img src=x onerror=" }).first().isVisible());
  assert.equal(await page.locator("img").count(), 0);
  assert.equal(await page.locator("script").count(), 2);
  assert.equal(await page.title(), "Agent trace");
});

look("an empty trace says so", "empty.html", async page => {
  assert.equal(await page.locator("main").innerText(), "The trace is empty.");
});

for (const width of [320, 390, 1280]) {
  look(`nothing is wider than ${width} pixels`, "trace.html", async page => {
    await unfold(page);
    await fits(page);
  }, { viewport: { width, height: 800 } });
}

colours("trace.html");
await run();
