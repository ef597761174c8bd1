// A panel that opens beneath a button.  The browser's popover closes it on Esc and on a click elsewhere.

import { el, later } from "./dom.js";

const GAP_PX = 6;

function placePanel(button, panel) {
  const anchor = button.getBoundingClientRect();
  panel.style.minWidth = `${Math.min(anchor.width, innerWidth - 2 * GAP_PX)}px`;
  const { offsetWidth: width, offsetHeight: height } = panel;
  const below = anchor.bottom + GAP_PX;
  const fits = below + height < innerHeight || anchor.top < height;
  panel.style.top = `${Math.max(GAP_PX, fits ? Math.min(below, innerHeight - height - GAP_PX) : anchor.top - GAP_PX - height)}px`;
  panel.style.left = `${Math.max(GAP_PX, Math.min(anchor.left, innerWidth - width - GAP_PX))}px`;
}

const items = (panel) => [...panel.querySelectorAll("button, input")];
const STEPS = { ArrowDown: 1, ArrowUp: -1 };

function moveFocus(event) {
  const step = STEPS[event.key];
  if (!step) return;
  event.preventDefault();
  const all = items(event.currentTarget);
  const at = all.indexOf(document.activeElement);
  all[(at + step + all.length) % all.length]?.focus();
}

// Both nodes, to be put side by side; closed() runs each time the panel goes away.
export function withPanel(button, panel, closed = () => {}) {
  panel.setAttribute("popover", "auto");
  button.popoverTargetElement = panel;
  button.setAttribute("aria-haspopup", "true");
  panel.addEventListener("keydown", moveFocus);
  panel.addEventListener("toggle", (event) => {
    button.setAttribute("aria-expanded", String(event.newState === "open"));
    if (event.newState !== "open") return closed();
    placePanel(button, panel);
    later(() => (panel.querySelector("[aria-current=true]") ?? items(panel)[0])?.focus());
  });
  return [button, panel];
}

export function menuItem(label, choose, properties = {}) {
  const click = (event) => { event.currentTarget.closest("[popover]").hidePopover(); choose(); };
  return el("button", { type: "button", class: "menu-item", on: { click }, ...properties }, label);
}
