"use strict";
(function () {
  const root = document.documentElement;
  const all = (selector, from) => Array.from((from || document).querySelectorAll(selector));

  // Light or dark: the reader's system, unless the button says otherwise.
  try { const kept = localStorage.getItem("theme"); if (kept) root.dataset.theme = kept; } catch (error) { /* no storage */ }
  document.getElementById("theme").addEventListener("click", () => {
    const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    root.dataset.theme = dark ? "light" : "dark";
    try { localStorage.setItem("theme", root.dataset.theme); } catch (error) { /* no storage */ }
  });

  // The filter hides cases, their boxes in the heat map, and requirements that none of the shown cases cites.
  const form = document.getElementById("filter");
  form.hidden = false;
  all(".tools").forEach(item => { item.hidden = false; });
  const cases = all("details.case"), rows = all("tr.req");
  const strips = new Map(all(".strips>a").map(item => [item.getAttribute("href").slice(1), item]));
  const cited = new Map(rows.map(row => [row, all("a[href^='#case-']", row).map(item => item.getAttribute("href").slice(1))]));
  const holders = all(".casegroup, .heatrow, .trace tbody").map(item => [item, all("details.case, .strips>a, tr.req", item)]);
  const none = document.getElementById("none");
  const out = new Set();
  function mark(item, kept) {
    if (kept !== out.has(item)) return;
    if (kept) out.delete(item); else out.add(item);
    item.classList.toggle("out", !kept);
  }
  let texts = null;
  function read() {
    if (!texts) texts = new Map(cases.concat(rows).map(item => [item, item.textContent.toLowerCase()]));
  }
  // Read before the first letter is typed, so that it is answered at once.
  addEventListener("load", () => (self.requestIdleCallback || setTimeout)(read));
  function filter() {
    const wanted = form.text.value.trim().toLowerCase().split(/\s+/).filter(Boolean);
    const status = form.status.value, level = form.level.value, group = form.group.value;
    if (wanted.length) read();
    const says = item => wanted.every(word => texts.get(item).includes(word));
    const shown = new Set();
    for (const item of cases) {
      const data = item.dataset;
      const kept = (!status || data.status === status) && (!level || data.level === level) &&
        (!group || data.group === group) && says(item);
      if (kept) shown.add(item.id);
      mark(item, kept);
      const strip = strips.get(item.id);
      if (strip) mark(strip, kept);
    }
    const narrowed = wanted.length || status || level || group;
    let requirements = 0;
    for (const row of rows) {
      const kept = !narrowed || (wanted.length && !status && !level && !group && says(row)) || cited.get(row).some(id => shown.has(id));
      if (kept) requirements += 1;
      mark(row, kept);
    }
    for (const [holder, held] of holders) mark(holder, held.some(item => !out.has(item)));
    none.hidden = shown.size > 0;
    form.shown.value = narrowed ? shown.size + " of " + cases.length + " cases, " + requirements + " of " + rows.length + " requirements" : "";
  }
  form.addEventListener("input", filter);
  form.addEventListener("reset", () => setTimeout(filter));
  form.addEventListener("submit", event => event.preventDefault());

  // A link into a closed case opens it.
  function reveal() {
    let target = null;
    try { target = document.getElementById(decodeURIComponent(location.hash.slice(1))); } catch (error) { return; }
    if (!target) return;
    if (target.classList.contains("out")) { form.reset(); filter(); }
    for (let item = target; item; item = item.parentElement) if (item.tagName === "DETAILS") item.open = true;
    target.scrollIntoView();
  }
  addEventListener("hashchange", reveal);
  document.addEventListener("click", event => {
    const link = event.target.closest && event.target.closest("a[href^='#']");
    if (link && link.getAttribute("href") === location.hash) setTimeout(reveal);
  });
  if (location.hash) reveal();
  document.getElementById("open-all").addEventListener("click", () => cases.forEach(item => { if (!item.classList.contains("out")) item.open = true; }));
  document.getElementById("close-all").addEventListener("click", () => cases.forEach(item => { item.open = false; }));

  // Pointing at a cell, tapping it or reaching it by keyboard shows its probes.
  const tip = document.getElementById("tip");
  let held = null;
  // A cell of a truth table knows its row's number; one of the heat map is the cell at its place in its case's tables.
  function rowOf(cell) {
    const box = cell.closest(".strips>a");
    const item = box ? document.getElementById(box.getAttribute("href").slice(1)) : cell.closest("details.case");
    if (box) cell = all(".matrix button", item)[all("i:not([data-w])", box).indexOf(cell)];
    return cell && all(".probes tbody tr:not(.step)", item)[cell.dataset.r];
  }
  function tell(cell) {
    tip.textContent = "";
    if (cell.dataset.w) {
      tip.textContent = cell.dataset.w;
    } else {
      const row = rowOf(cell);
      if (!row) return;
      const names = all("thead th", row.closest("table")).map(item => item.textContent);
      const list = document.createElement("dl");
      Array.from(row.children).forEach((item, place) => {
        const name = document.createElement("dt"), text = document.createElement("dd");
        name.textContent = names[place];
        item.childNodes.forEach(node => text.appendChild(node.cloneNode(true)));
        list.append(name, text);
      });
      tip.append(list);
    }
    tip.hidden = false;
    const box = cell.getBoundingClientRect(), width = root.clientWidth;
    tip.style.left = Math.max(8, Math.min(box.left, width - tip.offsetWidth - 8)) + "px";
    const below = box.bottom + 6, above = box.top - tip.offsetHeight - 6;
    tip.style.top = (below + tip.offsetHeight > innerHeight && above > 0 ? above : below) + "px";
  }
  function hush() { tip.hidden = true; held = null; }
  const cellOf = event => event.target.closest && event.target.closest("[data-r], .strips i");
  document.addEventListener("mouseover", event => { const cell = cellOf(event); if (cell) tell(cell); else if (!held) hush(); });
  document.addEventListener("focusin", event => { const cell = cellOf(event); if (cell) tell(cell); else hush(); });
  document.addEventListener("click", event => {
    const cell = cellOf(event);
    if (cell && cell.dataset.r) { if (held === cell) hush(); else { tell(cell); held = cell; } } else hush();
  });
  document.addEventListener("keydown", event => { if (event.key === "Escape") hush(); });
  addEventListener("scroll", hush, { passive: true });

  // Paper shows everything: what is closed is opened, and the filter does not count there.
  let closed = [];
  addEventListener("beforeprint", () => { hush(); closed = all("details:not([open])"); closed.forEach(item => { item.open = true; }); });
  addEventListener("afterprint", () => { closed.forEach(item => { item.open = false; }); closed = []; });
}());
