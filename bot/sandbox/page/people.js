// Avatars, and the switch that says who this tab acts as.

import { byId, el, hiddenText, icon, iconButton, picture } from "./dom.js";
import { switchTo } from "./live.js";
import { menuItem, withPanel } from "./popover.js";
import { appName, isApp, isMe, people, state, userById } from "./state.js";

const initials = (name) => name.split(/\s+/).map((word) => [...word][0]).slice(0, 2).join("").toUpperCase();

export function avatar(id, size = "") {
  if (isApp(id)) return el("span", { class: `avatar app ${size}`, "aria-hidden": "true" }, picture("app-mark", "app-mark"));
  const user = userById(id);
  const node = el("span", { class: `avatar ${size}`, "aria-hidden": "true" }, initials(nameOf(id)));
  node.style.setProperty("--person", user?.colour ?? "#5d6670");
  return node;
}

export const nameOf = (id) => (isApp(id) ? appName() : userById(id)?.name ?? "Slackbot");

const roleOf = (user) => [user.title, user.is_restricted && "guest"].filter(Boolean).join(" · ") || `@${user.handle}`;

const whoIs = (user) => [avatar(user.id), el("span", { class: "who" }, el("bdi", { class: "who-name" }, user.name), el("span", { class: "who-title" }, roleOf(user)))];

const personItem = (user) => menuItem([whoIs(user), isMe(user.id) && icon("check")], () => switchTo(user),
  { data: { testid: `as-${user.handle}` }, "aria-current": isMe(user.id) ? "true" : null });

function personSwitch() {
  const opener = el("button", { type: "button", class: "person-switch", data: { testid: "as", handle: state.me.handle } },
    hiddenText("You act as "), whoIs(state.me), hiddenText(". Change person"), icon("chevron"));
  const panel = el("div", { class: "menu people" }, el("p", { class: "menu-title" }, "Act as"), people().map(personItem),
    el("p", { class: "menu-note" }, "A second tab can be a second person."));
  return withPanel(opener, panel);
}

const openDrawer = () => { document.body.classList.add("drawer-open"); byId("sidebar").querySelector("[aria-current=page]")?.focus(); };

let drawn = "";

export function drawTopbar() {
  const needed = JSON.stringify([state.team, state.users, state.me]);
  if (needed === drawn || !state.me) return;
  drawn = needed;
  byId("topbar").replaceChildren(
    iconButton("menu", "Channels", openDrawer, { class: "icon-button drawer-button", data: { testid: "drawer" } }),
    el("img", { class: "logo", src: "/page/icon.svg", alt: "" }),
    el("strong", { class: "team" }, el("bdi", {}, state.team.name)),
    el("span", { class: "local-note", title: "Everything here runs on this computer. Nothing is sent to Slack." }, "Local", el("span", { class: "wide-only" }, " workspace"), ", not Slack"),
    ...personSwitch());
}
