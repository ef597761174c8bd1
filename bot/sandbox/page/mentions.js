// Names of people, groups and channels inside text.

import { el } from "./dom.js";
import { goTo } from "./places.js";
import { channelById, groupById, isMe, state, userById } from "./state.js";

const mention = (text, mine) => el("bdi", { class: mine ? "mention mine" : "mention" }, text);

export const userMention = (id, label) => mention(`@${userById(id)?.name ?? label ?? id}`, isMe(id));

export const groupMention = (id, label) =>
  mention(`@${(groupById(id)?.handle ?? label ?? id).replace(/^@/, "")}`, groupById(id)?.users.includes(state.me?.id));

export const broadcastMention = (range) => mention(`@${range}`, true);

export function channelMention(id, label) {
  const channel = channelById(id);
  if (!channel) return mention(`#${label ?? id}`);
  return el("button", { type: "button", class: "mention", on: { click: () => goTo({ place: id }) } }, el("bdi", {}, `#${channel.name}`));
}
