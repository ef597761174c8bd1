// The question an element with `confirm` asks before it acts.

import { byId, el } from "./dom.js";
import { textNode } from "./mrkdwn.js";

const STYLES = { danger: "button danger", primary: "button primary" };

// Resolves to true for yes; to false for no, Esc and a click beside the dialog.
export function askConfirm({ title, text, confirm, deny, style }) {
  const dialog = byId("confirm");
  return new Promise((resolve) => {
    const answer = (yes) => () => { dialog.close(yes ? "yes" : "no"); };
    const button = (label, yes, className, testid) =>
      el("button", { type: "button", class: className, data: { testid }, on: { click: answer(yes) } }, textNode(label));
    dialog.returnValue = "no";
    dialog.replaceChildren(
      el("header", { class: "modal-head" }, el("h2", { id: "confirm-title", dir: "auto" }, title?.text ?? "Are you sure?")),
      el("div", { class: "modal-body" }, textNode(text)),
      el("footer", { class: "modal-foot" },
        button(deny ?? { type: "plain_text", text: "Cancel" }, false, "button", "confirm-no"),
        button(confirm ?? { type: "plain_text", text: "Yes" }, true, STYLES[style] ?? STYLES.primary, "confirm-yes")));
    dialog.onclick = (event) => { if (event.target === dialog) dialog.close("no"); };
    dialog.onclose = () => resolve(dialog.returnValue === "yes");
    dialog.showModal();
    dialog.querySelector(style === "danger" ? "[data-testid=confirm-no]" : "[data-testid=confirm-yes]").focus();
  });
}
