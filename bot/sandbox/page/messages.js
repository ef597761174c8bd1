// One message, and the list that keeps a message's node until the message changes.

import { post } from "./api.js";
import { blockNodes } from "./blocks.js";
import { agoOf, dayOf, fullTimeOf, isoOf, timeOf } from "./dates.js";
import { el, icon, iconButton, linkNode } from "./dom.js";
import { imageNode } from "./images.js";
import { mrkdwn } from "./mrkdwn.js";
import { avatar, nameOf } from "./people.js";
import { openThread } from "./places.js";
import { isFirstUnread } from "./reading.js";
import { isApp, repliesTo, state, userById } from "./state.js";
import { Values } from "./values.js";

const GROUP_SECONDS = 300;

function surfaceOf(message) {
  const values = new Values();
  const place = { user: state.me.id, channel: message.channel, ts: message.ts };
  const send = (block, element, payload) => post("action", {
    ...place, block_id: block.block_id, action_id: element.action_id, state: values.collect(message.blocks), ...payload,
  });
  return { values, send };
}

function fileNode(file) {
  const url = file.url_private ?? file.permalink;
  const title = file.title || file.name;
  const isImage = file.mimetype?.startsWith("image/");
  if (isImage) return el("figure", { class: "file" }, el("figcaption", {}, linkNode(url, title)), imageNode({ image_url: url, alt_text: file.alt_txt || title }, "block-image"));
  return el("p", { class: "file" }, icon("file"), linkNode(url, el("bdi", {}, title)));
}

function threadFoot(message, replies) {
  if (!replies.length) return null;
  const faces = [...new Set(replies.map((reply) => reply.user))].slice(0, 4).map((id) => avatar(id, "small"));
  const count = replies.length === 1 ? "1 reply" : `${replies.length} replies`;
  return el("button", { type: "button", class: "thread-foot", data: { testid: "thread-open" }, on: { click: () => openThread(message.ts) } },
    faces, el("span", { class: "thread-count" }, count), el("span", { class: "thread-last" }, `last ${agoOf(replies.at(-1).ts)}`));
}

const timeNode = (ts) => el("time", { class: "time", datetime: isoOf(ts), title: fullTimeOf(ts) }, timeOf(ts));

const isFromApp = (message) => isApp(message.user) || userById(message.user)?.is_bot;

const onlyYou = () => el("p", { class: "only-you" }, icon("eye"), "Only visible to you");

const byline = (message) => el("header", { class: "byline" },
  el("bdi", { class: "author" }, nameOf(message.user)), isFromApp(message) && el("span", { class: "app-badge" }, "App"), timeNode(message.ts));

function bodyOf(message) {
  if (message.deleted) return el("p", { class: "gone" }, "This message was deleted.");
  const edited = message.edited && el("span", { class: "edited", title: fullTimeOf(message.edited.ts) }, "(edited)");
  if (message.blocks?.length) return [el("div", { class: message.blocks.length > 1 ? "blocks card" : "blocks" }, blockNodes(message.blocks, surfaceOf(message))), edited];
  return el("div", { class: "text" }, mrkdwn(message.text), edited);
}

const kindsOf = (message) => ["ephemeral", "system", "deleted"].filter((kind) => message[kind]);

// seat: {compact, replies, inThread}
function messageNode(message, { compact, replies, inThread }) {
  const mayReply = !inThread && !message.ephemeral && !message.system && !message.deleted;
  return el("article", {
    class: ["message", compact && "compact", ...kindsOf(message)].filter(Boolean).join(" "), tabindex: "-1",
    "aria-label": `${nameOf(message.user)}, ${timeOf(message.ts)}`,
    data: { testid: "message", ts: message.ts, user: message.user, ephemeral: message.ephemeral ? "true" : null },
  },
  el("div", { class: "gutter" }, compact ? timeNode(message.ts) : avatar(message.user)),
  el("div", { class: "content" },
    (message.ephemeral || message.system) && onlyYou(),
    !compact && byline(message),
    bodyOf(message),
    message.files?.map(fileNode),
    !inThread && threadFoot(message, replies)),
  mayReply && el("div", { class: "tools" }, iconButton("chat", "Reply in thread", () => openThread(message.ts), { data: { testid: "reply" } })));
}

const dayDivider = (ts) => el("div", { class: "divider", role: "separator" }, el("span", {}, dayOf(ts)));
const newDivider = () => el("div", { class: "divider new", role: "separator" }, el("span", {}, "New"));

const continues = (message, before) => before && before.user === message.user && !kindsOf(message).length && !kindsOf(before).length
  && message.ts - before.ts < GROUP_SECONDS && dayOf(message.ts) === dayOf(before.ts);

// What the list shows, in order: {key, signature, content, make}.  `content` alone decides whether a redraw flashes.
function rowsOf(messages, inThread) {
  return messages.flatMap((message, index) => {
    const before = messages[index - 1];
    const newDay = !inThread && (!before || dayOf(before.ts) !== dayOf(message.ts));
    const isNew = !inThread && isFirstUnread(message);
    const replies = inThread ? [] : repliesTo(message.channel, message.ts);
    const compact = Boolean(continues(message, before)) && !isNew;
    const content = JSON.stringify(message);
    return [
      newDay && { key: `day-${message.ts}`, signature: dayOf(message.ts), make: () => dayDivider(message.ts) },
      isNew && { key: `new-${message.ts}`, signature: "", make: newDivider },
      { key: message.ts, content, signature: JSON.stringify([content, compact, replies.map((reply) => [reply.ts, reply.user])]), make: () => messageNode(message, { compact, replies, inThread }) },
    ].filter(Boolean);
  });
}

// A redrawn message gives the keyboard back to the button that stood in the same place.
function keepFocus(old, fresh) {
  if (!old.contains(document.activeElement)) return () => {};
  const action = document.activeElement.closest("[data-action-id]")?.dataset.actionId;
  return () => (fresh.querySelector(`[data-action-id="${CSS.escape(action ?? "")}"]`) ?? fresh).focus({ preventScroll: true });
}

export class MessageList {
  #rows = new Map();

  constructor(container) { this.container = container; }

  clear() {
    this.#rows.clear();
    this.container.replaceChildren();
  }

  #rowNode(row) {
    const held = this.#rows.get(row.key);
    if (held?.signature === row.signature) return held.node;
    const node = row.make();
    if (held && held.content !== row.content) node.classList.add("changed");
    if (held) {
      const refocus = keepFocus(held.node, node);
      held.node.replaceWith(node);
      refocus();
    }
    this.#rows.set(row.key, { ...row, node });
    return node;
  }

  // A message somebody followed a link to.
  nodeOf(ts) { return this.#rows.get(ts)?.node; }

  draw(messages, inThread = false) {
    const rows = rowsOf(messages, inThread);
    const keys = new Set(rows.map((row) => row.key));
    for (const [key, { node }] of this.#rows) if (!keys.has(key)) { node.remove(); this.#rows.delete(key); }
    rows.forEach((row, index) => {
      const node = this.#rowNode(row);
      if (this.container.children[index] !== node) this.container.insertBefore(node, this.container.children[index] ?? null);
    });
  }
}
