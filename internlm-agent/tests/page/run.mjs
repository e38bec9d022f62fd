// Tests of a trace's HTML page in headless Chromium, from the disk and without a network.
//   (cd internlm-serve/tests/page && npm install --no-package-lock)      the driver, shared with the chat page's tests
//   INTERNLM_AGENT_TEST_PAGES=$PWD/target/trace-pages cargo test -p internlm-agent --test agents traces::
//   node internlm-agent/tests/page/run.mjs target/trace-pages [--screenshots FOLDER] [--only PART-OF-A-NAME]
import assert from "node:assert/strict";
import { existsSync, mkdirSync } from "node:fs";
import { join, resolve } from "node:path";
import { pathToFileURL } from "node:url";
import { parseArgs } from "node:util";
import { open, runAll, test } from "../../../internlm-serve/tests/page/browser.mjs";

const { values, positionals } = parseArgs({ allowPositionals: true, options: { screenshots: { type: "string" }, only: { type: "string" } } });
const folder = resolve(positionals[0] ?? "target/trace-pages");
for (const name of ["trace.html", "empty.html"]) if (!existsSync(join(folder, name))) throw new Error(`${folder} has no ${name}; a test makes it, see the head of this file`);

/** A page of the folder in a context of its own; `problems` gathers what was thrown, logged or asked for. */
async function visit(browser, name, options = {}) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 800 }, offline: true, ...options });
  const page = await context.newPage();
  const address = pathToFileURL(join(folder, name)).href;
  const problems = [];
  page.on("pageerror", error => problems.push(String(error)));
  page.on("console", message => problems.push(`${message.type()}: ${message.text()}`));
  page.on("dialog", dialog => { problems.push(`dialog ${dialog.message()}`); dialog.dismiss(); });
  page.on("request", request => { if (request.url() !== address) problems.push(`request to ${request.url()}`); });
  page.setDefaultTimeout(15000);
  await page.goto(address);
  return { page, context, problems };
}

const { browser, close } = await open();
console.log(`Chromium ${browser.version()}`);

/** A test with a page of its own; in the end nothing was thrown, logged or asked for. */
const look = (title, name, run, options) => test(title, async () => {
  const { page, context, problems } = await visit(browser, name, options);
  try {
    await run(page);
    assert.deepEqual(problems, []);
  } finally { await context.close(); }
});

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
    const wide = await page.evaluate(() => [...document.querySelectorAll("body, body *")].filter(node => {
      const box = node.getBoundingClientRect();
      return box.width > 0 && (box.right > innerWidth + 1 || box.left < -1);
    }).map(node => node.outerHTML.slice(0, 120)));
    assert.deepEqual(wide, []);
    assert.ok(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth));
  }, { viewport: { width, height: 800 } });
}

for (const [device, viewport] of Object.entries({ phone: { width: 390, height: 844 }, laptop: { width: 1280, height: 900 } })) {
  for (const colorScheme of ["light", "dark"]) {
    look(`the page follows the system's colours: ${device}, ${colorScheme}`, "trace.html", async page => {
      const [ground, text] = await page.evaluate(() => [getComputedStyle(document.body).backgroundColor, getComputedStyle(document.body).color].map(color => color.match(/\d+/g).slice(0, 3).reduce((sum, part) => sum + Number(part), 0)));
      assert.ok(colorScheme === "light" ? ground > 600 && text < 200 : ground < 200 && text > 600, `${ground} ${text}`);
      if (values.screenshots) {
        mkdirSync(values.screenshots, { recursive: true });
        await page.screenshot({ path: join(values.screenshots, `${device}-${colorScheme}.png`), fullPage: true });
      }
    }, { viewport, colorScheme });
  }
}

let passed = false;
try { passed = await runAll(values.only); } finally { await close(); }
process.exitCode = passed ? 0 : 1;
