// Where this tab is: who acts, in which channel, with which thread open.  All of it is in the address, so a tab can be kept or shared.

import { HOME, appIm, changed, channelById, isAppIm, isMember, people, placeIds, state, visibleChannels } from "./state.js";
import { markRead, rememberUnread } from "./reading.js";

const placeQuery = (place) => {
  if (place === HOME) return { view: "home" };
  if (isAppIm(place)) return { view: "messages" };
  return { channel: channelById(place)?.name ?? "" };
};

function address() {
  const query = { as: state.me.handle, ...placeQuery(state.place) };
  if (state.thread) query.thread = state.thread;
  return `/?${new URLSearchParams(query)}`;
}

const VIEWS = { home: () => HOME, messages: () => appIm()?.id };

export const personInAddress = () => {
  const handle = new URLSearchParams(location.search).get("as");
  const named = (wanted) => people().find((user) => user.handle === wanted);
  return named(handle) ?? named(localStorage.getItem("person")) ?? people()[0];
};

const PERMALINK = /^\/archives\/(\w+)\/p(\d+)(\d{6})$/;

// A link to a message in Slack's form, as a place to go to; null for any other link.
export function linkedPlace(url) {
  const [, place, seconds, rest] = url.origin === location.origin && url.pathname.match(PERMALINK) || [];
  if (!placeIds().includes(place)) return null;
  return { place, thread: url.searchParams.get("thread_ts"), sought: `${seconds}.${rest}` };
}

// The place in the address, or the first channel this person is in.
function placeInAddress(query) {
  const named = VIEWS[query.get("view")]?.() ?? visibleChannels().find((channel) => channel.name === query.get("channel"))?.id;
  return named ?? visibleChannels().find(isMember)?.id ?? HOME;
}

export function readAddress() {
  const query = new URLSearchParams(location.search);
  arrive(linkedPlace(new URL(location)) ?? { place: placeInAddress(query), thread: query.get("thread") });
  history.replaceState(null, "", address());
}

function arrive({ place, thread = null, sought = null }) {
  if (place !== state.place) rememberUnread(place);
  state.place = place;
  state.thread = thread;
  state.sought = sought;
  document.body.classList.remove("drawer-open");
  markRead(place);
  changed();
}

export function goTo(target) {
  arrive(target);
  history.pushState(null, "", address());
}

export const openThread = (thread) => goTo({ place: state.place, thread });
export const closeThread = () => goTo({ place: state.place });

export function writePerson(handle) {
  const query = new URLSearchParams(location.search);
  query.set("as", handle);
  query.delete("thread");
  localStorage.setItem("person", handle);
  history.pushState(null, "", `/?${query}`);
}
