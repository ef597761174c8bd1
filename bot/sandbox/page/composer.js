// Where people type: messages, and the app's slash commands.

import { post } from "./api.js";
import { el, icon } from "./dom.js";
import { state } from "./state.js";
import { Suggestions } from "./suggest.js";

const HISTORY_LENGTH = 50;
const LATE = "was not acknowledged by the app. It is back in the box, so that you can try again.";

const historyKey = () => `history:${state.me.handle}`;
const history = () => JSON.parse(localStorage.getItem(historyKey()) ?? "[]");

function remember(command) {
  const past = history().filter((other) => other !== command);
  localStorage.setItem(historyKey(), JSON.stringify([...past, command].slice(-HISTORY_LENGTH)));
}

const isCommand = (text) => /^\/\S/.test(text);

async function sendCommand({ channel }, text) {
  remember(text);
  const answer = await post("command", { user: state.me.id, channel, text });
  if (answer.ok && answer.acked === false) return { ok: false, message: `${text.split(/\s/)[0]} ${LATE}` };
  return answer;
}

const sendMessage = ({ channel, thread }, text) =>
  post("message", { user: state.me.id, channel, text, ...(thread && { thread_ts: thread }) });

const noCommandsHere = async (_, text) => ({ ok: false, message: `${text.split(/\s/)[0]} does not work in threads. Send it in the channel.` });

const senderFor = ({ thread }, text) => (!isCommand(text) ? sendMessage : thread ? noCommandsHere : sendCommand);

export class Composer {
  #recalled = -1;

  // where() -> {channel, thread?}; sent() runs as soon as something is on its way.
  constructor({ testid, where, sent }) {
    this.where = where;
    this.sent = sent;
    this.input = el("textarea", { rows: 1, dir: "auto", data: { testid }, on: { input: () => this.#typed(), keydown: (event) => this.#key(event), blur: () => this.offers.hide() } });
    this.offers = new Suggestions(this.input, (text) => this.fill(text));
    this.note = el("p", { class: "composer-note", role: "status", data: { testid: `${testid}-note` } });
    const sendId = testid === "composer" ? "send" : `${testid}-send`;
    this.button = el("button", { class: "send", "aria-label": "Send", title: "Send (Enter)", data: { testid: sendId } }, icon("send"));
    this.node = el("form", { class: "composer", on: { submit: (event) => { event.preventDefault(); this.#send(); } } },
      this.offers.node, el("div", { class: "composer-box" }, this.input, this.button), this.note);
    this.#idle();
  }

  ask(placeholder) {
    this.input.placeholder = placeholder;
    this.input.setAttribute("aria-label", placeholder);
  }

  fill(text) {
    this.input.value = text;
    this.input.focus();
    this.input.setSelectionRange(text.length, text.length);
    this.#fit();
    this.offers.update();
  }

  // Another place or person: nothing typed here belongs there.
  reset() {
    this.input.value = "";
    this.#recalled = -1;
    this.#fit();
    this.#idle();
    this.offers.hide();
  }

  #idle() { this.#say("", ""); }

  #say(mood, ...content) {
    this.note.className = `composer-note ${mood}`;
    this.note.replaceChildren(...content);
  }

  #fit() {
    this.input.style.height = "auto";
    this.input.style.height = `${this.input.scrollHeight}px`;
    this.button.disabled = !this.input.value.trim();
  }

  #typed() {
    this.#recalled = -1;
    this.#idle();
    this.#fit();
    this.offers.update();
  }

  #key(event) {
    if (event.isComposing) return;
    if (this.#recalled < 0 && this.offers.key(event)) return event.preventDefault();
    if (event.key === "Enter" && !event.shiftKey) { event.preventDefault(); this.#send(); }
    if (event.key === "ArrowUp" && this.#mayRecall()) { event.preventDefault(); this.#recall(1); }
    if (event.key === "ArrowDown" && this.#recalled >= 0) { event.preventDefault(); this.#recall(-1); }
  }

  #mayRecall() { return !this.input.value || this.#recalled >= 0; }

  #recall(step) {
    const past = history();
    this.#recalled = Math.min(Math.max(this.#recalled + step, -1), past.length - 1);
    this.input.value = past.at(-1 - this.#recalled) && this.#recalled >= 0 ? past.at(-1 - this.#recalled) : "";
    this.#fit();
    this.offers.hide();
  }

  async #send() {
    const text = this.input.value.trim();
    if (!text) return;
    const where = this.where();
    this.reset();
    this.sent();
    const slow = setTimeout(() => this.#say("sending", el("span", {}, "Sending ", el("code", {}, text.slice(0, 60)), "…")), 150);
    const answer = await senderFor(where, text)(where, text);
    clearTimeout(slow);
    if (this.where().channel !== where.channel) return;
    if (answer.ok) return this.#idle();
    if (!this.input.value) this.fill(text);
    this.offers.hide();
    this.#say("failed", icon("alert"), answer.message);
  }
}
