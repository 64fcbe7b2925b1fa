"use strict";
(() => {
  // Text of the data gets into the page as text nodes and attributes only, never as markup.
  const data = JSON.parse(document.getElementById("data").textContent);
  const byId = (id) => document.getElementById(id);

  function make(tag, attributes, ...children) {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes || {})) {
      if (value !== null && value !== undefined) element.setAttribute(name, value);
    }
    element.append(...children);
    return element;
  }

  const shown = (value, digits = 4) => (value === null ? "–" : value.toFixed(digits));
  const signed = (value) => (value === null ? "–" : (value > 0 ? "+" : value < 0 ? "−" : "±") + Math.abs(value).toFixed(3));

  // Tables: a button in each head sorts by its column; numbers by their value, and what has none stays behind.
  function makeSortable(table) {
    const heads = [...table.tHead.rows[0].cells];
    heads.forEach((head, column) => {
      const button = make("button", { type: "button" });
      button.append(...head.childNodes);
      head.append(button);
      head.setAttribute("aria-sort", "none");
      button.addEventListener("click", () => {
        const numeric = head.classList.contains("number");
        const now = head.getAttribute("aria-sort");
        const next = now === "none" ? (numeric ? "descending" : "ascending") : now === "ascending" ? "descending" : "ascending";
        heads.forEach((other) => other.setAttribute("aria-sort", other === head ? next : "none"));
        sortRows(table.tBodies[0], column, numeric, next === "ascending" ? 1 : -1);
      });
    });
  }

  function sortRows(body, column, numeric, direction) {
    const keyOf = (row) => {
      const cell = row.cells[column];
      if (!numeric) return cell.textContent.trim();
      const value = cell.dataset.value === "" ? NaN : Number(cell.dataset.value);
      return Number.isNaN(value) ? null : value;
    };
    const rows = [...body.rows].map((row) => [keyOf(row), row]);
    rows.sort(([a], [b]) => {
      if (a === null || b === null) return (a === null) - (b === null);
      return direction * (numeric ? a - b : a.localeCompare(b, undefined, { numeric: true }));
    });
    body.append(...rows.map(([, row]) => row));
  }

  document.querySelectorAll("table.sortable").forEach(makeSortable);
  if (!data.queries.length) return;
  byId("app").hidden = false;

  const state = {
    query: 0,
    measure: 0,
    before: 0,
    after: data.focus,
    columns: new Set([0, ...data.teachers.slice(0, 1), data.focus]),
    listed: [],
    open: false,
  };
  data.queries.forEach((query, place) => {
    query.place = place;
    query.found = (query.text + " " + query.id).toLowerCase();
    query.ranks = query.orders.map((order) => new Map(order.map((passage, rank) => [passage, rank + 1])));
  });

  const valueOf = (query, system) => query.values[state.measure][system];
  function changeOf(query) {
    const before = valueOf(query, state.before), after = valueOf(query, state.after);
    return before === null || after === null ? null : after - before;
  }
  const words = (text) => text.toLowerCase().split(/\s+/).filter(Boolean);
  const holds = (text, wanted) => wanted.every((word) => text.includes(word));

  // The list of queries
  const KINDS = { all: () => true, gain: (c) => c > 0, loss: (c) => c < 0, equal: (c) => c === 0 };
  const SORTS = {
    given: (a, b) => Math.abs(changeOf(b)) - Math.abs(changeOf(a)) || a.place - b.place,
    gain: (a, b) => changeOf(b) - changeOf(a) || a.place - b.place,
    loss: (a, b) => changeOf(a) - changeOf(b) || a.place - b.place,
    worst: (a, b) => valueOf(a, state.after) - valueOf(b, state.after) || a.place - b.place,
    text: (a, b) => (a.text || a.id).localeCompare(b.text || b.id, undefined, { numeric: true }),
  };

  function showList() {
    const wanted = words(byId("words").value), kind = KINDS[byId("which").value];
    state.listed = data.queries.filter((query) => holds(query.found, wanted) && kind(changeOf(query)));
    state.listed.sort(SORTS[byId("sort").value]);
    byId("list").replaceChildren(...state.listed.map(queryButton));
    byId("found").textContent = `${state.listed.length} of ${data.queries.length} queries`;
    markCurrent();
  }

  function queryButton(query) {
    const change = changeOf(query);
    const button = make("button", { type: "button", "data-query": query.place, tabindex: "-1" },
      make("span", { class: "text", dir: "auto", title: query.text || query.id }, query.text || query.id),
      make("span", { class: "values-of muted" }, `${shown(valueOf(query, state.before), 3)} → ${shown(valueOf(query, state.after), 3)}`),
      make("span", { class: change > 0 ? "up" : change < 0 ? "down" : "muted" }, signed(change)));
    button.addEventListener("click", () => choose(query.place));
    return make("li", {}, button);
  }

  function markCurrent() {
    const buttons = [...byId("list").querySelectorAll("button")];
    let current = null;
    for (const button of buttons) {
      const chosen = Number(button.dataset.query) === state.query;
      if (chosen) current = button;
      button.setAttribute("aria-current", String(chosen));
      button.tabIndex = chosen ? 0 : -1;
    }
    if (!current && buttons.length) buttons[0].tabIndex = 0;
    if (current) {
      const list = byId("list"), top = current.offsetTop - list.offsetTop;
      if (top < list.scrollTop || top + current.offsetHeight > list.scrollTop + list.clientHeight) {
        list.scrollTop = top - list.clientHeight / 2;
      }
    }
    const at = state.listed.findIndex((query) => query.place === state.query);
    byId("previous").disabled = at <= 0;
    byId("next").disabled = at === state.listed.length - 1 || !state.listed.length;
  }

  byId("list").addEventListener("keydown", (event) => {
    const buttons = [...byId("list").querySelectorAll("button")];
    const at = buttons.indexOf(document.activeElement);
    const target = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: buttons.length - 1, PageDown: at + 8, PageUp: at - 8 }[event.key];
    if (target === undefined || at < 0) return;
    event.preventDefault();
    buttons[Math.max(0, Math.min(buttons.length - 1, target))].focus();
  });

  function step(by) {
    const at = state.listed.findIndex((query) => query.place === state.query);
    const next = state.listed[at < 0 ? 0 : at + by];
    if (next) choose(next.place);
  }

  // The address holds the query, so that a link leads to it.
  function choose(place) {
    select(place);
    location.replace("#query=" + encodeURIComponent(data.queries[place].id));
  }

  function placeInAddress() {
    if (!location.hash.startsWith("#query=")) return -1;
    let id;
    try {
      id = decodeURIComponent(location.hash.slice(7));
    } catch (error) {
      return -1;
    }
    return data.queries.findIndex((query) => query.id === id);
  }

  function select(place) {
    state.query = place;
    markCurrent();
    showQuery();
  }

  // One query
  function showQuery() {
    const query = data.queries[state.query];
    byId("detail-title").textContent = query.text || query.id;
    byId("detail-id").textContent = query.text ? `query_id ${query.id}` : "";
    byId("values").replaceChildren(...valueRows(query));
    const names = query.missing.join(", ") + (query.num_missing > query.missing.length ? ", …" : "");
    byId("missing").textContent = query.num_missing
      ? `${query.num_missing} relevant passage${query.num_missing > 1 ? "s are" : " is"} in none of the orders: ${names}` : "";
    showPassages();
  }

  function valueRows(query) {
    const head = make("tr", {}, make("th", { scope: "col" }, "measure"),
      ...data.systems.map((name) => make("th", { scope: "col", class: "number" }, name)));
    const rows = data.measures.map((measure, place) => make("tr", {}, make("th", { scope: "row" }, measure),
      ...query.values[place].map((value) => make("td", { class: "number" }, shown(value)))));
    return [make("thead", {}, head), make("tbody", {}, ...rows)];
  }

  function showPassages() {
    const query = data.queries[state.query], wanted = words(byId("passage-words").value);
    const columns = [...state.columns].sort((a, b) => a - b);
    let seen = 0, all = 0;
    byId("orders").replaceChildren(...columns.map((system) => {
      const cards = [];
      query.orders[system].forEach((passage, place) => {
        all += 1;
        if (!isWanted(query, system, passage, place + 1, wanted)) return;
        seen += 1;
        if (query.ranked[system] !== null && place >= query.ranked[system] && !cards.tied) {
          cards.tied = cards.push(make("li", { class: "tied" }, "Not ordered from here on: the teacher sorted no deeper."));
        }
        cards.push(card(query, system, passage, place + 1, wanted));
      });
      const title = make("h4", {}, make("span", { class: `swatch c${system % 8}` }), data.systems[system]);
      const body = query.orders[system].length ? make("ol", {}, ...cards) : make("p", { class: "missing" }, "This order lacks the query.");
      return make("section", { "aria-label": data.systems[system], "data-system": system }, title, body);
    }));
    byId("passages-found").textContent = seen === all ? "" : `${seen} of ${all} places match`;
  }

  function isWanted(query, system, passage, rank, wanted) {
    const grade = query.grades[passage], before = query.ranks[state.before].get(passage);
    const kind = byId("passage-which").value;
    if (kind === "relevant" && !(grade > 0)) return false;
    if (kind === "judged" && grade === undefined) return false;
    if (kind === "unjudged" && grade !== undefined) return false;
    if (kind === "moved") {
      const other = system === state.before ? query.ranks[state.after].get(passage) : before;
      if (other !== undefined && Math.abs(other - rank) < 5) return false;
    }
    return !wanted.length || holds(data.passages[passage].join(" ").toLowerCase(), wanted);
  }

  function card(query, system, passage, rank, wanted) {
    const [docid, title, text] = data.passages[passage], grade = query.grades[passage];
    const words = [title, text].filter(Boolean).join(" · ") || "(no text given)";
    const judged = grade === undefined ? "" : grade > 0 ? " judged relevant" : " judged";
    const summary = make("summary", {},
      make("span", { class: "facts" },
        make("span", { class: "rank" }, String(rank)),
        movement(query, system, passage, rank),
        make("span", { class: "grade" + judged }, grade === undefined ? "not judged" : `grade ${grade}`)),
      make("span", { class: "snippet", dir: "auto" }, ...marked(words.slice(0, 240), wanted)));
    const ranks = data.systems.map((name, other) => `${name} ${query.ranks[other].get(passage) || "–"}`).join(" · ");
    const full = make("div", { class: "full" },
      ...(title ? [make("p", { dir: "auto" }, make("strong", {}, ...marked(title, wanted)))] : []),
      make("p", { class: "text", dir: "auto" }, ...marked(text || (title ? "" : "(no text given)"), wanted)),
      make("p", { class: "docid" }, "docid ", ...marked(docid, wanted)),
      make("p", { class: "ranks" }, "ranks: " + ranks));
    const details = make("details", {}, summary, full);
    details.open = state.open;
    const item = make("li", { class: "passage" + (grade > 0 ? " relevant" : ""), "data-passage": passage }, details);
    for (const [event, on] of [["mouseenter", true], ["mouseleave", false], ["focusin", true], ["focusout", false]]) {
      item.addEventListener(event, () => highlight(passage, on));
    }
    return item;
  }

  // Against "before"; in the order "before" itself, where the passage goes.
  function movement(query, system, passage, rank) {
    const base = system === state.before;
    const other = query.ranks[base ? state.after : state.before].get(passage);
    const name = data.systems[base ? state.after : state.before];
    if (base && state.after === state.before) return make("span", { class: "move" });
    if (other === undefined) {
      const text = base ? "→ out" : "new";
      return said("move " + (base ? "down" : "up"), text, base ? `not in ${name}` : `not in ${name} before`);
    }
    if (base) return said("move" + (other < rank ? " up" : other > rank ? " down" : ""), `→ ${other}`, `rank ${other} in ${name}`);
    const by = other - rank;
    const text = by > 0 ? `▲ ${by}` : by < 0 ? `▼ ${-by}` : "=";
    return said("move" + (by > 0 ? " up" : by < 0 ? " down" : ""), text, `rank ${other} in ${name}`);
  }

  const said = (name, text, words) => make("span", { class: name, title: words }, text);

  function highlight(passage, on) {
    byId("orders").querySelectorAll(`[data-passage="${passage}"]`).forEach((item) => item.classList.toggle("same", on));
  }

  function marked(text, wanted) {
    if (!wanted.length) return [text];
    const escaped = wanted.map((word) => word.replace(/[.*+?^${}()|[\]\\]/g, "\\$&"));
    return text.split(new RegExp(`(${escaped.join("|")})`, "i" + "g"))
      .map((part, place) => (place % 2 ? make("mark", {}, part) : part));
  }

  // Controls
  function fill(select, names, chosen) {
    select.replaceChildren(...names.map((name, place) => make("option", { value: place }, name)));
    select.value = String(chosen);
  }
  fill(byId("measure"), data.measures, state.measure);
  fill(byId("before"), data.systems, state.before);
  fill(byId("after"), data.systems, state.after);
  for (const key of ["measure", "before", "after"]) {
    byId(key).addEventListener("change", (event) => {
      state[key] = Number(event.target.value);
      if (key !== "measure") {
        state.columns.add(state[key]);
        showColumns();
      }
      showList();
      showQuery();
    });
  }
  for (const id of ["words", "which", "sort"]) byId(id).addEventListener("input", showList);
  for (const id of ["passage-words", "passage-which"]) byId(id).addEventListener("input", showPassages);
  for (const id of ["controls", "passage-controls"]) byId(id).addEventListener("submit", (event) => event.preventDefault());
  byId("previous").addEventListener("click", () => step(-1));
  byId("next").addEventListener("click", () => step(1));
  byId("open").addEventListener("click", () => {
    state.open = !state.open;
    byId("open").setAttribute("aria-pressed", String(state.open));
    byId("open").textContent = state.open ? "Close all texts" : "Open all texts";
    byId("orders").querySelectorAll("details").forEach((details) => { details.open = state.open; });
  });

  function showColumns() {
    byId("columns").replaceChildren(...data.systems.map((name, system) => {
      const box = make("input", { type: "checkbox", value: system });
      box.checked = state.columns.has(system);
      box.addEventListener("change", () => {
        if (box.checked) state.columns.add(system);
        else state.columns.delete(system);
        showPassages();
      });
      return make("label", {}, box, name);
    }));
  }

  function followAddress() {
    const place = placeInAddress();
    if (place < 0) return;
    if (place !== state.query) select(place);
    if (byId("app").contains(document.activeElement)) return;
    byId("detail-title").focus({ preventScroll: true });
    byId("detail").scrollIntoView();
  }
  window.addEventListener("hashchange", followAddress);
  document.addEventListener("click", (event) => {
    const link = event.target.closest('a[href^="#query="]');
    if (link && link.hash === location.hash) followAddress(); // the address stays, so nothing else would happen
  });

  showColumns();
  state.query = Math.max(0, placeInAddress());
  showList();
  showQuery();
  if (placeInAddress() >= 0) byId("detail").scrollIntoView();
})();
