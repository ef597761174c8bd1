// What an element holds, in the shape Slack calls its state.

const INITIAL = {
  static_select: (element) => ({ selected_option: element.initial_option ?? null }),
  radio_buttons: (element) => ({ selected_option: element.initial_option ?? null }),
  multi_static_select: (element) => ({ selected_options: element.initial_options ?? [] }),
  checkboxes: (element) => ({ selected_options: element.initial_options ?? [] }),
  users_select: (element) => ({ selected_user: element.initial_user ?? null }),
  conversations_select: (element) => ({ selected_conversation: element.initial_conversation ?? null }),
  plain_text_input: (element) => ({ value: element.initial_value ?? null }),
  number_input: (element) => ({ value: element.initial_value ?? null }),
  datepicker: (element) => ({ selected_date: element.initial_date ?? null }),
  timepicker: (element) => ({ selected_time: element.initial_time ?? null }),
};

export const holdsValue = (element) => element.type in INITIAL;
const initialState = (element) => ({ type: element.type, ...INITIAL[element.type](element) });

export const payloadOf = ({ type, ...payload }) => payload;
const isEmpty = (held) => Object.values(payloadOf(held)).every((value) => value == null || value === "" || value.length === 0);

export const elementsOf = (block) => [block.element, block.accessory, ...(block.type === "actions" ? block.elements : [])].filter(Boolean);

// What was typed and chosen, by block_id and action_id, over any number of redraws.
export class Values {
  #held = new Map();

  constructor(values = {}) {
    for (const [block, actions] of Object.entries(values))
      for (const [action, held] of Object.entries(actions)) this.set(block, action, held);
  }

  set(block, action, held) { this.#held.set(JSON.stringify([block, action]), held); }

  of(block, element) {
    const held = this.#held.get(JSON.stringify([block.block_id, element.action_id]));
    return held?.type === element.type ? held : initialState(element);
  }

  // Only what the blocks show now: {block_id: {action_id: state}}.
  collect(blocks) {
    const values = {};
    for (const block of blocks)
      for (const element of elementsOf(block).filter(holdsValue))
        (values[block.block_id] ??= {})[element.action_id] = this.of(block, element);
    return values;
  }
}

const TOO_FEW = "Please complete this required field.";

function problemOf(block, held) {
  const { element } = block;
  if (isEmpty(held)) return block.optional ? null : TOO_FEW;
  if (element.min_length > held.value?.length) return `Please enter at least ${element.min_length} characters.`;
  if (element.type !== "number_input") return null;
  if (Number.isNaN(Number(held.value))) return "Please enter a number.";
  if (element.min_value != null && Number(held.value) < Number(element.min_value)) return `Please enter ${element.min_value} or more.`;
  if (element.max_value != null && Number(held.value) > Number(element.max_value)) return `Please enter ${element.max_value} or less.`;
  return null;
}

// {block_id: sentence} for the inputs Slack's own client would not let through.
export function problemsIn(blocks, values) {
  const inputs = blocks.filter((block) => block.type === "input" && holdsValue(block.element));
  const found = inputs.map((block) => [block.block_id, problemOf(block, values.of(block, block.element))]);
  return Object.fromEntries(found.filter(([, problem]) => problem));
}
