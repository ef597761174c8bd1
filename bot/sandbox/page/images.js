// Pictures.  The page's policy loads nothing from elsewhere, so a picture of another site is shown as its description.

import { el, icon, linkNode } from "./dom.js";

const isLocal = (url) => new URL(url, location.href).origin === location.origin;

function absentImage(url, alt) {
  const where = url ? linkNode(url, new URL(url, location.href).host) : "no address";
  return el("span", { class: "absent-image" }, icon("image"), el("span", {}, el("bdi", {}, alt || "Image"), el("small", {}, " — kept outside: ", where)));
}

// A Block Kit image (block or element), or a file with an url.
export function imageNode({ image_url: address, slack_file: file, alt_text: alt }, className) {
  const url = address ?? file?.url;
  if (!url || !URL.canParse(url, location.href) || !isLocal(url)) return absentImage(url && URL.canParse(url, location.href) ? url : null, alt);
  const local = new URL(url, location.href);
  const image = el("img", { class: className, src: local.href, alt: alt ?? "", loading: "lazy" });
  image.addEventListener("error", () => image.replaceWith(el("span", { class: "absent-image" }, icon("image"), alt || "Image missing")));
  return image;
}
