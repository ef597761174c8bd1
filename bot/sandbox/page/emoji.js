// :shortcode: and emoji characters -> pictures from emoji.svg, so that they look the same on a machine without an emoji font.

import { el, hiddenText, picture } from "./dom.js";

// Pictures exist in emoji.svg for every character in this table, named by code point.
const TABLE = `
white_check_mark ✅|heavy_check_mark ✔|ballot_box_with_check ☑|x ❌|negative_squared_cross_mark ❎|heavy_multiplication_x ✖
warning ⚠|no_entry ⛔|no_entry_sign 🚫|octagonal_sign 🛑|exclamation ❗|heavy_exclamation_mark ❗|grey_exclamation ❕|question ❓
grey_question ❔|bangbang ‼|information_source ℹ|rotating_light 🚨|construction 🚧|sos 🆘
red_circle 🔴|large_orange_circle 🟠|large_yellow_circle 🟡|large_green_circle 🟢|large_blue_circle 🔵|large_purple_circle 🟣
white_circle ⚪|black_circle ⚫|large_red_square 🟥|large_orange_square 🟧|large_yellow_square 🟨|large_green_square 🟩
large_blue_square 🟦|white_large_square ⬜|black_large_square ⬛|small_blue_diamond 🔹|small_orange_diamond 🔸
arrow_up ⬆|arrow_down ⬇|arrow_left ⬅|arrow_right ➡|arrow_upper_right ↗|arrow_lower_right ↘|arrow_up_down ↕
arrows_counterclockwise 🔄|arrows_clockwise 🔃|leftwards_arrow_with_hook ↩|arrow_right_hook ↪|repeat 🔁|rewind ⏪|fast_forward ⏩
arrow_forward ▶|double_vertical_bar ⏸|pause_button ⏸|black_square_for_stop ⏹|stop_button ⏹|track_next ⏭|track_previous ⏮
heavy_plus_sign ➕|heavy_minus_sign ➖|chart_with_upwards_trend 📈|chart_with_downwards_trend 📉|bar_chart 📊|abacus 🧮
rocket 🚀|tada 🎉|confetti_ball 🎊|trophy 🏆|first_place_medal 🥇|medal 🏅|dart 🎯|crown 👑|gem 💎|star ⭐|star2 🌟|sparkles ✨
zap ⚡|fire 🔥|boom 💥|snowflake ❄|ice_cube 🧊|seedling 🌱|deciduous_tree 🌳|hatching_chick 🐣|baby_chick 🐤|turtle 🐢|snail 🐌
bug 🐛|ladybug 🐞|robot_face 🤖|brain 🧠|eyes 👀|mag 🔍|mag_right 🔎|microscope 🔬|test_tube 🧪|telescope 🔭|satellite_antenna 📡
hourglass ⌛|hourglass_flowing_sand ⏳|stopwatch ⏱|timer_clock ⏲|alarm_clock ⏰|clock1 🕐|watch ⌚|calendar 📅|date 📅
spiral_calendar_pad 🗓|bell 🔔|no_bell 🔕|loudspeaker 📢|mega 📣|speech_balloon 💬|thought_balloon 💭|envelope ✉|inbox_tray 📥
outbox_tray 📤|package 📦|card_file_box 🗃|file_folder 📁|open_file_folder 📂|clipboard 📋|memo 📝|pencil ✏|pencil2 ✏|pushpin 📌
round_pushpin 📍|paperclip 📎|link 🔗|label 🏷|bookmark 🔖|books 📚|scroll 📜|page_facing_up 📄|newspaper 📰|receipt 🧾
lock 🔒|unlock 🔓|closed_lock_with_key 🔐|key 🔑|shield 🛡|gear ⚙|wrench 🔧|hammer 🔨|hammer_and_wrench 🛠|toolbox 🧰|scales ⚖
balance_scale ⚖|electric_plug 🔌|battery 🔋|computer 💻|bulb 💡|broom 🧹|wastebasket 🗑|recycle ♻|gift 🎁|door 🚪|ship 🚢
car 🚗|racing_car 🏎|vertical_traffic_light 🚦|traffic_light 🚥|checkered_flag 🏁|triangular_flag_on_post 🚩|white_flag 🏳
+1 👍|thumbsup 👍|-1 👎|thumbsdown 👎|ok_hand 👌|clap 👏|raised_hands 🙌|raised_hand ✋|hand ✋|wave 👋|pray 🙏|muscle 💪
point_right 👉|point_up ☝|point_down 👇|writing_hand ✍|handshake 🤝|busts_in_silhouette 👥|bust_in_silhouette 👤
smile 😄|slightly_smiling_face 🙂|grinning 😀|joy 😂|wink 😉|thinking_face 🤔|sweat_smile 😅|cry 😢|scream 😱|sunglasses 😎|sleeping 😴
heart ❤|green_heart 💚|yellow_heart 💛|blue_heart 💙|broken_heart 💔|100 💯|one 1⃣|two 2⃣|three 3⃣|four 4⃣|five 5⃣
`;

const CHARACTERS = new Map(TABLE.split(/[|\n]/).filter(Boolean).map((entry) => entry.split(" ")));
const NAMES = new Map([...CHARACTERS].map(([name, character]) => [character, name]));
const PICTURED = [...NAMES.keys()].map((character) => character.replace(/[*+]/g, "\\$&")).join("|");
const EMOJI = new RegExp(`:([a-z0-9_+'-]+):(?::skin-tone-\\d:)?|(${PICTURED})\\uFE0F?`, "g");

const pictureId = (character) => `u${[...character].map((part) => part.codePointAt(0).toString(16)).join("-")}`;

// The character stays in the text, unseen, for copying and for screen readers.
function emojiNode(character) {
  const name = NAMES.get(character);
  return el("span", { class: "emoji", title: `:${name}:` }, picture(pictureId(character), "picture"), hiddenText(character));
}

export const emojiByName = (name) => (CHARACTERS.has(name) ? emojiNode(CHARACTERS.get(name)) : `:${name}:`);

// Text with its emoji as nodes; a shortcode that is not in the table stays as it was typed.  Literal text keeps all shortcodes.
export function withEmoji(text, { literal = false } = {}) {
  const nodes = [];
  let end = 0;
  for (const match of text.matchAll(EMOJI)) {
    const character = match[2] ?? (literal ? null : CHARACTERS.get(match[1]));
    if (!character) continue;
    nodes.push(text.slice(end, match.index), emojiNode(character));
    end = match.index + match[0].length;
  }
  return [...nodes, text.slice(end)].filter(Boolean);
}

// For places that hold only characters, such as the options of a list.
export const emojiCharacters = (text) => text.replace(/:([a-z0-9_+'-]+):/g, (literal, name) => CHARACTERS.get(name) ?? literal);
