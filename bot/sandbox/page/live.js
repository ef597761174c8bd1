// Keeps the page's knowledge equal to the server's: everything is read when the stream opens, then changes are followed.

import { get, isActing, openStream } from "./api.js";
import { announce, toast } from "./dom.js";
import { personInAddress, readAddress, writePerson } from "./places.js";
import { markRead } from "./reading.js";
import { appName, changed, isMe, placeIds, putMessage, putMessages, state, userById } from "./state.js";

let endStream = () => {};
let ready = Promise.resolve();
let viewsAsked = 0;

async function readWorkspace() {
  const answer = await get("state");
  if (!answer.ok) return false;
  const { team, app, users, channels, ims, groups, commands, links = [] } = answer;
  Object.assign(state, { team, app, users, channels, ims, groups, commands, links });
  state.me = users.find((user) => isMe(user.id)) ?? personInAddress();
  return true;
}

async function readMessages(channel) {
  const me = state.me.id;
  const answer = await get("messages", { channel, user: me });
  if (answer.ok && isMe(me)) putMessages(channel, answer.messages);
}

// Asked again at every change of a view: the stack as the server has it, so that nothing here can drift.
export async function readViews() {
  const asked = ++viewsAsked;
  const answer = await get("views", { user: state.me.id });
  if (!answer.ok || asked !== viewsAsked) return;
  state.views = answer.stack;
  changed();
}

async function readHome() {
  const answer = await get("home", { user: state.me.id });
  if (answer.ok) state.home = answer.view;
}

async function readEverything() {
  if (!await readWorkspace()) return;
  const me = state.me.id;
  await Promise.all([...placeIds().map(readMessages), readViews(), readHome()]);
  if (!isMe(me)) return;                                  // the tab became somebody else in the meantime
  if (!state.loaded) readAddress();
  state.loaded = true;
  markRead(state.place);
  changed();
}

function summary(message) {
  const who = userById(message.user)?.name ?? appName();
  return `${who}: ${(message.text || "sent a message").slice(0, 200)}`;
}

const EVENTS = {
  message: ({ message }) => {
    const isNew = !state.messages.get(message.channel)?.has(message.ts);
    putMessage(message);
    if (message.channel !== state.place) return;
    markRead(message.channel);
    if (isNew && !isMe(message.user)) announce(summary(message));
  },
  view: readViews,
  home: ({ view }) => { state.home = view; },
  app: ({ connected }) => { state.app = { ...state.app, connected }; },
  failed: ({ text }) => { if (!isActing()) toast(text); },
  state: async () => {
    await readWorkspace();
    await Promise.all(placeIds().filter((id) => !state.messages.has(id)).map(readMessages));
  },
};

async function follow(event) {
  await ready;                                            // what was read is older than any event of the stream
  await EVENTS[event.type]?.(event);
  changed();
}

function setLive(live) {
  state.live = live;
  changed();
}

export async function become(user) {
  endStream();
  Object.assign(state, { me: user, loaded: false, place: null, thread: null, views: [], home: null, messages: new Map() });
  endStream = openStream(user.id, {
    opened: () => { setLive(true); ready = readEverything(); },
    lost: () => setLive(false),
    event: follow,
  });
}

export function switchTo(user) {
  writePerson(user.handle);
  become(user);
}

export async function start() {
  while (!await readWorkspace()) await new Promise((wake) => setTimeout(wake, 1000));
  become(personInAddress());
}
