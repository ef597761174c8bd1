// The app's Home: a page of blocks the app publishes for each person.

import { post } from "./api.js";
import { blockNodes } from "./blocks.js";
import { el } from "./dom.js";
import { avatar } from "./people.js";
import { HOME, appName, state } from "./state.js";
import { Values } from "./values.js";

const body = el("div", { class: "home-body" });
const head = el("header", { class: "place-head" });
export const homeNode = el("section", { class: "home", data: { testid: "home-view" } }, head, el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Home" }, body));

let openedBy = null;
let drawn = null;

function surfaceOf(view) {
  const values = new Values(view.state?.values);
  const send = (block, element, payload) => post("action", {
    user: state.me.id, view_id: view.id, block_id: block.block_id, action_id: element.action_id, state: values.collect(view.blocks), ...payload,
  });
  return { values, send };
}

const nothingYet = () => el("div", { class: "empty" }, el("h2", {}, `${appName()} has not filled this page`),
  el("p", {}, state.app.connected ? "It usually does so a moment after you open it." : "It is not connected at the moment."));

function drawBody() {
  const needed = JSON.stringify([state.me.id, state.home, state.app.connected]);
  if (drawn === needed) return;
  drawn = needed;
  body.replaceChildren(...(state.home ? [el("div", { class: "blocks" }, blockNodes(state.home.blocks, surfaceOf(state.home)))] : [nothingYet()]));
}

export function drawHome() {
  const visible = state.loaded && state.place === HOME;
  homeNode.hidden = !visible;
  if (!visible) { openedBy = null; return; }
  head.replaceChildren(el("h1", {}, avatar(state.app.bot_user_id, "small"), appName()), el("p", { class: "topic" }, `Home, as ${state.me.name} sees it`));
  drawBody();
  if (openedBy === state.me.id) return;
  openedBy = state.me.id;
  post("home_opened", { user: state.me.id });
}
