// What the composer offers while somebody types: commands, what a command can do, people and channels.

import { el } from "./dom.js";
import { people, state, visibleChannels } from "./state.js";

const MOST = 8;

// "status POLICY · start [name]" -> its parts, divided by dots or bars; those inside brackets do not divide.
export const usagesOf = (command) =>
  (command.usage_hint ?? "").replace(/^\s*\[([^[\]]*\|[^[\]]*)\]\s*$/, "$1").split(/\s*[|·]\s*(?![^[<({]*[\]>)}])/).map((usage) => usage.trim()).filter(Boolean);

// The part of a usage that can be typed as it is: up to the first placeholder.
export const typable = (usage) => usage.replace(/\s*([<[({…]|\b[A-Z][A-Z_-]+\b).*$/, " ");

const starting = (prefix) => (word) => word.toLowerCase().startsWith(prefix.toLowerCase());

const commandOffers = ([, typed]) => state.commands.filter((command) => starting(typed)(command.command)).map((command) => ({
  text: `${command.command} `, title: command.command, detail: command.description, hint: command.usage_hint, eager: true,
}));

function usageOffers([, name, rest]) {
  const command = state.commands.find((known) => known.command === name);
  return command ? usagesOf(command).filter(starting(rest)).map((usage) => ({ text: `${name} ${typable(usage)}`, title: `${name} ${usage}` })) : [];
}

const personOffers = ([before, typed]) => people().filter((user) => starting(typed)(user.handle) || starting(typed)(user.name))
  .map((user) => ({ text: `${before.slice(0, before.length - typed.length)}${user.handle} `, title: `@${user.handle}`, detail: [user.name, user.title].filter(Boolean).join(" · "), eager: true }));

const channelOffers = ([before, typed]) => visibleChannels().filter((channel) => starting(typed)(channel.name))
  .map((channel) => ({ text: `${before.slice(0, before.length - typed.length)}${channel.name} `, title: `#${channel.name}`, detail: channel.topic, eager: true }));

const TRIGGERS = [
  [/^(\/\S*)$/, commandOffers],
  [/^(\/\S+)\s+(\S*)$/, usageOffers],
  [/^(?:[\s\S]*\s)?@([\w.-]*)$/, personOffers],
  [/^(?:[\s\S]*\s)?#([\w-]*)$/, channelOffers],
];

function offersFor(text) {
  for (const [pattern, offers] of TRIGGERS) {
    const match = text.match(pattern);
    if (match) return offers(match).slice(0, MOST);
  }
  return [];
}

let lists = 0;

// The list above an input.  `eager` offers are taken by Enter at once; others only after the arrow keys chose them.
export class Suggestions {
  #offers = [];
  #at = -1;

  constructor(input, take) {
    this.input = input;
    this.take = take;
    this.id = `offers-${++lists}`;
    this.node = el("div", { class: "offers", id: this.id, role: "listbox", "aria-label": "Suggestions", hidden: true, data: { testid: "suggestions" } });
    for (const [name, value] of Object.entries({ role: "combobox", "aria-autocomplete": "list", "aria-controls": this.id, "aria-expanded": "false" }))
      input.setAttribute(name, value);
  }

  update() {
    const before = this.input.value.slice(0, this.input.selectionStart);
    const atEnd = this.input.selectionStart === this.input.value.length;
    this.#offers = atEnd ? offersFor(before).filter((offer) => offer.text.trim() !== before.trim() || offer.hint) : [];
    this.#at = this.#offers[0]?.eager ? 0 : -1;
    this.#draw();
  }

  hide() {
    this.#offers = [];
    this.#draw();
  }

  #row(offer, index) {
    const click = (event) => { event.preventDefault(); this.take(offer.text); };
    return el("div", { class: "offer", role: "option", id: `${this.id}-${index}`, "aria-selected": String(index === this.#at), on: { mousedown: click } },
      el("span", { class: "offer-title" }, offer.title), offer.detail && el("span", { class: "offer-detail" }, offer.detail), offer.hint && el("code", { class: "offer-hint" }, offer.hint));
  }

  #draw() {
    this.node.hidden = !this.#offers.length;
    this.node.replaceChildren(...this.#offers.map((offer, index) => this.#row(offer, index)));
    this.input.setAttribute("aria-expanded", String(!this.node.hidden));
    this.input.setAttribute("aria-activedescendant", this.#at < 0 ? "" : `${this.id}-${this.#at}`);
  }

  #move(step) {
    this.#at = (this.#at + step + this.#offers.length + (this.#at < 0 && step < 0 ? 1 : 0)) % this.#offers.length;
    this.#draw();
  }

  #takeChosen(index) {
    const offer = this.#offers[index];
    if (!offer || offer.text.trim() === this.input.value.trim()) return false;
    this.take(offer.text);
    return true;
  }

  // True when the key was meant for the list.
  key(event) {
    if (this.node.hidden) return false;
    const KEYS = {
      ArrowDown: () => { this.#move(1); return true; },
      ArrowUp: () => { this.#move(-1); return true; },
      Escape: () => { this.hide(); return true; },
      Tab: () => !event.shiftKey && this.#takeChosen(Math.max(this.#at, 0)),
      Enter: () => !event.shiftKey && this.#takeChosen(this.#at),
    };
    return KEYS[event.key]?.() ?? false;
  }
}
