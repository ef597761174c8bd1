// Block Kit's interactive elements.  A maker gets (element, held, use): what the element holds now, and what it may do —
// use.keep(state) remembers, use.choose(state) remembers and tells the app where the block is not a plain input.

import { askConfirm } from "./confirm.js";
import { el, icon, safeUrl, toast } from "./dom.js";
import { emojiCharacters } from "./emoji.js";
import { plain, textNode } from "./mrkdwn.js";
import { menuItem, withPanel } from "./popover.js";
import { people, visibleChannels } from "./state.js";
import { holdsValue, payloadOf } from "./values.js";
import { imageNode } from "./images.js";

const LATE = "The app did not acknowledge this. It may or may not have happened: look before you try again.";

function warn(node, text) {
  const block = node.closest(".block");
  if (!block) return toast(text);
  block.append(el("p", { class: "warning", role: "alert", data: { testid: "action-warning" } }, icon("alert"), text));
}

// Tells the app, once at a time; answers false when the person said no to the element's question.
async function act(node, { element, block, surface }, payload) {
  if (node.getAttribute("aria-busy")) return true;
  if (element.confirm && !await askConfirm(element.confirm)) return false;
  node.closest(".block")?.querySelector(".warning")?.remove();
  node.setAttribute("aria-busy", "true");
  const answer = await surface.send(block, element, element.confirm ? { ...payload, confirmed: true } : payload);
  node.removeAttribute("aria-busy");
  if (!answer.ok || answer.acked === false) warn(node, answer.message ?? LATE);
  return true;
}

const BUTTONS = { primary: "button primary", danger: "button danger" };

function button(element, _, use) {
  const href = element.url && safeUrl(element.url);
  const properties = { class: BUTTONS[element.style] ?? "button", "aria-label": element.accessibility_label };
  const click = (event) => { use.act(event.currentTarget, {}); };
  const label = el("bdi", {}, plain(element.text));
  if (href) return el("a", { ...properties, href, target: "_blank", rel: "noopener noreferrer", on: { click } }, label, icon("link"));
  return el("button", { ...properties, type: "button", on: { click } }, label);
}

function overflow(element, _, use) {
  const opener = el("button", { type: "button", class: "button narrow", "aria-label": "More actions" }, icon("dots"));
  const choose = (option) => () => {
    if (option.url) window.open(safeUrl(option.url), "_blank", "noopener");
    use.act(opener, { selected_option: option });
  };
  const panel = el("div", { class: "menu" }, element.options.map((option) => menuItem(plain(option.text), choose(option))));
  return el("span", { class: "anchor" }, withPanel(opener, panel));
}

const optionNode = (option, chosen) => el("option", { value: option.value, selected: option.value === chosen }, emojiCharacters(option.text.text));
const groupNode = (group, chosen) => el("optgroup", { label: group.label.text }, group.options.map((option) => optionNode(option, chosen)));
const allOptions = (element) => element.options ?? element.option_groups.flatMap((group) => group.options);

function select(element, use, chosen, nodes, stateFor) {
  const node = el("select", { ...use.labels, on: { change: () => use.choose(node, stateFor(node.value || null)) } },
    el("option", { value: "", disabled: !use.optional, selected: !chosen }, element.placeholder?.text ?? "Choose…"), nodes);
  return node;
}

function staticSelect(element, held, use) {
  const chosen = held.selected_option?.value;
  const nodes = element.option_groups?.map((group) => groupNode(group, chosen)) ?? element.options.map((option) => optionNode(option, chosen));
  const find = (value) => allOptions(element).find((option) => option.value === value) ?? null;
  return select(element, use, chosen, nodes, (value) => ({ selected_option: find(value) }));
}

const usersSelect = (element, held, use) => select(element, use, held.selected_user,
  people().map((user) => optionNode({ value: user.id, text: { text: user.name } }, held.selected_user)), (value) => ({ selected_user: value }));

const conversationsSelect = (element, held, use) => select(element, use, held.selected_conversation,
  visibleChannels().map((channel) => optionNode({ value: channel.id, text: { text: `#${channel.name}` } }, held.selected_conversation)),
  (value) => ({ selected_conversation: value }));

const optionLabel = (option) => el("span", {}, textNode(option.text), option.description && textNode(option.description, { class: "text description" }));

// Boxes to tick; ticked(options) gets what is chosen, in the order of the list.
function tickBoxes(options, chosen, type, name, ticked) {
  const picked = new Set(chosen.map((option) => option.value));
  const boxes = options.map((option) => el("input", { type, name, checked: picked.has(option.value), data: { value: option.value } }));
  const change = () => ticked(options.filter((_, index) => boxes[index].checked));
  return options.map((option, index) => el("label", { class: "tick", on: { change } }, boxes[index], optionLabel(option)));
}

let groups = 0;

function checkboxes(element, held, use) {
  const node = el("div", { class: "ticks", role: "group", ...use.labels });
  node.append(...tickBoxes(element.options, held.selected_options, "checkbox", null, (selected_options) => use.choose(node, { selected_options })));
  return node;
}

function radioButtons(element, held, use) {
  const node = el("div", { class: "ticks", role: "radiogroup", ...use.labels });
  const chosen = held.selected_option ? [held.selected_option] : [];
  node.append(...tickBoxes(element.options, chosen, "radio", `radio-${++groups}`, ([selected_option]) => use.choose(node, { selected_option })));
  return node;
}

const chips = (options, element) => [
  options.length > 0 && options.map((option) => el("span", { class: "chip" }, plain(option.text))),
  options.length === 0 && el("span", { class: "placeholder" }, element.placeholder?.text ?? "Choose…"),
];

function multiSelect(element, held, use) {
  let chosen = held.selected_options;
  const shown = el("span", { class: "chips" }, chips(chosen, element));
  const opener = el("button", { type: "button", class: "select-like", ...use.labels }, shown, icon("chevron"));
  const tick = (options) => {
    chosen = options;
    shown.replaceChildren(...chips(chosen, element).flat().filter(Boolean));
    use.keep({ selected_options: chosen });
  };
  const told = () => { if (chosen !== held.selected_options) use.choose(opener, { selected_options: chosen }); };
  const panel = el("div", { class: "menu ticks" }, tickBoxes(allOptions(element), chosen, "checkbox", null, tick));
  return el("span", { class: "anchor wide" }, withPanel(opener, panel, told));
}

// Enter in a one-line field must not send a modal: Slack's does not either.
const enterTells = (use, stateOf) => (event) => {
  if (event.key !== "Enter" || event.isComposing || event.currentTarget.matches("textarea")) return;
  event.preventDefault();
  use.choose(event.currentTarget, stateOf(event.currentTarget));
};

function field(tag, element, use, properties, stateOf) {
  const on = { input: (event) => use.keep(stateOf(event.currentTarget)), keydown: enterTells(use, stateOf) };
  return el(tag, { placeholder: element.placeholder?.text, dir: "auto", autocomplete: "off", ...use.labels, ...properties, on });
}

const typed = (node) => ({ value: node.value || null });

const textInput = (element, held, use) => field(element.multiline ? "textarea" : "input", element, use,
  { value: held.value, maxlength: element.max_length, rows: element.multiline ? 3 : null }, typed);

const numberInput = (element, held, use) => field("input", element, use,
  { type: "text", inputmode: element.is_decimal_allowed ? "decimal" : "numeric", value: held.value }, typed);

const picker = (type, name) => (element, held, use) => {
  const node = el("input", { type, ...use.labels, value: held[name], on: { change: () => use.choose(node, { [name]: node.value || null }) } });
  return node;
};

const ELEMENTS = {
  button, overflow,
  static_select: staticSelect, multi_static_select: multiSelect, users_select: usersSelect, conversations_select: conversationsSelect,
  plain_text_input: textInput, number_input: numberInput,
  radio_buttons: radioButtons, checkboxes,
  datepicker: picker("date", "selected_date"), timepicker: picker("time", "selected_time"),
  image: (element) => imageNode(element, "accessory-image"),
};

export const unknown = (kind, type) => el("p", { class: "unknown", role: "note" }, `${kind} the page does not know: ${type}`);

// A change the person took back: the control is drawn again from what was held before.
const redraw = (node, context) => node.closest("[data-action-id]")?.replaceWith(elementNode(context));

function usesOf(context) {
  const { element, block, surface } = context;
  const held = (change) => ({ type: element.type, ...change });
  const keep = (change) => surface.values.set(block.block_id, element.action_id, held(change));
  const choose = async (node, change) => {
    if (block.type === "input") keep(change);
    if (block.type === "input" && !block.dispatch_action) return;
    if (!await act(node, context, payloadOf(held(change)))) return redraw(node, context);
    keep(change);
  };
  return { keep, choose, act: (node, payload) => act(node, context, payload), optional: block.optional, labels: context.labels };
}

// context: {element, block, surface, labels}; surface: {values, send(block, element, payload)}.
export function elementNode(context) {
  const { element, block, surface } = context;
  const make = ELEMENTS[element.type];
  if (!make) return unknown("element", element.type);
  const node = make(element, holdsValue(element) ? surface.values.of(block, element) : null, usesOf(context));
  node.dataset.actionId = element.action_id ?? "";
  node.dataset.blockId = block.block_id ?? "";
  node.classList.add("element");
  return node;
}
