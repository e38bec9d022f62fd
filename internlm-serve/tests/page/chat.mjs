// Talking to the page as a reader does, and what it sends to the server.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test, visit } from "./browser.mjs";

const send = async (page, text) => { await page.locator("#input").fill(text); await page.locator("#input").press("Enter"); };
const answered = page => page.locator(".answer:last-child .again").waitFor();
const ask = async (page, text) => { await send(page, text); await answered(page); };
const shown = (page, text) => page.locator(".answer", { hasText: text });
const stored = page => page.evaluate(() => Object.entries(localStorage).filter(([key]) => key.startsWith("internlm.chat.")).map(([, value]) => JSON.parse(value)));

export function chatTests(browser, stub) {
  /** A test with a page of its own; in the end no policy was broken and nothing was thrown. */
  const talk = (name, run, options) => test(name, async () => {
    const { page, context, problems } = await visit(browser, stub.address, options);
    stub.requests.length = 0;
    Object.assign(stub.state, { key: null, busy: 0, gate: null });
    try {
      await run(page, context);
      assert.deepEqual(problems, []);
      assert.deepEqual(stub.requests.filter(r => r.unexpected), []);
    } finally { await context.close(); }
  });
  const last = () => stub.requests.at(-1);

  talk("a message is sent, the answer streams, tokens are counted", async page => {
    await ask(page, "  hi there  ");
    assert.deepEqual(last().body, { model: "internlm2_5-1_8b-chat", messages: [{ role: "user", content: "hi there" }], stream: true, stream_options: { include_usage: true } });
    assert.equal(last().authorization, undefined);
    assert.equal(await page.locator(".answer .markdown").innerText(), "You said: hi there");
    const stats = page.locator(".answer .stats");
    assert.match(await stats.innerText(), /^4 tokens( · [\d.]+ tokens\/s)?$/);
    assert.match(await stats.getAttribute("title"), /^21 tokens in the prompt, 16 of them cached; first token after [\d.]+ s$/);
    await ask(page, "and again");
    assert.deepEqual(last().body.messages.map(m => m.role), ["user", "assistant", "user"]);
    assert.equal(await page.locator("#title").innerText(), "hi there");
  });

  talk("text is shown before the answer is complete, and its rate after", async page => {
    await send(page, "gate");
    await page.getByText("before").waitFor();
    // No rate is made of less than 50 ms; however late pieces come, they come after this.
    await page.waitForTimeout(100);
    assert.equal(await page.locator("#send").getAttribute("aria-label"), "Stop (Esc)");
    stub.state.gate();
    await answered(page);
    assert.equal(await page.locator(".answer .markdown").innerText(), "before after");
    const [, rate] = /^5 tokens · ([\d.]+) tokens\/s$/.exec(await page.locator(".answer .stats").innerText());
    assert.ok(rate > 0 && rate < 50, `4 tokens in 100 ms or more are not ${rate} a second`);
  });

  for (const how of ["button", "Escape"]) {
    talk(`stop by ${how} ends the request and keeps what has come`, async page => {
      await send(page, "slow");
      await page.getByText("word3 ").waitFor();
      if (how === "button") await page.locator("#send").click(); else await page.keyboard.press("Escape");
      await answered(page);
      assert.match(await page.locator(".answer").innerText(), /word3[^]*Stopped\.[^]*≈ \d+ tokens/);
      for (let i = 0; i < 100 && !stub.state.closed; i++) await page.waitForTimeout(20);
      assert.ok(stub.state.closed);
      const [chat] = await stored(page);
      assert.equal(chat.messages[1].finish, "stopped");
      await ask(page, "go on");
      assert.match(last().body.messages[1].content, /^word0 word1 /);
    });
  }

  talk("settings reach the request; empty ones leave the choice to the server", async page => {
    await page.locator("#open-settings").click();
    for (const [name, value] of Object.entries({ system: "Be brief.", temperature: "0", top_p: "0.9", max_tokens: "64", seed: "7" })) await page.locator(`[name=${name}]`).fill(value);
    await page.locator("#close-settings").click();
    await page.locator("#model").selectOption("poetry-lora");
    await ask(page, "hi");
    const { messages, ...rest } = last().body;
    assert.deepEqual(rest, { model: "poetry-lora", temperature: 0, top_p: 0.9, max_tokens: 64, seed: 7, stream: true, stream_options: { include_usage: true } });
    assert.deepEqual(messages[0], { role: "system", content: "Be brief." });
    assert.equal(await page.locator("#system").innerText(), "System prompt: Be brief.");
    await page.locator("#open-settings").click();
    await page.locator("[name=temperature]").fill("3");
    await page.locator("[name=temperature]").press("Tab");
    await page.locator("[name=top_p]").fill("");
    await page.locator("#close-settings").click();
    await ask(page, "again");
    assert.equal(last().body.temperature, 0); // 3 is out of range
    assert.equal("top_p" in last().body, false);
    await page.locator("#new").click();
    await ask(page, "new");
    assert.equal(last().body.seed, 7);
    await page.locator("#system").click();
    await page.locator("[name=system]").pressSequentially(" Be kind.");
    await page.keyboard.press("Escape");
    await ask(page, "kind?");
    assert.match(last().body.messages[0].content, /Be kind\./);
  });

  talk("markdown is built, code is copied", async (page, context) => {
    await context.grantPermissions(["clipboard-read", "clipboard-write"]);
    await ask(page, "markdown");
    for (const part of ["h2", "strong", "em", "ol > li > ul > li", "pre code", "blockquote", "table td", "hr", "a[href='https://arxiv.org/abs/2309.06180']"]) assert.ok(await page.locator(".answer " + part).count(), part);
    await page.locator("[data-copy]").click();
    const clipboard = () => page.evaluate(() => navigator.clipboard.readText());
    assert.match(await clipboard(), /^fn decode\(token: u32, [^]*\n {4}head\(hidden\)\n\}$/);
    await page.locator(".answer .actions .copy").click();
    assert.equal(await clipboard(), readFileSync(new URL("sample.md", import.meta.url), "utf8"));
  });

  talk("characters, lines and events split between reads", async page => {
    await ask(page, "中文");
    const [chat] = await stored(page);
    assert.equal(chat.messages[1].content, readFileSync(new URL("sample.zh.md", import.meta.url), "utf8"));
    assert.equal(await page.locator(".answer strong").first().innerText(), "解码器会保存每个词元的键和值。");
  });

  talk("malicious text stays text", async page => {
    await ask(page, "malicious");
    await ask(page, "tool");
    await page.reload();
    await page.locator(".answer").first().waitFor();
    await page.waitForTimeout(200);
    assert.equal(await page.evaluate(() => window.hacked), undefined);
    assert.equal(await page.locator("#thread :is(img, script, iframe, object, embed, form, style, link)").count(), 0);
    assert.equal(await page.locator("#thread [onload], #thread [onerror], #thread [onclick]").count(), 0);
    const links = await page.locator("#thread a").evaluateAll(all => all.map(a => [a.protocol, a.rel, a.target]));
    assert.ok(links.length >= 2);
    for (const link of links) assert.deepEqual(link, [link[0] === "http:" ? "http:" : "https:", "noopener noreferrer nofollow", "_blank"]);
    assert.ok((await page.locator(".answer").first().innerText()).includes("<img src=x onerror=\"window.hacked=1\">"));
  });

  talk("a tool call and reasoning are shown folded", async page => {
    await ask(page, "tool");
    const details = page.locator(".answer details:visible");
    assert.deepEqual(await details.locator("summary").allInnerTexts(), ["Reasoning", "Tool call: weather"]);
    assert.equal(await details.last().evaluate(node => node.open), false);
    await details.last().locator("summary").press("Enter");
    assert.match(await details.last().locator("pre").innerText(), /^\{\n {2}"city": "上海",\n {2}"html": "<img/);
    await ask(page, "hi");
    assert.deepEqual(last().body.messages[1], { role: "assistant", content: "I'll look." });
  });

  talk("a busy server: the answer waits for Retry-After, then is asked for again", async page => {
    await ask(page, "busy");
    const failure = page.locator(".failure");
    assert.match(await failure.innerText(), /^The server is busy\.\s+queue is full\s+Try again \(in 1 s\)$/);
    assert.ok(await failure.locator("button").isDisabled());
    await failure.getByText("Try again", { exact: true }).click();
    await shown(page, "You said: busy").waitFor();
    assert.deepEqual(last().body.messages, [{ role: "user", content: "busy" }]);
    assert.equal(await failure.count(), 0);
  });

  for (const [script, want] of [
    ["unready", /busy\.\s+model is loading\s+Try again \(in [12] s\)/], ["long", /does not fit[^]*9000 tokens/], ["crash", /failed to answer\.\s+worker <b>stopped<\/b>/],
    ["html", /failed to answer\.\s+Try again/], ["midway", /half of[^]*failed to answer\.\s+cache is exhausted/], ["cut", /half of an answer[^]*connection ended before/], ["limit", /as far as\s+Stopped at the limit of tokens/],
  ]) {
    talk(`trouble is explained: ${script}`, async page => {
      await ask(page, script);
      assert.match(await page.locator(".answer").innerText(), want);
      await page.reload(); // and is still there
      await answered(page);
      assert.match(await page.locator(".answer").innerText(), script === "unready" ? /model is loading/ : want);
    });
  }

  talk("a server that can't be reached", async (page, context) => {
    await page.locator("#model option").first().waitFor({ state: "attached" });
    await context.setOffline(true);
    await ask(page, "hi");
    assert.match(await page.locator(".failure").innerText(), /can't be reached/);
    await context.setOffline(false);
    await page.locator(".failure button").click();
    await shown(page, "You said: hi").waitFor();
  });

  talk("an API key is asked for, sent, and kept only if wanted", async page => {
    stub.state.key = "sesame";
    await page.reload();
    await page.getByRole("status").getByText("asks for an API key").waitFor();
    await ask(page, "hi");
    assert.match(await page.locator(".failure").innerText(), /asks for an API key/);
    await page.locator(".failure").getByText("API key", { exact: true }).click();
    assert.equal(await page.evaluate(() => document.activeElement.id), "key");
    await page.locator("#key").fill("wrong");
    await page.locator("#close-settings").click();
    await page.locator(".failure .again").click();
    await page.getByText("does not accept this API key").first().waitFor();
    await page.locator("#open-settings").click();
    await page.locator("#key").fill("sesame");
    await page.locator("#close-settings").click();
    await page.locator(".failure .again").click();
    await shown(page, "You said: hi").waitFor();
    assert.equal(last().authorization, "Bearer sesame");
    const everywhere = () => page.evaluate(() => JSON.stringify([{ ...localStorage }, { ...sessionStorage }]));
    assert.ok(!(await everywhere()).includes("sesame"));
    await page.locator("#open-settings").click();
    await page.locator("#keep-key").check();
    await page.reload();
    await ask(page, "more");
    assert.equal(last().authorization, "Bearer sesame");
    assert.ok(!(await page.evaluate(() => JSON.stringify({ ...localStorage }))).includes("sesame"));
  });

  talk("regenerate replaces the last answer, edit replaces all after it", async page => {
    await ask(page, "one");
    await ask(page, "two");
    await page.locator(".answer:last-child .again").click();
    await page.waitForFunction(() => document.querySelectorAll(".answer .actions .again").length === 2);
    assert.deepEqual(last().body.messages.map(m => m.content), ["one", "You said: one", "two"]);
    assert.equal(stub.requests.length, 3);
    await page.locator(".user").first().hover();
    await page.locator(".user .edit").first().click();
    await page.locator(".editor textarea").fill("uno");
    await page.keyboard.press("Escape");
    assert.equal(await page.locator(".user .text").first().innerText(), "one");
    await page.locator(".user").first().hover();
    await page.locator(".user .edit").first().click();
    await page.locator(".editor textarea").fill("uno");
    await page.keyboard.press("Enter");
    await shown(page, "You said: uno").waitFor();
    assert.deepEqual(last().body.messages, [{ role: "user", content: "uno" }]);
    assert.equal(await page.locator(".message").count(), 2);
  });

  talk("editing while an answer streams stops that answer", async page => {
    await send(page, "slow");
    await page.getByText("word3 ").waitFor();
    await page.locator(".user").hover();
    await page.locator(".user .edit").click();
    await page.locator(".editor textarea").fill("quick");
    await page.keyboard.press("Enter");
    await shown(page, "You said: quick").waitFor();
    await answered(page);
    assert.equal(await page.locator(".message").count(), 2);
    assert.equal((await stored(page))[0].messages.length, 2);
    assert.equal(await page.locator("#send").getAttribute("aria-label"), "Send");
  });

  talk("conversations are kept, renamed, exported, deleted and brought back", async page => {
    await ask(page, "first");
    await page.locator("#new").click();
    await ask(page, "second");
    await page.reload();
    await answered(page);
    assert.equal(await page.locator("#title").innerText(), "second"); // the one that was open
    assert.deepEqual(await page.locator("#chats .open").allInnerTexts(), ["second", "first"]);
    await page.locator("#chats .open").last().click();
    await shown(page, "You said: first").waitFor();
    await page.locator("#chats .current .edit").click();
    await page.locator("#chats input").fill("Über 一");
    await page.keyboard.press("Enter");
    assert.deepEqual(await page.locator("#chats .open").allInnerTexts(), ["second", "Über 一"]);
    const [one] = await Promise.all([page.waitForEvent("download"), page.locator("#chats .current .export").click()]);
    assert.equal(one.suggestedFilename(), "Über-一.json");
    const file = JSON.parse(readFileSync(await one.path(), "utf8"));
    assert.deepEqual(file.messages, [{ role: "user", content: "first" }, { role: "assistant", content: "You said: first" }]);
    const [all] = await Promise.all([page.waitForEvent("download"), page.locator("#export-all").click()]);
    assert.equal(JSON.parse(readFileSync(await all.path(), "utf8")).length, 2);
    await page.locator("#chats .current .delete").click();
    assert.equal((await stored(page)).length, 1);
    await page.getByText("Undo").click();
    assert.equal((await stored(page)).length, 2);
    await shown(page, "You said: first").waitFor();
  });

  talk("an answer goes on while another conversation is open", async page => {
    await send(page, "gate");
    await page.getByText("before").waitFor();
    await page.locator("#new").click();
    await ask(page, "meanwhile");
    stub.state.gate();
    await page.waitForFunction(() => !document.querySelector("#chats .busy"));
    await page.locator("#chats .open", { hasText: "gate" }).click();
    await shown(page, "before after").waitFor();
  });

  talk("an answer that is being written survives leaving the page", async page => {
    await send(page, "slow");
    await page.getByText("word3 ").waitFor();
    await page.reload();
    await answered(page);
    assert.match(await page.locator(".answer").innerText(), /word3[^]*Stopped\./);
  });

  talk("another tab sees what is written here", async (page, context) => {
    const other = await context.newPage();
    await other.goto(stub.address + "/chat");
    await ask(page, "shared");
    await other.locator("#chats .open", { hasText: "shared" }).click();
    await shown(other, "You said: shared").waitFor();
  });

  talk("broken and full storage do not stop the page", async page => {
    await page.evaluate(() => { localStorage.setItem("internlm.chat.x", "{"); localStorage.setItem("internlm.chat.y", "{\"id\":5}"); localStorage.setItem("internlm.settings", "]"); });
    await page.reload();
    await page.evaluate(() => { Storage.prototype.setItem = () => { throw new DOMException("full", "QuotaExceededError"); }; });
    await ask(page, "hi");
    assert.match(await page.locator("#toast").innerText(), /storage is full/);
    assert.equal(await page.locator(".answer .markdown").innerText(), "You said: hi");
  });

  talk("Enter does not send while an input method composes, nor with Shift", async page => {
    await page.locator("#input").fill("nihao");
    await page.locator("#input").evaluate(input => {
      for (const options of [{ isComposing: true }, { keyCode: 229 }]) input.dispatchEvent(new KeyboardEvent("keydown", { key: "Enter", bubbles: true, cancelable: true, ...options }));
    });
    await page.locator("#input").press("Shift+Enter");
    await page.locator("#input").pressSequentially("x");
    assert.equal(await page.locator(".message").count(), 0);
    assert.equal(await page.locator("#input").inputValue(), "nihao\nx");
    await page.locator("#input").press("Enter");
    await answered(page);
    assert.equal(last().body.messages[0].content, "nihao\nx");
  });

  talk("on a touch screen Enter starts a line and the button sends", async page => {
    await page.locator("#input").fill("a");
    await page.locator("#input").press("Enter");
    assert.equal(await page.locator("#input").inputValue(), "a\n");
    await page.locator("#send").tap();
    await answered(page);
    await page.locator("#menu").tap();
    await page.locator("#chats .open").waitFor();
    await page.keyboard.press("Escape");
    await page.locator("#chats .open").waitFor({ state: "hidden" });
  }, { viewport: { width: 360, height: 740 }, hasTouch: true, isMobile: true });

  talk("the keyboard reaches everything, and everything has a name", async page => {
    await ask(page, "markdown");
    const seen = new Set();
    for (let i = 0; i < 60; i++) {
      await page.keyboard.press("Tab");
      seen.add(await page.evaluate(() => { const a = document.activeElement; return a.id || a.dataset.copy || a.className || a.localName; }));
    }
    for (const want of ["new", "model", "language", "open-settings", "input", "code", "icon copy", "icon edit", "icon again", "icon export", "icon delete", "open", "table"]) assert.ok(seen.has(want), `${want}: ${[...seen]}`);
    const nameless = await page.evaluate(() => [...document.querySelectorAll("button, input, textarea, select")].filter(node => node.id !== "system" && node.closest("#toast") === null
      && !(node.getAttribute("aria-label") || node.textContent.trim() || node.closest("label"))).map(node => node.outerHTML));
    assert.deepEqual(nameless, []);
    await page.waitForFunction(() => document.getElementById("status").textContent.startsWith("Answer: KV cache"));
  });

  talk("who scrolls up stays there, and finds the way back", async page => {
    await ask(page, "markdown");
    await send(page, "slow");
    await page.getByText("word9 ").waitFor();
    await page.locator("#scroll").hover();
    await page.mouse.wheel(0, -400);
    await page.locator("#latest").waitFor();
    const top = () => page.locator("#scroll").evaluate(node => node.scrollTop);
    const before = await top();
    await page.getByText("word40 ").waitFor();
    assert.equal(await top(), before);
    await page.locator("#latest").click();
    assert.ok(await top() > before);
    await page.keyboard.press("Escape");
  });

  talk("the language is the browser's, until another is chosen", async page => {
    assert.equal(await page.evaluate(() => document.documentElement.lang), "zh-CN");
    assert.equal(await page.locator("#input").getAttribute("placeholder"), "输入消息");
    await ask(page, "limit");
    assert.match(await page.locator(".answer").innerText(), /已达到词元数上限。[^]*3 词元/);
    await page.locator("#language").click();
    assert.match(await page.locator(".answer").innerText(), /Stopped at the limit of tokens\.[^]*3 tokens/);
    await page.reload();
    assert.equal(await page.locator("#input").getAttribute("placeholder"), "Message");
  }, { locale: "zh-CN" });

  talk("both languages have the same words", async page => {
    const [en, zh] = await page.evaluate(() => Object.values(WORDS).map(words => Object.entries(words).map(([key, value]) => `${key} ${typeof value}`)));
    assert.deepEqual(zh, en);
    const missing = await page.evaluate(() => [...document.querySelectorAll("[data-text], [data-label], [data-placeholder]")].flatMap(node => Object.values(node.dataset)).filter(key => !WORDS.en[key] && key !== "code"));
    assert.deepEqual(missing, []);
  });
}
