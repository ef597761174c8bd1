// Block Kit blocks to DOM nodes: one maker per type, each given (block, surface).

import { chart } from "./charts.js";
import { el } from "./dom.js";
import { elementNode, unknown } from "./elements.js";
import { imageNode } from "./images.js";
import { markdown } from "./markdown.js";
import { plain, textNode } from "./mrkdwn.js";
import { richText } from "./richtext.js";
import { dataTable, table } from "./tables.js";

const firstWords = (text) => text?.text.replace(/[*_~`]/g, "").slice(0, 80);

function section(block, surface) {
  const label = block.accessory?.placeholder?.text ?? firstWords(block.text);
  const labels = { "aria-label": label };
  return [
    el("div", { class: "section-text" }, textNode(block.text),
      block.fields && el("div", { class: "fields" }, block.fields.map((field) => textNode(field)))),
    block.accessory && el("div", { class: "accessory" }, elementNode({ element: block.accessory, block, surface, labels })),
  ];
}

const header = (block) => el("h3", { dir: "auto" }, plain(block.text));

const context = (block) => block.elements.map((element) =>
  (element.type === "image" ? imageNode(element, "context-image") : textNode(element)));

const actions = (block, surface) => block.elements.map((element) =>
  elementNode({ element, block, surface, labels: { "aria-label": element.placeholder?.text } }));

let inputs = 0;

function input(block, surface) {
  const id = `input-${++inputs}`;
  const error = surface.errors?.[block.block_id];
  const labels = {
    id, "aria-labelledby": `${id}-label`, "aria-describedby": `${id}-hint ${id}-error`,
    "aria-invalid": error ? "true" : null, "aria-required": block.optional ? null : "true",
  };
  return [
    el("label", { id: `${id}-label`, for: id }, el("bdi", {}, plain(block.label)), block.optional && el("span", { class: "optional" }, " (optional)")),
    elementNode({ element: block.element, block, surface, labels }),
    el("p", { class: "field-error", id: `${id}-error`, data: { testid: "field-error" }, hidden: !error }, error),
    block.hint && el("p", { class: "hint", id: `${id}-hint`, dir: "auto" }, plain(block.hint)),
  ];
}

const image = (block) => el("figure", {}, block.title && el("figcaption", {}, plain(block.title)), imageNode(block, "block-image"));

const BLOCKS = {
  section, header, context, actions, input, image, table,
  data_table: dataTable,
  data_visualization: chart,
  divider: () => el("hr"),
  rich_text: richText,
  markdown: (block) => markdown(block.text),
};

function blockNode(block, surface) {
  const content = BLOCKS[block.type]?.(block, surface) ?? unknown("block", block.type);
  return el("div", { class: `block block-${block.type}`, data: { blockId: block.block_id } }, content);
}

export const blockNodes = (blocks, surface) => blocks.map((block) => blockNode(block, surface));
