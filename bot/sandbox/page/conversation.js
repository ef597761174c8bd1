// The middle of the page: a channel (or the app's messages), its header, its messages and the composer.

import { Composer } from "./composer.js";
import { el, icon } from "./dom.js";
import { MessageList } from "./messages.js";
import { mrkdwn } from "./mrkdwn.js";
import { avatar } from "./people.js";
import { HOME, appName, channelById, isAppIm, isMember, isMe, isReply, messagesIn, placeTitle, repliesTo, state } from "./state.js";
import { Scroller } from "./scrolling.js";
import { typable, usagesOf } from "./suggest.js";

const FACES = 5;
const TRIES = 3;

const scroller = new Scroller("Messages", "new-messages");
const list = new MessageList(el("div", { class: "messages" }));
const emptyState = el("div", { class: "empty" });
const head = el("header", { class: "place-head" });
const refusal = el("p", { class: "refusal" });
const composer = new Composer({ testid: "composer", where: () => ({ channel: state.place }), sent: () => scroller.toBottom() });

scroller.content.append(emptyState, list.container);
export const conversationNode = el("section", { class: "conversation" }, head, scroller.node, composer.node, refusal);

let shown = {};

function members(channel) {
  const count = channel.members.length;
  return el("span", { class: "members", title: `${count} members` }, el("span", { class: "faces" }, channel.members.slice(0, FACES).map((id) => avatar(id, "small"))), el("span", {}, String(count)));
}

function drawHead() {
  const channel = channelById(state.place);
  const topic = channel?.topic ?? `Direct messages from ${appName()} to you`;
  const needed = JSON.stringify([state.place, channel, state.users]);
  if (needed === shown.head) return;
  shown.head = needed;
  head.replaceChildren(...[
    el("h1", {}, channel ? icon(channel.private ? "lock" : "hash") : avatar(state.app.bot_user_id, "small"), el("bdi", {}, channel?.name ?? appName())),
    el("p", { class: "topic", dir: "auto" }, topic),
    channel && members(channel)].filter(Boolean));
}

const triesOf = () => state.commands.flatMap((command) => {
  const usages = usagesOf(command).slice(0, TRIES);
  return usages.length ? usages.map((usage) => [`${command.command} ${usage}`, `${command.command} ${typable(usage)}`]) : [[command.command, command.command]];
}).slice(0, TRIES);

const tryButton = ([label, text]) => el("li", {}, el("button", { type: "button", class: "try", data: { testid: "try" }, on: { click: () => composer.fill(text) } }, el("code", {}, label)));

// What an empty channel says instead of nothing.
function drawEmpty(isEmpty) {
  emptyState.hidden = !isEmpty;
  if (!isEmpty) return;
  const tries = mayWrite() ? triesOf() : [];
  emptyState.replaceChildren(
    el("h2", {}, `${placeTitle(state.place)} is quiet`),
    el("p", {}, isAppIm(state.place) ? "What the app tells only you will appear here." : "Nobody has written here yet."),
    ...(tries.length ? [el("p", { class: "try-title" }, "Things to try"), el("ul", { class: "tries" }, tries.map(tryButton))] : []));
}

const mayWrite = () => isAppIm(state.place) || (isMember(channelById(state.place)) && !channelById(state.place).archived);

const whyNot = () => (channelById(state.place)?.archived ? "This channel is archived." : `${state.me.name} is not a member of ${placeTitle(state.place)}: reading only.`);

function drawComposer() {
  const allowed = mayWrite();
  composer.node.hidden = !allowed;
  refusal.hidden = allowed;
  refusal.textContent = allowed ? "" : whyNot();
  const commands = state.commands.map((command) => command.command).join(", ");
  composer.ask(`Message ${placeTitle(state.place)}${commands && ` or ${commands}`}`);
}

const inChannel = (message) => !isReply(message) && (!message.deleted || repliesTo(message.channel, message.ts).length > 0);

// Own words, and answers only this person sees, bring the reader down to them.
const isForMe = (message) => isMe(message.user) || message.ephemeral || message.system;

function follow(messages) {
  const newest = messages.at(-1);
  if (!newest || newest.ts === shown.newest) return;
  const isFirstLook = shown.newest === undefined;
  shown.newest = newest.ts;
  if (isFirstLook || isForMe(newest)) scroller.toBottom();
  else scroller.arrived();
}

function enter() {
  const here = `${state.me.id} ${state.place}`;
  if (shown.here === here) return;
  shown = { here };
  list.clear();
  composer.reset();
  scroller.toBottom();
  if (matchMedia("(hover: hover)").matches) composer.input.focus();
}

function showSought() {
  const node = state.sought && list.nodeOf(state.sought);
  if (!node) return;
  state.sought = null;
  scroller.show(node);
  node.classList.add("changed");
  node.focus({ preventScroll: true });
}

export function drawConversation() {
  const visible = state.loaded && state.place && state.place !== HOME;
  conversationNode.hidden = !visible;
  if (!visible) { shown = {}; return; }
  drawHead();
  drawComposer();
  enter();
  const messages = messagesIn(state.place).filter(inChannel);
  drawEmpty(messages.length === 0);
  list.draw(messages);
  follow(messages);
  showSought();
}
