// data_visualization: charts drawn to the width that there is, so that their text stays readable on a phone.

import { el } from "./dom.js";

const SVG = "http://www.w3.org/2000/svg";
const HEIGHT = 220;
const LETTER = 6.4;                                       // about the width of a letter at 11.5 px
const TICKS = 5;
const KINDS = { line: "Line chart", area: "Area chart", bar: "Bar chart", pie: "Pie chart" };

function svg(tag, attributes = {}, ...children) {
  const node = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children.flat(2));
  return node;
}

const hint = (text) => svg("title", {}, text);
const number = (value) => value.toLocaleString("en-GB", { maximumFractionDigits: 2 }).replace("-", "−");
const widest = (texts) => Math.max(...texts.map((text) => text.length)) * LETTER;
const seriesClass = (index) => `series series-${index}`;

// -- scales --------------------------------------------------------------------------------------------------------------

function roundStep(span) {
  const power = 10 ** Math.floor(Math.log10(span / TICKS));
  return power * [1, 2, 2.5, 5, 10].find((factor) => factor * power * TICKS >= span * 0.999);
}

// Evenly spaced round numbers around all values and, but for lines that stay clear of it, zero.
function ticksOf(values, fromZero) {
  const [least, most] = [Math.min(...values, ...(fromZero ? [0] : [])), Math.max(...values, ...(fromZero ? [0] : []))];
  const step = roundStep(most - least || Math.abs(most) || 1);
  const first = Math.floor(least / step + 1e-9);
  const last = Math.max(Math.ceil(most / step - 1e-9), first + 1);
  return Array.from({ length: last - first + 1 }, (_, index) => (first + index) * step);
}

function frameOf(block, width) {
  const { type, series, axis_config: axes } = block.chart;
  const values = series.flatMap((each) => each.data.map((point) => point.value));
  const ticks = ticksOf(values, type !== "line" || Math.min(...values) < 0);
  const left = widest(ticks.map(number)) + 12;
  const right = width - 10;
  const band = (right - left) / axes.categories.length;
  const gap = (right - left - 16) / Math.max(axes.categories.length - 1, 1);
  const slanted = type === "bar" && widest(axes.categories) > band - 6;
  const top = 8;
  const bottom = HEIGHT - (slanted ? 24 + widest(axes.categories) * 0.5 : 22);
  return {
    ticks, left, right, top, bottom, band, slanted,
    x: (index) => (type === "bar" ? left + band * (index + 0.5) : left + 8 + (axes.categories.length > 1 ? gap * index : (right - left) / 2)),
    y: (value) => bottom - (value - ticks[0]) / (ticks.at(-1) - ticks[0]) * (bottom - top),
  };
}

// -- what is drawn -------------------------------------------------------------------------------------------------------

const grid = ({ ticks, left, right, y }) => ticks.map((value) => [
  svg("line", { class: Math.abs(value) < 1e-9 ? "grid zero" : "grid", x1: left, x2: right, y1: y(value), y2: y(value) }),
  svg("text", { class: "tick", x: left - 6, y: y(value), "text-anchor": "end", "dominant-baseline": "central" }, number(value)),
]);

// As many names as stand beside each other, the first and the last always.
function shownNames(names, frame) {
  const room = Math.max(1, Math.ceil((widest(names) + 10) / Math.abs(frame.x(1) - frame.x(0) || 1)));
  const last = names.length - 1;
  return names.map((name, index) => (frame.slanted || index === last || (index % room === 0 && last - index >= room) ? name : ""));
}

function nameNode(name, index, names, frame) {
  const [x, y] = [frame.x(index), frame.bottom + 16];
  if (frame.slanted) return svg("text", { class: "tick", x, y: y - 4, "text-anchor": "end", transform: `rotate(-32 ${x} ${y - 8})` }, name);
  const anchor = frame.x(0) === x || names.length === 1 ? (frame.band > widest([name]) ? "middle" : "start") : index === names.length - 1 ? "end" : "middle";
  return svg("text", { class: "tick", x, y, "text-anchor": anchor }, name);
}

const ordered = (series, categories) => categories.map((name) => series.data.find((point) => point.label === name)?.value ?? 0);

function bars(chart, frame) {
  const width = Math.min(frame.band * 0.76 / chart.series.length, 34);
  return chart.series.map((series, nth) => ordered(series, chart.axis_config.categories).map((value, index) => {
    const x = frame.x(index) + (nth - chart.series.length / 2) * width;
    const [from, to] = [frame.y(Math.max(value, 0)), frame.y(Math.min(value, 0))];
    const size = { x: x + 0.5, y: from, width: Math.max(width - 1.5, 1), height: Math.max(to - from, 1.5), rx: 1.5 };
    return svg("rect", { class: seriesClass(nth), ...size }, hint(`${chart.axis_config.categories[index]}, ${series.name}: ${number(value)}`));
  }));
}

function lines(chart, frame) {
  const floor = frame.y(Math.max(frame.ticks[0], 0));
  return chart.series.map((series, nth) => {
    const values = ordered(series, chart.axis_config.categories);
    const points = values.map((value, index) => `${frame.x(index).toFixed(1)},${frame.y(value).toFixed(1)}`);
    const [first, last] = [frame.x(0), frame.x(values.length - 1)];
    return [
      chart.type === "area" && svg("polygon", { class: `fill ${seriesClass(nth)}`, points: [`${first},${floor}`, ...points, `${last},${floor}`].join(" ") }),
      svg("polyline", { class: `stroke ${seriesClass(nth)}`, points: points.join(" ") }),
      values.map((value, index) => svg("circle", { class: seriesClass(nth), cx: frame.x(index), cy: frame.y(value), r: 3 },
        hint(`${chart.axis_config.categories[index]}, ${series.name}: ${number(value)}`))),
    ].flat().filter(Boolean);
  });
}

function slices(chart, width) {
  const total = chart.segments.reduce((sum, segment) => sum + segment.value, 0);
  const [x, y, radius] = [width / 2, HEIGHT / 2, HEIGHT / 2 - 8];
  const at = (share) => `${x + radius * Math.sin(2 * Math.PI * share)} ${y - radius * Math.cos(2 * Math.PI * share)}`;
  let before = 0;
  return chart.segments.map((segment, nth) => {
    const [from, to] = [before, before + Math.min(segment.value / total, 0.99999)];
    before += segment.value / total;
    const path = `M ${x} ${y} L ${at(from)} A ${radius} ${radius} 0 ${to - from > 0.5 ? 1 : 0} 1 ${at(to)} Z`;
    return svg("path", { class: seriesClass(nth), d: path }, hint(`${segment.label}: ${number(segment.value)}`));
  });
}

function withAxes(block, width) {
  const frame = frameOf(block, width);
  const names = shownNames(block.chart.axis_config.categories, frame);
  const marks = block.chart.type === "bar" ? bars(block.chart, frame) : lines(block.chart, frame);
  return [grid(frame), names.flatMap((name, index) => (name ? [nameNode(name, index, names, frame)] : [])), marks.flat(2)];
}

// -- the whole -----------------------------------------------------------------------------------------------------------

const namesOf = (chart) => (chart.series ?? chart.segments).map((each) => each.name ?? each.label);

// Everything the picture shows, for those who hear it.
function spoken({ title, chart }) {
  const points = (data) => data.map((point) => `${point.label} ${number(point.value)}`).join(", ");
  const parts = chart.series ? chart.series.map((each) => `${each.name}: ${points(each.data)}`) : [points(chart.segments)];
  return `${KINDS[chart.type]}. ${title}. ${parts.join(". ")}.`;
}

const legend = (chart) => el("ul", { class: "legend" }, namesOf(chart).map((name, index) =>
  el("li", {}, el("span", { class: `swatch series-${index}` }), el("bdi", {}, name))));

export function chart(block) {
  const picture = el("div", { class: "chart-picture", role: "img", "aria-label": spoken(block) });
  const draw = (width) => {
    const content = block.chart.type === "pie" ? slices(block.chart, width) : withAxes(block, width);
    picture.replaceChildren(svg("svg", { width, height: HEIGHT, viewBox: `0 0 ${width} ${HEIGHT}`, "aria-hidden": "true" }, content.flat(3)));
  };
  let drawn = 0;
  new ResizeObserver(([entry]) => {
    const width = Math.floor(entry.contentRect.width);
    if (width > 0 && width !== drawn) draw(drawn = width);
  }).observe(picture);
  const axes = block.chart.axis_config;
  return el("figure", { class: "chart" },
    el("figcaption", { dir: "auto" }, block.title),
    legend(block.chart),
    axes?.y_label && el("p", { class: "axis-label" }, axes.y_label),
    picture,
    axes?.x_label && el("p", { class: "axis-label below" }, axes.x_label));
}
