// What each person has read, kept in this browser: the server's channels have no reading marks.

import { HOME, isAppIm, isMe, isReply, messagesIn, state } from "./state.js";

const storageKey = () => `read:${state.team.id}:${state.me.id}`;
const cursors = () => JSON.parse(localStorage.getItem(storageKey()) ?? "{}");
const cursorOf = (channel) => cursors()[channel] ?? "0";

let firstUnread = { place: null, ts: null };

const isNews = (message) => !isMe(message.user) && !message.deleted && !message.system;
const newsIn = (channel) => {
  const cursor = cursorOf(channel);
  return messagesIn(channel).filter((message) => message.ts > cursor && isNews(message));
};

const myMarks = () => [
  `@${state.me.id}`, `"user_id":"${state.me.id}"`, "<!here", "<!channel", "<!everyone", '"type":"broadcast"',
  ...state.groups.filter((group) => group.users.includes(state.me.id)).flatMap((group) => [`^${group.id}`, `"usergroup_id":"${group.id}"`]),
];

function concernsMe(message) {
  if (isAppIm(message.channel)) return true;
  const content = JSON.stringify([message.text, message.blocks ?? []]);
  return myMarks().some((mark) => content.includes(mark));
}

// { unread: is there anything new, mentions: how many of them call this person }
export function readingOf(channel) {
  const news = newsIn(channel);
  const mentions = news.filter(concernsMe).length;
  return { unread: mentions > 0 || news.some((message) => !isReply(message)), mentions };
}

// Looking at a channel reads it; a tab in the background does not look.
export function markRead(channel) {
  const newest = messagesIn(channel).at(-1)?.ts;
  if (document.hidden || channel === HOME || !newest || newest <= cursorOf(channel)) return;
  localStorage.setItem(storageKey(), JSON.stringify({ ...cursors(), [channel]: newest }));
}

// Keeps where the "New" line goes while the channel is open.
export function rememberUnread(channel) {
  const news = newsIn(channel).filter((message) => !isReply(message));
  firstUnread = { place: channel, ts: cursorOf(channel) === "0" ? null : news[0]?.ts ?? null };
}

export const isFirstUnread = (message) => firstUnread.place === message.channel && firstUnread.ts === message.ts;
