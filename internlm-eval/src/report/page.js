"use strict";
// Texts come from data sets and models: everything is set as text, nothing as markup.
(() => {
  const PAGE = 25;
  const data = JSON.parse(document.getElementById("data").textContent);
  const at = (id) => document.getElementById(id);
  const element = (name, className, text) => {
    const made = document.createElement(name);
    if (className) made.className = className;
    if (text !== undefined) made.textContent = text;
    return made;
  };
  const state = (item) =>
    item.error !== undefined ? "failed" : item.correct === undefined ? "judged" : item.correct ? "right" : "wrong";
  let page = 0;

  data.forEach((benchmark, number) => {
    const option = element("option", "", `${benchmark.name} (${benchmark.total})`);
    option.value = number;
    at("benchmark").append(option);
  });

  const matches = (item, words) => {
    if (!words) return true;
    const answers = item.answers.map((answer) => `${answer.context ?? ""} ${answer.text}`);
    const texts = [item.index, item.prompt, item.prediction, item.gold, item.note, item.error, ...answers];
    return texts.join("\n").toLowerCase().includes(words);
  };

  const block = (body, title, text) => {
    if (text === undefined || text === "") return;
    body.append(element("h3", "", title), element("pre", "", text));
  };

  const fill = (body, item) => {
    block(body, "Why it failed", item.error);
    block(body, "Why it is wrong", item.note);
    block(body, "Prompt", item.prompt);
    if (item.answers.length) body.append(element("h3", "", item.answers.length > 1 ? "Answers" : "Answer"));
    for (const answer of item.answers) {
      const row = element("div", "answer");
      row.append(element("pre", "", (answer.context ?? "") + answer.text));
      row.append(element("span", "score", answer.score ?? ""));
      body.append(row);
    }
    block(body, "Taken as", item.prediction);
    block(body, "Gold", item.gold);
    block(body, "Metrics", item.metrics);
  };

  const line = (item) => {
    const kind = state(item);
    const entry = element("li");
    const details = element("details", kind);
    const head = element("summary");
    head.append(element("span", "state", kind), element("span", "index", `#${item.index}`));
    const start = item.prompt || (item.answers[0] ? item.answers[0].text : "");
    head.append(element("span", "start", start.trim().slice(-160).replaceAll("\n", " ")));
    const body = element("div", "body");
    details.append(head, body);
    details.addEventListener("toggle", () => {
      if (details.open && !body.hasChildNodes()) fill(body, item);
    });
    entry.append(details);
    return entry;
  };

  const show = () => {
    const benchmark = data[at("benchmark").value] ?? { items: [], total: 0 };
    const wanted = at("show").value;
    const words = at("search").value.trim().toLowerCase();
    const found = benchmark.items.filter(
      (item) => (wanted === "all" || state(item) === wanted) && matches(item, words));
    const pages = Math.max(1, Math.ceil(found.length / PAGE));
    page = Math.min(Math.max(page, 0), pages - 1);
    at("list").replaceChildren(...found.slice(page * PAGE, (page + 1) * PAGE).map(line));
    const held = benchmark.items.length;
    const part = held < benchmark.total
      ? ` The page holds ${held} of ${benchmark.total}, those that failed or are wrong first; the folder's files have all.`
      : "";
    at("count").textContent = `${found.length} of ${held} items.${part}`;
    at("page").textContent = `${page + 1} of ${pages}`;
    at("previous").disabled = page === 0;
    at("next").disabled = page === pages - 1;
  };

  const again = () => { page = 0; show(); };
  at("benchmark").addEventListener("change", again);
  at("show").addEventListener("change", again);
  at("search").addEventListener("input", again);
  at("filters").addEventListener("submit", (event) => event.preventDefault());
  at("previous").addEventListener("click", () => { page -= 1; show(); });
  at("next").addEventListener("click", () => { page += 1; show(); });
  show();
})();
