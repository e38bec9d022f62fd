// Pages that lie in a folder, opened from the disk and without a network: what their tests have in common.
import assert from "node:assert/strict";
import { existsSync, mkdirSync } from "node:fs";
import { join, resolve } from "node:path";
import { pathToFileURL } from "node:url";
import { parseArgs } from "node:util";
import { open, runAll, test } from "./browser.mjs";

/** Tests of the pages `names` in the folder of the command line, or in `standard`: `run.mjs [FOLDER] [--screenshots FOLDER] [--only PART-OF-A-NAME]`. */
export async function saved(standard, names) {
  const { values, positionals } = parseArgs({ allowPositionals: true, options: { screenshots: { type: "string" }, only: { type: "string" } } });
  const folder = resolve(positionals[0] ?? standard);
  for (const name of names) if (!existsSync(join(folder, name))) throw new Error(`${folder} has no ${name}; a test makes it, see the head of this file`);
  const { browser, close } = await open();
  console.log(`Chromium ${browser.version()}`);

  /** A page in a context of its own; `problems` gathers what was thrown, logged, blocked or asked for. */
  const visit = async (name, options = {}) => {
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
  };

  /** A test with a page of its own; in the end nothing was thrown, logged or asked for. */
  const look = (title, name, run, options) => test(title, async () => {
    const { page, context, problems } = await visit(name, options);
    try {
      await run(page);
      assert.deepEqual(problems, []);
    } finally { await context.close(); }
  });

  /** Nothing sticks out of the window, but what is inside of `scrolled`. */
  const fits = async (page, scrolled = "script") => {
    const wide = await page.evaluate(scrolled => [...document.querySelectorAll("body, body *")].filter(node => {
      if (node.closest(scrolled)) return false;
      const box = node.getBoundingClientRect();
      return box.width > 0 && (box.right > innerWidth + 1 || box.left < -1);
    }).map(node => node.outerHTML.slice(0, 120)), scrolled);
    assert.deepEqual(wide, []);
    assert.ok(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth));
  };

  /** A page follows the system's colours, on a phone and on a laptop; pictures of it after `prepare`. */
  const colours = (name, prepare = async () => {}) => {
    for (const [device, viewport] of Object.entries({ phone: { width: 390, height: 844 }, laptop: { width: 1280, height: 900 } })) {
      for (const colorScheme of ["light", "dark"]) {
        look(`the page follows the system's colours: ${device}, ${colorScheme}`, name, async page => {
          const [ground, text] = await page.evaluate(() => [getComputedStyle(document.body).backgroundColor, getComputedStyle(document.body).color].map(color => color.match(/\d+/g).slice(0, 3).reduce((sum, part) => sum + Number(part), 0)));
          assert.ok(colorScheme === "light" ? ground > 600 && text < 200 : ground < 200 && text > 600, `${ground} ${text}`);
          await prepare(page);
          if (values.screenshots) {
            mkdirSync(values.screenshots, { recursive: true });
            await page.screenshot({ path: join(values.screenshots, `${device}-${colorScheme}.png`), fullPage: true });
          }
        }, { viewport, colorScheme });
      }
    }
  };

  /** Runs all tests and says by the exit status how they ended. */
  const run = async () => {
    let passed = false;
    try { passed = await runAll(values.only); } finally { await close(); }
    process.exitCode = passed ? 0 : 1;
  };
  return { look, fits, colours, run };
}
