// The markdown block: ordinary Markdown (headings, lists, tables, code, quotes, emphasis, links) to DOM nodes.

import { el, linkNode } from "./dom.js";
import { withEmoji } from "./emoji.js";

const INLINE = new RegExp([
  "`(?<code>[^`\\n]+)`",
  "!?\\[(?<label>[^\\]\\n]*)\\]\\((?<href>[^)\\s]+)\\)",
  "<?(?<url>https?:\\/\\/[^\\s<>]*[^\\s<>.,:;!?)\\]'\"*_])>?",
  "\\*\\*(?=\\S)(?<bold>.+?)(?<=\\S)\\*\\*", "__(?=\\S)(?<bold2>.+?)(?<=\\S)__",
  "\\*(?=\\S)(?<italic>[^*\\n]+?)(?<=\\S)\\*", "(?<![\\p{L}\\p{N}])_(?=\\S)(?<italic2>[^_\\n]+?)(?<=\\S)_(?![\\p{L}\\p{N}])",
  "~~(?<strike>.+?)~~", "\\\\(?<escaped>[\\\\`*_{}\\[\\]()#+.!|~>-])",
].join("|"), "gu");

const wrap = (tag) => (text) => el(tag, {}, inline(text));

const STYLES = {
  code: (text) => el("code", {}, text),
  label: (text, groups) => linkNode(groups.href, el("bdi", {}, inline(text))),
  url: (text) => linkNode(text, el("bdi", {}, text)),
  bold: wrap("strong"), bold2: wrap("strong"), italic: wrap("em"), italic2: wrap("em"), strike: wrap("s"),
  escaped: (text) => text,
};

function inline(text) {
  const nodes = [];
  let end = 0;
  for (const match of text.matchAll(INLINE)) {
    const [style, content] = Object.entries(match.groups).find(([, found]) => found !== undefined);
    nodes.push(...withEmoji(text.slice(end, match.index)), STYLES[style](content, match.groups));
    end = match.index + match[0].length;
  }
  return [...nodes, ...withEmoji(text.slice(end))];
}

const cells = (line) => line.trim().replace(/^\||\|$/g, "").split(/(?<!\\)\|/).map((cell) => cell.trim());
const ALIGN = { "true,true": "center", "false,true": "end" };
const alignOf = (rule) => ALIGN[[rule.startsWith(":"), rule.endsWith(":")]] ?? "start";

function tableNode([head, rules, ...rows]) {
  const aligns = cells(rules).map(alignOf);
  const row = (tag, line) => el("tr", {}, cells(line).map((cell, index) => el(tag, { class: aligns[index], dir: "auto" }, inline(cell))));
  return el("div", { class: "table-frame", tabindex: "0" }, el("table", {}, el("thead", {}, row("th", head)), el("tbody", {}, rows.map((line) => row("td", line)))));
}

const ITEM = /^(\s*)([-*+]|\d+[.)])\s+(?:\[([ xX])\]\s+)?(.*)$/;

const itemText = (task, text) => [task && el("input", { type: "checkbox", disabled: true, checked: /x/i.test(task) }), inline(text)];

// A flat list of nodes: nesting shows as indentation.
function listNode(lines) {
  const ordered = /^\s*\d/.test(lines[0]);
  return el(ordered ? "ol" : "ul", { start: ordered ? parseInt(lines[0], 10) : null }, lines.map((line) => {
    const [, indent, , task, text] = line.match(ITEM);
    return el("li", { dir: "auto", class: `indent-${Math.min(indent.length >> 1, 4)}` }, itemText(task, text));
  }));
}

// Line by line: each kind says how a run of it begins and goes on, and what it becomes.
const KINDS = [
  { begins: /^```/, until: /^```/, node: (lines) => el("pre", {}, lines.filter((line) => !line.startsWith("```")).join("\n")) },
  { begins: /^#{1,6}\s/, node: ([line]) => el("h4", { class: "heading", dir: "auto" }, inline(line.replace(/^#+\s+|\s+#+$/g, ""))) },
  { begins: /^(\s*[-*_]){3,}\s*$/, node: () => el("hr") },
  { begins: /^\|.*\|\s*$/, goesOn: /^\|/, least: /^\|[\s:|-]+\|\s*$/, node: tableNode },
  { begins: /^>/, goesOn: /^>/, node: (lines) => el("blockquote", {}, markdown(lines.map((line) => line.replace(/^> ?/, "")).join("\n"))) },
  { begins: ITEM, goesOn: ITEM, node: listNode },
  { begins: /^\s*$/, node: () => null },
];

const startsSomething = (line) => KINDS.some((kind) => kind.begins.test(line));
const PARAGRAPH = { node: (lines) => el("div", { class: "lines", dir: "auto" }, inline(lines.join("\n"))) };

const kindOf = (lines, at) =>
  KINDS.find((kind) => kind.begins.test(lines[at]) && (!kind.least || kind.least.test(lines[at + 1] ?? ""))) ?? PARAGRAPH;

function endOf(kind, lines, start) {
  if (kind.until) {
    const closing = lines.findIndex((line, index) => index > start && kind.until.test(line));
    return closing < 0 ? lines.length : closing + 1;
  }
  const goesOn = kind === PARAGRAPH ? (line) => !startsSomething(line) : (line) => kind.goesOn?.test(line);
  let end = start + 1;
  while (end < lines.length && goesOn(lines[end])) end += 1;
  return end;
}

export function markdown(text) {
  const lines = text.split("\n");
  const nodes = [];
  for (let at = 0; at < lines.length;) {
    const kind = kindOf(lines, at);
    const end = endOf(kind, lines, at);
    nodes.push(kind.node(lines.slice(at, end)));
    at = end;
  }
  return nodes.filter(Boolean);
}
