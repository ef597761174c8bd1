// Channels, the app, and the panel about the workspace itself.

import { byId, el, hiddenText, icon, linkNode } from "./dom.js";
import { goTo } from "./places.js";
import { readingOf } from "./reading.js";
import { HOME, appIm, appName, isMember, state, visibleChannels } from "./state.js";

const NOTHING_NEW = { unread: false, mentions: 0 };

function marks({ unread, mentions }) {
  if (mentions) return el("span", { class: "badge", data: { testid: "mentions" } }, String(mentions), hiddenText(" for you"));
  return unread && el("span", { class: "dot", data: { testid: "unread" } }, hiddenText("unread"));
}

function entry(id, iconName, title, testid, { news = NOTHING_NEW, faint = false } = {}) {
  const here = state.place === id;
  const classes = ["entry", (news.unread || news.mentions) && "unread", faint && "faint"].filter(Boolean).join(" ");
  return el("li", {}, el("button", {
    type: "button", class: classes, "aria-current": here ? "page" : null, data: { testid }, on: { click: () => goTo({ place: id }) },
  }, icon(iconName), el("bdi", { class: "entry-title" }, title), marks(news)));
}

function channelEntry(channel) {
  const faint = !isMember(channel) || channel.archived;
  const news = isMember(channel) ? readingOf(channel.id) : NOTHING_NEW;
  return entry(channel.id, channel.private ? "lock" : "hash", channel.name, `channel-${channel.name}`, { news, faint });
}

const group = (title, entries) => entries.length > 0 && el("section", { class: "group", "aria-label": title }, el("h2", {}, title), el("ul", {}, entries));

function appEntries() {
  const im = appIm();
  return [
    state.app.home && entry(HOME, "home", "Home", "home"),
    im && entry(im.id, "chat", "Messages", "messages", { news: readingOf(im.id) }),
  ].filter(Boolean);
}

const STATUS = {
  offline: () => ["bad", "Workspace server is away; reconnecting…"],
  connected: () => ["good", `${appName()} is connected`],
  absent: () => ["bad", `${appName()} is not connected: commands and buttons go unanswered`],
};

function statusLine() {
  const kind = !state.live ? "offline" : state.app.connected ? "connected" : "absent";
  const [mood, text] = STATUS[kind]();
  return el("p", { class: `status ${mood}`, role: "status", data: { testid: "app-status", state: kind } }, text);
}

const linkItem = ({ title, url }) => el("li", {}, linkNode(url, icon("link"), el("bdi", {}, title)));

const workspacePanel = () => el("section", { class: "workspace", "aria-label": "Workspace" },
  el("h2", {}, "Workspace"),
  statusLine(),
  state.links.length > 0 && el("ul", { class: "links" }, state.links.map(linkItem)),
  el("p", { class: "fine" }, "Runs on this computer only. It behaves like Slack but is not Slack, and nothing is sent there."));

export function drawSidebar() {
  const [mine, others] = [visibleChannels().filter(isMember), visibleChannels().filter((channel) => !isMember(channel))];
  const sidebar = byId("sidebar");
  const focused = sidebar.contains(document.activeElement) && document.activeElement.dataset.testid;
  sidebar.replaceChildren(
    el("div", { class: "groups" },
      group("Channels", mine.map(channelEntry)), group(appName(), appEntries()), group("Other channels", others.map(channelEntry))),
    workspacePanel());
  if (focused) sidebar.querySelector(`[data-testid="${CSS.escape(focused)}"]`)?.focus();
}
