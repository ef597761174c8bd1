// Slack's own text format, "mrkdwn", to DOM nodes.

import { slackDate } from "./dates.js";
import { el, linkNode } from "./dom.js";
import { withEmoji } from "./emoji.js";
import { broadcastMention, channelMention, groupMention, userMention } from "./mentions.js";

const ENTITIES = { "&amp;": "&", "&lt;": "<", "&gt;": ">" };
const decode = (text) => text.replace(/&(?:amp|lt|gt);/g, (entity) => ENTITIES[entity]);

// Slack opens and closes *bold* only at the edge of a word, and never across lines.
const styled = (mark, name) =>
  `(?<![\\p{L}\\p{N}_${mark}])${mark}(?=[^\\s${mark}])(?<${name}>[^${mark}\\n]*[^\\s${mark}])${mark}(?![\\p{L}\\p{N}_${mark}])`;

const INLINE = new RegExp([
  "`(?<code>[^`\\n]+)`",
  "<(?<angle>[^<>\\n]+)>",
  "(?<url>https?:\\/\\/[^\\s<>|*`]*[^\\s<>|*`.,:;!?)\\]'\"_~])",
  styled("\\*", "bold"), styled("_", "italic"), styled("~", "strike"),
].join("|"), "gu");

const STYLES = {
  code: (text) => el("code", {}, decode(text)),
  angle: (text) => angleNode(text),
  url: (text) => linkNode(decode(text), el("bdi", {}, decode(text))),
  bold: (text) => el("strong", {}, inline(text)),
  italic: (text) => el("em", {}, inline(text)),
  strike: (text) => el("s", {}, inline(text)),
};

const COMMANDS = {
  here: () => broadcastMention("here"),
  channel: () => broadcastMention("channel"),
  everyone: () => broadcastMention("everyone"),
  subteam: ([id], label) => groupMention(id, label),
  date: ([seconds, pattern, url], fallback) => dateNode(seconds, pattern, url, fallback),
};

function dateNode(seconds, pattern, url, fallback) {
  const text = Number(seconds) ? slackDate(seconds, decode(pattern ?? "{date}")) : decode(fallback ?? "");
  const node = el("time", { title: decode(fallback ?? "") }, text);
  return url ? linkNode(decode(url), node) : node;
}

function commandNode(body, label) {
  const [name, ...parts] = body.split("^");
  return COMMANDS[name]?.(parts, label) ?? `<${body}>`;
}

// What stands between < and >: a person, a channel, a command such as !here, or a link.
function angleNode(text) {
  const bar = text.indexOf("|");
  const [target, label] = bar < 0 ? [text] : [text.slice(0, bar), text.slice(bar + 1)];
  if (/^@[UWB]/.test(target)) return userMention(target.slice(1), label);
  if (/^#[CDG]/.test(target)) return channelMention(target.slice(1), label);
  if (target.startsWith("!")) return commandNode(target.slice(1), label && decode(label));
  if (/^(https?:|mailto:)/i.test(target)) return linkNode(decode(target), el("bdi", {}, withEmoji(decode(label || target.replace(/^mailto:/, "")))));
  return decode(`<${text}>`);
}

function inline(text) {
  const nodes = [];
  let end = 0;
  for (const match of text.matchAll(INLINE)) {
    const [style, content] = Object.entries(match.groups).find(([, found]) => found !== undefined);
    nodes.push(...withEmoji(decode(text.slice(end, match.index))), STYLES[style](content));
    end = match.index + match[0].length;
  }
  return [...nodes, ...withEmoji(decode(text.slice(end)))];
}

const QUOTE = /^(?:&gt;|>) ?/;

// Neighbouring lines of one kind (quoted or not) make one run.
function quoteRuns(lines) {
  const runs = [];
  for (const line of lines) {
    const quoted = QUOTE.test(line);
    if (runs.at(-1)?.quoted !== quoted) runs.push({ quoted, lines: [] });
    runs.at(-1).lines.push(line.replace(QUOTE, (mark) => (quoted ? "" : mark)));
  }
  return runs;
}

function paragraphs(text) {
  return quoteRuns(text.split("\n")).map((run) =>
    el(run.quoted ? "blockquote" : "div", { class: "lines", dir: "auto" }, inline(run.lines.join("\n")) ));
}

const withoutEdgeBreaks = (text) => text.replace(/^\n|\n$/g, "");

// Whole texts: fenced code first, since nothing inside it has a meaning.
export function mrkdwn(text) {
  return String(text ?? "").split(/```([\s\S]+?)```/).flatMap((part, index) => {
    if (index % 2) return el("pre", {}, decode(withoutEdgeBreaks(part)));
    return part.trim() ? paragraphs(withoutEdgeBreaks(part)) : [];
  });
}

// A Block Kit text object.
export function textNode(text, properties = {}) {
  if (!text) return null;
  if (text.type === "mrkdwn") return el("div", { class: "text", ...properties }, mrkdwn(text.text));
  return el("div", { class: "text lines", dir: "auto", ...properties }, plain(text));
}

export const plain = (text) => withEmoji(text.text, { literal: text.emoji === false });
