// Tables: `table` as it stands, `data_table` with sorting and pages.

import { el } from "./dom.js";
import { unknown } from "./elements.js";
import { withEmoji } from "./emoji.js";
import { richText } from "./richtext.js";

const CELLS = {
  raw_text: (cell) => el("span", { dir: "auto" }, withEmoji(cell.text, { literal: true })),
  raw_number: (cell) => el("span", {}, String(cell.text ?? cell.value)),
  rich_text: (cell) => richText(cell),
};

const ALIGN = { left: "start", center: "center", right: "end" };

const content = (cell) => CELLS[cell.type]?.(cell) ?? unknown("cell", cell.type);

function cellNode(tag, cell, settings = {}) {
  const classes = [ALIGN[settings?.align] ?? "start", settings?.is_wrapped ? "wrapped" : ""].join(" ").trim();
  return el(tag, { class: classes, scope: tag === "th" ? "col" : null }, content(cell));
}

const framed = (name, node) => el("div", { class: "table-frame", tabindex: "0", role: "region", "aria-label": name }, node);

export function table(block) {
  const row = (tag) => (cells) => el("tr", {}, cells.map((cell, index) => cellNode(tag, cell, block.column_settings?.[index])));
  const [head, ...rows] = block.rows;
  return framed("Table", el("table", {}, el("thead", {}, row("th")(head)), el("tbody", {}, rows.map(row("td")))));
}

// -- data_table ----------------------------------------------------------------------------------------------------------

const PAGE_SIZE = 5;
const SORTS = { ascending: 1, descending: -1 };

const words = (value) => (Array.isArray(value) ? value.map(words).join(" ") : value?.text ?? words(value?.elements ?? []));
const keyOf = (cell) => (cell.type === "raw_number" ? cell.value : words(cell));

// Numbers before words; both in the order people expect.
function compare(one, other) {
  if (typeof one !== typeof other) return typeof one === "number" ? -1 : 1;
  return typeof one === "number" ? one - other : one.localeCompare(other, "en", { numeric: true });
}

const sorted = (rows, { column, order }) =>
  (order ? [...rows].sort((one, other) => SORTS[order] * compare(keyOf(one[column]), keyOf(other[column]))) : rows);

const isNumeric = (rows, column) => rows.some((row) => row[column].type === "raw_number");

export function dataTable(block) {
  const [head, ...rows] = block.rows;
  const size = block.page_size ?? PAGE_SIZE;
  const pages = Math.ceil(rows.length / size);
  const shown = { column: 0, order: null, page: 0 };
  const named = block.row_header_column_index ?? 0;
  const align = (column) => (isNumeric(rows, column) ? "end" : "start");
  const frame = el("div");

  function sortBy(column) {
    const next = shown.column === column && shown.order === "ascending" ? "descending" : "ascending";
    Object.assign(shown, { column, order: next, page: 0 });
    draw(`[data-column="${column}"]`);
  }

  function turn(by) {
    shown.page += by;
    draw(`[data-turn="${by}"]:not(:disabled)`);
  }

  const headCell = (cell, column) => el("th", { class: align(column), scope: "col", "aria-sort": shown.column === column ? shown.order : null },
    el("button", { type: "button", class: "sort", data: { column }, on: { click: () => sortBy(column) } }, content(cell)));
  const bodyCell = (cell, column) => (column === named
    ? el("th", { class: align(column), scope: "row" }, content(cell)) : el("td", { class: align(column) }, content(cell)));
  const turner = (by, label, disabled) => el("button", { type: "button", class: "button narrow", data: { turn: by }, disabled, on: { click: () => turn(by) } }, label);

  function pager() {
    const [first, last] = [shown.page * size + 1, Math.min((shown.page + 1) * size, rows.length)];
    return el("div", { class: "pager" },
      el("span", { role: "status" }, `${first}–${last} of ${rows.length}`), turner(-1, "Back", shown.page === 0), turner(1, "Next", shown.page === pages - 1));
  }

  function draw(focus) {
    const visible = sorted(rows, shown).slice(shown.page * size, (shown.page + 1) * size);
    const node = el("table", {}, el("caption", { dir: "auto" }, block.caption),
      el("thead", {}, el("tr", {}, head.map(headCell))), el("tbody", {}, visible.map((row) => el("tr", {}, row.map(bodyCell)))));
    const left = frame.querySelector(".table-frame")?.scrollLeft ?? 0;
    frame.replaceChildren(...[framed(block.caption, node), pages > 1 && pager()].filter(Boolean));
    frame.firstChild.scrollLeft = left;
    if (focus) frame.querySelector(focus)?.focus();
  }

  draw();
  return frame;
}
