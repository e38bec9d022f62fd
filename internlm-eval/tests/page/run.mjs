// Tests of a report's HTML page in headless Chromium, from the disk and without a network.
//   (cd internlm-serve/tests/page && npm install --no-package-lock)      the driver, shared with the chat page's tests
//   INTERNLM_EVAL_TEST_PAGES=$PWD/target/report-pages cargo test -p internlm-eval --test run pages::
//   node internlm-eval/tests/page/run.mjs target/report-pages [--screenshots FOLDER] [--only PART-OF-A-NAME]
import assert from "node:assert/strict";
import { saved } from "../../../internlm-serve/tests/page/saved.mjs";

const { look, fits, colours, run } = await saved("target/report-pages", ["report.html", "comparison.html"]);

const choose = (page, benchmark) => page.locator("#benchmark").selectOption({ label: benchmark });
/** Opens an item and waits for its text: a browser tells the page of an opened element in a later task. */
const expand = async summary => {
  await summary.click();
  await summary.locator("xpath=..").locator(".body > *").first().waitFor();
};
const states = page => page.locator("#list .state").allInnerTexts();

look("the page opens from the disk with its table and what was run", "report.html", async page => {
  assert.equal(await page.title(), "org/toy: evaluation");
  assert.match(await page.locator("header dl").innerText(), /rule set[\s\S]*model sha256[\s\S]*failed/);
  const rows = await page.locator("section.results tbody tr").allInnerTexts();
  assert.ok(rows.length >= 16, String(rows.length));
  assert.ok(rows.some(row => row.includes("(naive)")) && rows.some(row => row.includes("(weighted)")));
  const [figure, box] = await page.evaluate(() => [document.querySelector("section.results td:nth-child(5)"), document.querySelector("section.results .scroll")].map(node => node.getBoundingClientRect().right));
  assert.ok(figure < box, "figures are in sight beside long names");
  assert.ok((await page.locator("section.hashes tbody tr").count()) >= 8);
});

look("bars have intervals, and the grid has its cells", "report.html", async page => {
  const bars = page.locator(".bar svg");
  assert.ok((await bars.count()) >= 6);
  for (const bar of await bars.all()) {
    const box = await bar.boundingBox();
    assert.ok(box.width > 100 && box.height >= 15, JSON.stringify(box));
  }
  assert.ok((await page.locator(".bar .interval").count()) >= 6);
  const cells = page.locator(".heatmap").first().locator("rect.cell");
  assert.equal(await cells.count(), 12);
  assert.ok((await cells.first().boundingBox()).width > 20);
});

look("items are shown by outcome, with what explains it", "report.html", async page => {
  await choose(page, "choice (60)");
  assert.match(await page.locator("#count").innerText(), /^60 of 60 items/);
  assert.equal(await page.locator("#list > li").count(), 25);
  for (const [wanted, heading] of [["wrong", "Why it is wrong"], ["failed", "Why it failed"], ["right", "Gold"]]) {
    await page.locator("#show").selectOption(wanted);
    const shown = await states(page);
    assert.ok(shown.length > 0 && shown.every(state => state === wanted), `${wanted}: ${shown}`);
    await expand(page.locator("#list summary").first());
    const headings = await page.locator("#list details[open] h3").allInnerTexts();
    for (const title of wanted === "failed" ? [heading, "Prompt", "Gold"] : [heading, "Prompt", "Answers", "Gold", "Metrics"]) assert.ok(headings.includes(title), `${wanted}: ${headings}`);
  }
  assert.equal(await page.locator("#list details[open] .answer").count(), 4);
  assert.match(await page.locator("#list details[open] .answer .score").first().innerText(), /^ll -\d/);
});

look("items are searched and paged", "report.html", async page => {
  await choose(page, "choice (60)");
  assert.equal(await page.locator("#page").innerText(), "1 of 3");
  assert.ok(await page.locator("#previous").isDisabled());
  await page.locator("#next").click();
  await page.locator("#next").click();
  assert.equal(await page.locator("#page").innerText(), "3 of 3");
  assert.equal(await page.locator("#list > li").count(), 10);
  assert.ok(await page.locator("#next").isDisabled());
  await page.locator("#search").fill("CHOICE 42.");
  assert.match(await page.locator("#count").innerText(), /^1 of 60 items/);
  assert.equal(await page.locator("#list .index").innerText(), "#42");
  await page.locator("#search").press("Enter");
  assert.match(await page.locator("#count").innerText(), /^1 of 60 items/);
  await page.locator("#search").fill("nothing has this");
  assert.match(await page.locator("#count").innerText(), /^0 of 60 items/);
  assert.equal(await page.locator("#list > li").count(), 0);
});

look("texts of data and models are never markup", "report.html", async page => {
  const names = await page.locator("#benchmark option").allInnerTexts();
  const hostile = names.find(name => name.startsWith("<img"));
  await choose(page, hostile);
  for (const summary of await page.locator("#list summary").all()) await expand(summary);
  assert.ok(await page.locator("#list pre", { hasText: "<img src=x onerror=" }).first().isVisible());
  assert.equal(await page.locator("img").count(), 0);
  assert.equal(await page.locator("script").count(), 2);
  assert.equal(await page.title(), "org/toy: evaluation");
});

look("two runs are compared item by item", "comparison.html", async page => {
  const rows = page.locator("section.comparison tbody tr");
  assert.ok((await rows.count()) >= 7);
  assert.match(await page.locator("section.comparison h2").innerText(), /org\/toy and org\/toy-2/);
  for (const row of await rows.all()) {
    const cells = await row.locator("td").allInnerTexts();
    const p = Number(cells.at(-1));
    assert.ok(p >= 0 && p <= 1, cells.join(" | "));
  }
});

look("without scripts the table and the plots are there", "report.html", async page => {
  assert.ok(await page.locator("section.results td").first().isVisible());
  assert.ok(await page.locator(".bar svg").first().isVisible());
  assert.equal(await page.locator("#benchmark option").count(), 0);
}, { javaScriptEnabled: false });

for (const width of [320, 390, 640, 641, 1280]) {
  for (const name of ["report.html", "comparison.html"]) {
    look(`nothing of ${name} is wider than ${width} pixels`, name, async page => {
      for (const option of await page.locator("#benchmark option").all()) {
        await page.locator("#benchmark").selectOption(await option.getAttribute("value"));
        await expand(page.locator("#list summary").first());
        // What is wider than the page scrolls in a box of its own; a summary cuts its line.
        await fits(page, "pre, .scroll > *, option, script, .start");
      }
    }, { viewport: { width, height: 800 } });
  }
}

colours("comparison.html", async page => {
  await choose(page, "choice (60)");
  await expand(page.locator("#list summary").first());
});
await run();
