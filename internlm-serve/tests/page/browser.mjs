// Headless Chromium on a new, empty profile, and a small runner: no test leaves anything to the next.
import { existsSync } from "node:fs";
import { chromium } from "playwright-core";

export async function open() {
  const executablePath = process.env.CHROMIUM ?? "/usr/bin/chromium";
  if (!existsSync(executablePath)) throw new Error(`no Chromium at ${executablePath}; set CHROMIUM`);
  // Playwright gives every launch a new profile directory and removes it.
  const browser = await chromium.launch({ executablePath, headless: true, args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync"] });
  return { browser, close: () => browser.close() };
}

/** The page in a context of its own; `problems` gathers what a policy blocked and what the script threw. */
export async function visit(browser, address, options = {}) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 800 }, locale: "en-US", acceptDownloads: true, ...options });
  const page = await context.newPage();
  const problems = [];
  page.on("pageerror", error => problems.push(String(error)));
  page.on("console", message => { if (message.type() === "error" && !message.text().startsWith("Failed to load resource")) problems.push(message.text()); });
  page.on("request", request => { if (!/^(data|blob):/.test(request.url()) && new URL(request.url()).origin !== address) problems.push(`request to ${request.url()}`); });
  page.setDefaultTimeout(15000);
  await page.goto(address + "/chat");
  return { page, context, problems };
}

const tests = [];
export const test = (name, run) => tests.push({ name, run });

export async function runAll(only) {
  let failed = 0;
  const chosen = tests.filter(({ name }) => !only || name.includes(only));
  for (const { name, run } of chosen) {
    try {
      await run();
      console.log(`ok    ${name}`);
    } catch (error) {
      failed++;
      console.log(`FAIL  ${name}\n${String(error.stack ?? error).replace(/^/gm, "      ")}`);
    }
  }
  console.log(`${chosen.length - failed} of ${chosen.length} passed`);
  return chosen.length > 0 && failed === 0;
}
