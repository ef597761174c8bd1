// Puts the parts on the page and redraws them when something changed.

import { conversationNode, drawConversation } from "./conversation.js";
import { byId, followLinksWith, loadPictures } from "./dom.js";
import { drawHome, homeNode } from "./home.js";
import { become, start } from "./live.js";
import { drawModal, mountModal } from "./modal.js";
import { drawTopbar } from "./people.js";
import { goTo, linkedPlace, personInAddress, readAddress } from "./places.js";
import { markRead, readingOf } from "./reading.js";
import { drawSidebar } from "./sidebar.js";
import { HOME, changed, isMe, onChange, placeIds, placeTitle, state } from "./state.js";
import { drawThread, mountThread } from "./thread.js";

function drawTitle() {
  const waiting = placeIds().reduce((sum, id) => sum + readingOf(id).mentions, 0);
  const where = state.place === HOME ? "Home" : placeTitle(state.place);
  document.title = `${waiting ? `(${waiting}) ` : ""}${where} as ${state.me.name} · ${state.team.name}`;
}

function drawAll() {
  drawTopbar();
  if (!state.loaded) return;
  drawSidebar();
  drawConversation();
  drawHome();
  drawThread();
  drawModal();
  drawTitle();
}

function cameBack() {
  const person = personInAddress();
  if (isMe(person.id)) readAddress();
  else become(person);
}

function followLink(url) {
  const target = linkedPlace(url);
  if (target) goTo(target);
  return Boolean(target);
}

const closeDrawer = () => document.body.classList.remove("drawer-open");

byId("main").replaceChildren(conversationNode, homeNode);
conversationNode.hidden = true;
homeNode.hidden = true;
mountThread();
mountModal();
onChange(drawAll);
followLinksWith(followLink);
addEventListener("popstate", cameBack);
addEventListener("keydown", (event) => { if (event.key === "Escape") closeDrawer(); });
byId("scrim").addEventListener("click", closeDrawer);
document.addEventListener("visibilitychange", () => { if (state.loaded) { markRead(state.place); changed(); } });
loadPictures().then(start);
