// Modals: the top view of the stack, in one dialog that keeps what was typed while the app redraws it.

import { post } from "./api.js";
import { blockNodes } from "./blocks.js";
import { byId, el, icon, iconButton } from "./dom.js";
import { readViews } from "./live.js";
import { plain } from "./mrkdwn.js";
import { avatar } from "./people.js";
import { changed, state } from "./state.js";
import { Values, elementsOf, problemsIn } from "./values.js";

const LATE = "The app did not acknowledge this. What you typed is still here; try again.";

const dialog = byId("modal");
let held = new Map();                                     // view id -> Values
let note = {};                                            // {errors?, trouble?, sending?} about the view on top
let drawn = null;

const top = () => state.views.at(-1);

function valuesOf(view) {
  if (!held.has(view.id)) held.set(view.id, new Values(view.state?.values));
  return held.get(view.id);
}

function surfaceOf(view) {
  const values = valuesOf(view);
  const send = (block, element, payload) => post("action", {
    user: state.me.id, view_id: view.id, block_id: block.block_id, action_id: element.action_id, state: values.collect(view.blocks), ...payload,
  });
  return { values, send, errors: note.errors };
}

function say(next) {
  note = next;
  drawModal();
  const firstError = dialog.querySelector(".field-error:not([hidden])");
  firstError?.closest(".block").querySelector("input, select, textarea, button")?.focus();
}

function noteAfter(answer) {
  if (!answer.ok || answer.acked === false) return { trouble: answer.message ?? LATE };
  return { errors: answer.errors };
}

async function submit(view) {
  if (note.sending) return;
  const values = valuesOf(view);
  const errors = problemsIn(view.blocks, values);
  if (Object.keys(errors).length) return say({ errors });
  say({ sending: true });
  const answer = await post("submit", { user: state.me.id, view_id: view.id, values: values.collect(view.blocks) });
  if (answer.response !== "errors" && answer.ok) await readViews();
  say(noteAfter(answer));
}

async function closeViews(views) {
  for (const view of [...views].reverse()) await post("close", { user: state.me.id, view_id: view.id });
  await readViews();
}

const closeTop = () => closeViews([top()]);
const closeAll = () => closeViews(state.views);

function head(view) {
  const back = state.views.length > 1 && iconButton("back", "Back", closeTop, { data: { testid: "modal-back" } });
  return el("header", { class: "modal-head" }, back || avatar(state.app.bot_user_id, "small"),
    el("h2", { id: "modal-title", dir: "auto" }, plain(view.title)), iconButton("close", "Close", closeAll, { data: { testid: "modal-x" } }));
}

function foot(view) {
  const close = el("button", { type: "button", class: "button", data: { testid: "modal-close" }, on: { click: closeTop } }, view.close ? plain(view.close) : "Close");
  const send = view.submit && el("button", { class: "button primary", "aria-busy": note.sending ? "true" : null, data: { testid: "modal-submit" } }, el("bdi", {}, plain(view.submit)));
  return el("footer", { class: "modal-foot" }, close, send);
}

const troubleNode = () => note.trouble && el("p", { class: "warning", role: "alert", data: { testid: "modal-trouble" } }, icon("alert"), note.trouble);

function fieldKey(node) {
  const element = node.closest("[data-action-id]");
  return element && JSON.stringify([element.dataset.blockId, element.dataset.actionId, node.dataset.value]);
}

// Remembers where the keyboard was, and puts it back into the field of the same name.
function keepFocus() {
  const active = document.activeElement;
  const key = dialog.contains(active) ? fieldKey(active) : null;
  const range = active?.matches?.("textarea, input[type=text], input:not([type])") ? [active.selectionStart, active.selectionEnd] : null;
  return () => {
    const field = key && [...dialog.querySelectorAll("input, select, textarea, button")].find((node) => fieldKey(node) === key);
    field?.focus();
    if (field && range) field.setSelectionRange(...range);
    return Boolean(field);
  };
}

function focusFirst(view) {
  const wanted = view.blocks.flatMap(elementsOf).find((element) => element.focus_on_load);
  const field = wanted ? `[data-action-id="${CSS.escape(wanted.action_id)}"]` : ".modal-body :is(input, textarea, select)";
  const places = [field, "[data-testid=modal-submit]", "[data-testid=modal-close]"];
  places.map((place) => dialog.querySelector(place)).find(Boolean).focus();
}

function drawView(view, isNew) {
  const refocus = keepFocus();
  const scrolled = dialog.querySelector(".modal-body")?.scrollTop ?? 0;
  const form = el("form", { class: "modal-form", novalidate: true, on: { submit: (event) => { event.preventDefault(); submit(view); } } },
    head(view), el("div", { class: "modal-body blocks" }, troubleNode(), blockNodes(view.blocks, surfaceOf(view))), foot(view));
  dialog.replaceChildren(form);
  dialog.dataset.viewId = view.id;
  if (!dialog.open) dialog.showModal();
  if (!isNew) form.querySelector(".modal-body").scrollTop = scrolled;
  if (isNew || !refocus()) focusFirst(view);
}

export function drawModal() {
  const view = top();
  held = new Map(state.views.filter((open) => held.has(open.id)).map((open) => [open.id, held.get(open.id)]));
  if (!view) {
    [drawn, note] = [null, {}];
    if (dialog.open) dialog.close();
    return;
  }
  if (dialog.dataset.viewId !== view.id) note = {};
  const needed = JSON.stringify([state.views.length, view.id, view.title, view.submit, view.close, view.blocks, note]);
  if (needed === drawn) return;
  const isNew = drawn === null || dialog.dataset.viewId !== view.id;
  drawn = needed;
  drawView(view, isNew);
}

// A browser may close a dialog on a second Esc whatever the page says; the server's stack decides.
function reopen() {
  if (!top()) return;
  drawn = null;
  changed();
}

export function mountModal() {
  dialog.addEventListener("cancel", (event) => { event.preventDefault(); closeTop(); });
  dialog.addEventListener("close", reopen);
}
