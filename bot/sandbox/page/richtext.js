// The rich_text block: a tree of sections, lists, quotes and code, each holding styled pieces of text.

import { slackDate } from "./dates.js";
import { el, linkNode } from "./dom.js";
import { emojiByName, withEmoji } from "./emoji.js";
import { broadcastMention, channelMention, groupMention, userMention } from "./mentions.js";

const PIECES = {
  text: (piece) => withEmoji(piece.text),
  link: (piece) => linkNode(piece.url, el("bdi", {}, piece.text || piece.url)),
  emoji: (piece) => emojiByName(piece.name),
  user: (piece) => userMention(piece.user_id),
  usergroup: (piece) => groupMention(piece.usergroup_id),
  channel: (piece) => channelMention(piece.channel_id),
  broadcast: (piece) => broadcastMention(piece.range),
  date: (piece) => el("time", { title: piece.fallback }, slackDate(piece.timestamp, piece.format)),
  color: (piece) => el("code", {}, piece.value),
};

const STYLES = [["code", "code"], ["strike", "s"], ["italic", "em"], ["bold", "strong"]];

function pieceNode(piece) {
  const content = PIECES[piece.type]?.(piece) ?? el("code", {}, `unknown text piece: ${piece.type}`);
  return STYLES.reduce((inner, [style, tag]) => (piece.style?.[style] ? el(tag, {}, inner) : inner), content);
}

const pieces = (element) => element.elements.map(pieceNode);
const lines = (tag) => (element) => el(tag, { class: "lines", dir: "auto" }, pieces(element));

function listNode(element) {
  const list = el(element.style === "ordered" ? "ol" : "ul", { start: element.offset ? element.offset + 1 : null },
    element.elements.map((item) => el("li", { dir: "auto", class: "lines" }, pieces(item))));
  list.classList.add(`indent-${Math.min(element.indent ?? 0, 4)}`);
  return list;
}

const SECTIONS = {
  rich_text_section: lines("div"),
  rich_text_list: listNode,
  rich_text_quote: lines("blockquote"),
  rich_text_preformatted: lines("pre"),
};

export const richText = (block) =>
  block.elements.map((element) => SECTIONS[element.type]?.(element) ?? el("code", {}, `unknown rich text: ${element.type}`));
