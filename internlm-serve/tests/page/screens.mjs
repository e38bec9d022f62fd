// How the page looks: nothing wider than the window, and screenshots for a person to look at.
import assert from "node:assert/strict";
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { test, visit } from "./browser.mjs";

const PHONE = { viewport: { width: 390, height: 844 }, deviceScaleFactor: 2, hasTouch: true, isMobile: true };
const LAPTOP = { viewport: { width: 1280, height: 800 } };

async function ask(page, text) {
  await page.locator("#input").fill(text);
  await page.locator("#send").click();
  await page.locator(".answer:last-child .again").first().waitFor();
}

export function screenTests(browser, stub, folder) {
  for (const width of [320, 360, 390, 800, 801, 1400]) {
    test(`nothing is wider than ${width} pixels`, async () => {
      const { page, context, problems } = await visit(browser, stub.address, { viewport: { width, height: 700 } });
      for (const text of ["markdown " + "long".repeat(100), "malicious", "tool", "long"]) await ask(page, text);
      const wide = await page.evaluate(() => [...document.querySelectorAll("#main, #main *")].filter(node => {
        if (node.closest("pre, .table, option")) return false;
        const box = node.getBoundingClientRect();
        return box.width > 0 && (box.right > innerWidth + 1 || box.left < -1);
      }).map(node => node.outerHTML.slice(0, 80)));
      assert.deepEqual(wide, []);
      assert.ok(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth));
      assert.deepEqual(problems, []);
      await context.close();
    });
  }

  for (const [device, options] of Object.entries({ phone: PHONE, laptop: LAPTOP })) {
    for (const colorScheme of ["light", "dark"]) {
      for (const locale of ["en-US", "zh-CN"]) {
        const name = [device, colorScheme, locale.slice(0, 2)].join("-");
        test(`screens: ${name}`, async () => {
          const { page, context, problems } = await visit(browser, stub.address, { ...options, colorScheme, locale });
          const shot = async part => { if (folder) { mkdirSync(folder, { recursive: true }); await page.screenshot({ path: join(folder, `${name}-${part}.png`) }); } };
          await page.locator("#model option").first().waitFor({ state: "attached" });
          await shot("1-empty");
          const chinese = locale === "zh-CN";
          await ask(page, chinese ? "TCP 和 UDP 有什么区别？" : "Hello, who are you?");
          await page.locator("#open-settings").click();
          await page.locator("[name=system]").fill(chinese ? "请用简洁的中文回答。" : "Answer in short, plain sentences.");
          await page.locator("[name=temperature]").fill("0.7");
          await page.locator("[name=seed]").fill("42");
          await page.locator("#key").focus();
          await shot("2-settings");
          await page.keyboard.press("Escape");
          assert.equal(await page.locator("#settings").evaluate(node => node.open), false);
          await ask(page, chinese ? "中文 请解释 KV 缓存" : "markdown please: what does a KV cache hold?");
          await page.locator(".answer:last-child").evaluate(node => node.scrollIntoView({ block: "start" }));
          await shot("3-answer");
          await page.locator("#scroll").evaluate(node => { node.scrollTop = node.scrollHeight; });
          await shot("4-end");
          if (await page.locator("#menu").isVisible()) await page.locator("#menu").click();
          await page.locator("#new").click();
          await ask(page, "tool " + (chinese ? "上海今天要带伞吗？" : "Do I need a coat in Shanghai?"));
          await page.locator(".answer details").last().locator("summary").click();
          await ask(page, "long story");
          await ask(page, "unready yet");
          await shot("5-tool-errors");
          await page.locator("#input").fill("slow words");
          await page.locator("#send").click();
          await page.getByText("word12 ").waitFor();
          if (await page.locator("#menu").isVisible()) await page.locator("#menu").click();
          await page.waitForTimeout(300);
          await shot("6-streaming");
          assert.deepEqual(problems, []);
          await context.close();
        });
      }
    }
  }
}
