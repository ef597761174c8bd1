// The pane on the right: one message and the replies to it.

import { Composer } from "./composer.js";
import { byId, el, iconButton } from "./dom.js";
import { MessageList } from "./messages.js";
import { closeThread } from "./places.js";
import { placeTitle, repliesTo, state } from "./state.js";
import { Scroller } from "./scrolling.js";

const scroller = new Scroller("Replies", "new-replies");
const list = new MessageList(el("div", { class: "messages" }));
const parent = new MessageList(el("div", { class: "messages parent" }));
const place = el("span", { class: "thread-place" });
const composer = new Composer({ testid: "thread-composer", where: () => ({ channel: state.place, thread: state.thread }), sent: () => scroller.toBottom() });

const close = iconButton("close", "Close thread", closeThread, { data: { testid: "thread-close" } });
scroller.content.append(parent.container, list.container);
composer.ask("Reply in the thread");

let shown = null;
let count = 0;

export function mountThread() {
  byId("thread").append(el("header", { class: "place-head" }, el("h2", {}, "Thread"), place, close), scroller.node, composer.node);
  byId("thread").addEventListener("keydown", (event) => { if (event.key === "Escape" && !event.defaultPrevented) closeThread(); });
}

export function drawThread() {
  const root = state.thread && state.messages.get(state.place)?.get(state.thread);
  byId("thread").hidden = !root;
  document.body.classList.toggle("with-thread", Boolean(root));
  if (!root) { shown = null; return; }
  if (shown !== `${state.me.id} ${root.ts}`) {
    shown = `${state.me.id} ${root.ts}`;
    parent.clear();
    list.clear();
    composer.reset();
    scroller.toBottom();
    close.focus();
  }
  const replies = repliesTo(state.place, root.ts);
  place.textContent = placeTitle(state.place);
  parent.draw([root], true);
  list.draw(replies, true);
  if (replies.length !== count) scroller.arrived();
  count = replies.length;
}
