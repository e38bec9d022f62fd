// Tests of the chat page in headless Chromium against a scripted server.
//   npm install --no-package-lock    (playwright-core alone, of one exact version; it brings no browser)
//   node run.mjs [--screenshots FOLDER] [--only PART-OF-A-NAME]
import { parseArgs } from "node:util";
import { open, runAll } from "./browser.mjs";
import { chatTests } from "./chat.mjs";
import { markdownTests } from "./markdown.mjs";
import { screenTests } from "./screens.mjs";
import { serve } from "./stub.mjs";

const { values } = parseArgs({ options: { screenshots: { type: "string" }, only: { type: "string" } } });
const stub = await serve();
const { browser, close } = await open();
console.log(`Chromium ${browser.version()}`);
let passed = false;
try {
  markdownTests(browser, stub);
  chatTests(browser, stub);
  screenTests(browser, stub, values.screenshots);
  passed = await runAll(values.only);
} finally {
  await close();
  stub.close();
}
process.exitCode = passed ? 0 : 1;
