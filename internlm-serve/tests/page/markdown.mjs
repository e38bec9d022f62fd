// The page's Markdown, in the page itself: what it makes of a text, whole and in pieces.
import assert from "node:assert/strict";
import { test, visit } from "./browser.mjs";
import { CHINESE, MALICIOUS, MARKDOWN } from "./stub.mjs";

const A = (href, text) => `<a href="${href}" title="${href}" target="_blank" rel="noopener noreferrer nofollow">${text}</a>`;

/** Markdown and the HTML that it stands for. Buttons and wrappers of code and tables are left out. */
const CASES = [
  ["plain *em* **strong** ***both*** ~~gone~~ `co de`", "<p>plain <em>em</em> <strong>strong</strong> <strong><em>both</em></strong> <del>gone</del> <code>co de</code></p>"],
  ["**重点。**后文", "<p><strong>重点。</strong>后文</p>"],
  ["snake_case_name and 2 * 3 * 4", "<p>snake_case_name and 2 * 3 * 4</p>"],
  ["**open and `open", "<p>**open and `open</p>"],
  ["**a *b** c*", "<p><strong>a *b</strong> c*</p>"],
  ["a\nb", "<p>a\nb</p>"],
  ["a  \nb\\\nc", "<p>a\nb\nc</p>"],
  ["\\*no\\* \\<b> \\q", "<p>*no* &lt;b&gt; \\q</p>"],
  ["``a ` b`` and ` `` `", "<p><code>a ` b</code> and <code>``</code></p>"],
  ["# One\n###### Six\n#no", "<h1>One</h1><h6>Six</h6><p>#no</p>"],
  ["a\n\n---\nb\n***", "<p>a</p><hr><p>b</p><hr>"],
  ["- a\n- b\n\n  more\n- c", "<ul><li><p>a</p></li><li><p>b</p><p>more</p></li><li><p>c</p></li></ul>"],
  ["1. a\n  - b\n    - c\n2. d", "<ol start=\"1\"><li><p>a</p><ul><li><p>b</p><ul><li><p>c</p></li></ul></li></ul></li><li><p>d</p></li></ol>"],
  ["1. a\n  - b\n  - c\n    d\n   - e\n2. f", "<ol start=\"1\"><li><p>a</p><ul><li><p>b</p></li><li><p>c\nd</p></li><li><p>e</p></li></ul></li><li><p>f</p></li></ol>"],
  ["10. a\n\n    b\n\n    - c\n\n      d", "<ol start=\"10\"><li><p>a</p><p>b</p><ul><li><p>c</p><p>d</p></li></ul></li></ol>"],
  ["7) x\n8) y", "<ol start=\"7\"><li><p>x</p></li><li><p>y</p></li></ol>"],
  ["In\n1984. Not a list", "<p>In\n1984. Not a list</p>"],
  ["- [ ] todo\n- [x] done", "<ul><li><p>☐ todo</p></li><li><p>☑ done</p></li></ul>"],
  ["> a\n> > b\n\nc", "<blockquote><p>a</p><blockquote><p>b</p></blockquote></blockquote><p>c</p>"],
  ["> - a\n>   b", "<blockquote><ul><li><p>a\nb</p></li></ul></blockquote>"],
  ["```rust\nfn  x() {\n\n\t*y*\n}\n```\nafter", "<pre><code>fn  x() {\n\n\t*y*\n}</code></pre><p>after</p>"],
  ["- a\n  ~~~\n  code\n    in\n  ~~~", "<ul><li><p>a</p><pre><code>code\n  in</code></pre></li></ul>"],
  ["````\n```\n````", "<pre><code>```</code></pre>"],
  ["```\nnever closed", "<pre><code>never closed</code></pre>"],
  ["[t*e*xt](https://a.invalid/x_(y)) <https://b.invalid> <mailto:m@c.invalid>", `<p>${A("https://a.invalid/x_(y)", "t<em>e</em>xt")} ${A("https://b.invalid/", "https://b.invalid")} ${A("mailto:m@c.invalid", "mailto:m@c.invalid")}</p>`],
  ["见 https://a.invalid/路径，然后 (https://b.invalid).", `<p>见 ${A("https://a.invalid/%E8%B7%AF%E5%BE%84", "https://a.invalid/路径")}，然后 (${A("https://b.invalid/", "https://b.invalid")}).</p>`],
  ["**https://a.invalid/x**", `<p><strong>${A("https://a.invalid/x", "https://a.invalid/x")}</strong></p>`],
  ["[x](javascript:alert(1)) [y](/relative) [z]", "<p>[x](javascript:alert(1)) [y](/relative) [z]</p>"],
  ["![a cat](https://a.invalid/c.png)", `<p>${A("https://a.invalid/c.png", "Image: a cat")}</p>`],
  ["<b>no</b> &amp; <script>x</script>", "<p>&lt;b&gt;no&lt;/b&gt; &amp;amp; &lt;script&gt;x&lt;/script&gt;</p>"],
  ["so\n| a | b |\n|:-:|--:|\n| 1 \\| 2 | **x**<br>y | extra |\n| 3 |\n\nend", "<p>so</p><table><thead><tr><th style=\"text-align: center;\">a</th><th style=\"text-align: right;\">b</th></tr></thead>"
    + "<tbody><tr><td style=\"text-align: center;\">1 | 2</td><td style=\"text-align: right;\"><strong>x</strong><br>y</td></tr><tr><td style=\"text-align: center;\">3</td><td style=\"text-align: right;\"></td></tr></tbody></table><p>end</p>"],
  ["a | b\n--|--|--", "<p>a | b\n--|--|--</p>"],
  ["\\(x_1 * y_2\\) and $$a*b*c$$ and \\[\nz\n\\]", "<p><code class=\"math\">x_1 * y_2</code> and <code class=\"math\">a*b*c</code> and <code class=\"math\">z</code></p>"],
];

/** Texts whose naive parsing takes quadratic time, or builds a tree too deep for a browser. */
const HOSTILE = ["[", "[a](", "![", "*a ", "**a *b ", "_a", "`", "` `` ", "<", "<http://", "$$", "\\(", "> ", "- ", "| ", "http://", "~~a", "**a** ", "\n\n* ", "((", "[a](b(", "\\", "1. ", "|-", " ", "```\n", "*_", "`a` ", "<br>"];

export function markdownTests(browser, stub) {
  test("markdown: every case", async () => {
    const { page, context, problems } = await visit(browser, stub.address);
    const got = await page.evaluate(texts => texts.map(text => {
      const root = document.createElement("div");
      const markdown = new Markdown(root);
      markdown.push(text);
      markdown.end();
      for (const row of root.querySelectorAll(".code > .row")) row.remove();
      for (const wrap of root.querySelectorAll(".code, .table")) wrap.replaceWith(...wrap.childNodes);
      for (const pre of root.querySelectorAll("pre")) pre.removeAttribute("tabindex");
      return root.innerHTML;
    }), CASES.map(([text]) => text));
    CASES.forEach(([text, want], i) => assert.equal(got[i], want, JSON.stringify(text)));
    assert.deepEqual(problems, []);
    await context.close();
  });

  test("markdown: pieces of any size make what the whole makes", async () => {
    const { page, context } = await visit(browser, stub.address);
    const texts = [...CASES.map(([text]) => text), MARKDOWN, CHINESE, MALICIOUS, CASES.map(([text]) => text).join("\n"), CASES.map(([text]) => text).join("\n\n")];
    const different = await page.evaluate(texts => {
      let seed = 1;
      const random = n => (seed = (seed * 48271) % 0x7fffffff) % n;
      const build = (text, next) => {
        const root = document.createElement("div");
        const markdown = new Markdown(root);
        for (let at = 0; at < text.length;) { const n = next(); markdown.push(text.slice(at, at + n)); at += n; }
        markdown.end();
        return root.innerHTML;
      };
      const found = [];
      for (const text of texts) {
        const want = build(text, () => text.length);
        const sizes = [() => 1, () => 2, ...Array.from({ length: 8 }, () => () => 1 + random(12))];
        if (sizes.some(next => build(text, next) !== want)) found.push(text);
      }
      return found;
    }, texts);
    assert.deepEqual(different, []);
    await context.close();
  });

  test("markdown: the work grows with the text, not with its square", async () => {
    const { page, context } = await visit(browser, stub.address);
    const [work, length] = await page.evaluate(sample => {
      const real = inline;
      let work = 0;
      inline = (parent, text, options) => { work += text.length; real(parent, text, options); };
      const markdown = new Markdown(document.createElement("div"));
      const text = (sample + "\n").repeat(100);
      for (let at = 0; at < text.length; at += 20) markdown.push(text.slice(at, at + 20));
      markdown.end();
      inline = real;
      return [work, text.length];
    }, MARKDOWN);
    assert.ok(work < 20 * length, `${work} characters read for ${length}`); // a paragraph is read again while it grows
    await context.close();
  });

  test("markdown: hostile texts of 200,000 characters end", async () => {
    const { page, context, problems } = await visit(browser, stub.address);
    for (const piece of HOSTILE) {
      const kept = await page.evaluate(piece => {
        const root = document.createElement("div");
        const markdown = new Markdown(root);
        const text = piece.repeat(Math.ceil(200000 / piece.length));
        markdown.push(text + "\n\n**" + text + "**");
        markdown.end();
        let depth = 0;
        for (let node = root; node; node = node.lastElementChild) depth++;
        return depth;
      }, piece);
      assert.ok(kept < 60, `${piece}: ${kept} levels`);
    }
    assert.deepEqual(problems, []);
    await context.close();
  });
}
