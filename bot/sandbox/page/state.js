// What the page knows, and the few questions that everyone asks of it.

export const HOME = "home";

export const state = {
  loaded: false,
  live: false,               // the stream of changes is open
  team: {}, app: {}, users: [], channels: [], ims: [], groups: [], commands: [], links: [],
  me: null,                  // the person this tab acts as
  place: null,               // HOME or the id of a channel
  thread: null,              // ts of the message whose thread is open
  sought: null,              // ts of a message a link led to, until it was shown
  messages: new Map(),       // channel id -> Map(ts -> message)
  views: [],                 // open modals, the top one last
  home: null,                // the app's Home view for this person
};

const watchers = [];
let scheduled = false;

export const onChange = (run) => watchers.push(run);

// Redraws once, however many things changed in this turn.
export function changed() {
  if (scheduled) return;
  scheduled = true;
  setTimeout(() => {
    scheduled = false;
    for (const run of watchers) run();
  });
}

export const userById = (id) => state.users.find((user) => user.id === id);
export const groupById = (id) => state.groups.find((group) => group.id === id);
export const channelById = (id) => state.channels.find((channel) => channel.id === id);
export const isMe = (id) => id === state.me?.id;
export const isApp = (id) => id === state.app.bot_user_id;
export const people = () => state.users.filter((user) => !user.is_bot && !user.deleted);

export const appIm = () => state.ims.find((im) => isMe(im.user));
export const isAppIm = (id) => appIm()?.id === id;
export const isMember = (channel) => channel.members.includes(state.me?.id);

// Guests see only the channels they were invited to.
const maySee = (channel) => isMember(channel) || (!channel.private && !state.me?.is_restricted);
export const visibleChannels = () => state.channels.filter(maySee);
export const placeIds = () => [...visibleChannels().map((channel) => channel.id), appIm()?.id].filter(Boolean);

export const appName = () => userById(state.app.bot_user_id)?.name ?? state.app.name ?? "App";

export function placeTitle(id) {
  if (id === HOME || isAppIm(id)) return appName();
  return `#${channelById(id)?.name ?? "unknown"}`;
}

const byTs = (one, other) => (one.ts < other.ts ? -1 : 1);
export const messagesIn = (channel) => [...(state.messages.get(channel)?.values() ?? [])].sort(byTs);

export const isReply = (message) => Boolean(message.thread_ts) && message.thread_ts !== message.ts;
export const repliesTo = (channel, ts) => messagesIn(channel).filter((message) => message.thread_ts === ts && message.ts !== ts && !message.deleted);

export function putMessage(message) {
  if (!state.messages.has(message.channel)) state.messages.set(message.channel, new Map());
  state.messages.get(message.channel).set(message.ts, message);
}

export function putMessages(channel, messages) {
  state.messages.set(channel, new Map(messages.map((message) => [message.ts, message])));
}
