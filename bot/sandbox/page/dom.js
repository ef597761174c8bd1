// Making DOM nodes.  Nothing on this page is ever parsed as HTML: strings become text nodes, so hostile text is inert.

const SVG = "http://www.w3.org/2000/svg";

// Wait until the browser has laid the new nodes out.
export const later = (run) => setTimeout(run, 0);

const SPECIAL = {
  on: (node, handlers) => Object.entries(handlers).forEach(([type, run]) => node.addEventListener(type, run)),
  data: (node, values) => Object.entries(values).forEach(([key, value]) => { if (value != null) node.dataset[key] = value; }),
  value: (node, value) => { node.value = value; },
};

function setProperty(node, name, value) {
  if (value == null || value === false) return;
  if (SPECIAL[name]) SPECIAL[name](node, value);
  else node.setAttribute(name, value === true ? "" : value);
}

const present = (child) => child != null && child !== false && child !== "";

// el("button", {class: "quiet", on: {click}}, "Reply") — children are nodes, strings, arrays, or nothing.
export function el(tag, properties = {}, ...children) {
  const node = document.createElement(tag);
  node.append(...children.flat(3).filter(present));
  for (const [name, value] of Object.entries(properties)) setProperty(node, name, value);
  return node;
}

// Drawn once into the page: a picture then needs no request, and stays when the server is away.
export async function loadPictures() {
  for (const file of ["icons.svg", "emoji.svg"]) {
    const text = await (await fetch(`/page/${file}`)).text();
    const sheet = document.adoptNode(new DOMParser().parseFromString(text, "image/svg+xml").documentElement);
    sheet.setAttribute("class", "picture-sheet");
    document.body.append(sheet);
  }
}

export function picture(id, className) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("class", className);
  svg.setAttribute("aria-hidden", "true");
  const use = document.createElementNS(SVG, "use");
  use.setAttribute("href", `#${id}`);
  svg.append(use);
  return svg;
}

export const icon = (name) => picture(`icon-${name}`, "icon");
export const hiddenText = (text) => el("span", { class: "hidden-text" }, text);
export const byId = (id) => document.getElementById(id);

export function iconButton(name, label, click, properties = {}) {
  return el("button", { type: "button", class: "icon-button", "aria-label": label, title: label, on: { click }, ...properties }, icon(name));
}

// An address that is safe to put into href: anything else (javascript:, data:, …) is not a link.
export function safeUrl(text) {
  try {
    const url = new URL(text, location.href);
    return ["http:", "https:", "mailto:"].includes(url.protocol) ? url.href : null;
  } catch {
    return null;
  }
}

// Someone who knows places of this page may take a link over: follow(url) answers true when it did.
let follow = () => false;
export const followLinksWith = (run) => { follow = run; };
const followed = (event) => { if (follow(new URL(event.currentTarget.href))) event.preventDefault(); };

export function linkNode(url, ...label) {
  const href = safeUrl(url);
  if (!href) return el("span", {}, ...label);
  return el("a", { href, target: "_blank", rel: "noopener noreferrer", on: { click: followed } }, ...label);
}

export function announce(text) {
  byId("announcer").textContent = text;
}

export function toast(text) {
  const node = el("div", { class: "toast", data: { testid: "toast" } }, icon("alert"), el("span", {}, text));
  byId("toasts").append(node);
  setTimeout(() => node.remove(), 8000);
}
