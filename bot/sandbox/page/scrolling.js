// A scroller that stays at the bottom while its reader is there, and offers a pill when something arrives below.

import { el, icon } from "./dom.js";

const NEAR_PX = 48;

export class Scroller {
  #pinned = true;

  constructor(label, testid) {
    this.content = el("div", { class: "scroll-content" });
    this.pill = el("button", { type: "button", class: "pill", hidden: true, data: { testid }, on: { click: () => this.toBottom() } }, icon("down"), "New messages");
    this.frame = el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": label, on: { scroll: () => this.#scrolled() } }, this.content);
    this.node = el("div", { class: "scroll-box" }, this.frame, this.pill);
    const watch = new ResizeObserver(() => this.#settle());
    watch.observe(this.content);
    watch.observe(this.frame);
  }

  #scrolled() {
    this.#pinned = this.frame.scrollHeight - this.frame.scrollTop - this.frame.clientHeight < NEAR_PX;
    if (this.#pinned) this.pill.hidden = true;
  }

  #settle() {
    if (this.#pinned) this.frame.scrollTop = this.frame.scrollHeight;
  }

  toBottom() {
    this.#pinned = true;
    this.pill.hidden = true;
    this.#settle();
  }

  show(node) {
    this.#pinned = false;
    node.scrollIntoView({ block: "center" });
  }

  arrived() {
    if (this.#pinned) this.#settle();
    else this.pill.hidden = false;
  }
}
