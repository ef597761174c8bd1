// The control interface of the workspace server: JSON over HTTP, and one stream of changes.

const UNREACHABLE = "The workspace server does not answer. It may be restarting; try again in a moment.";

async function request(path, options) {
  let response;
  try {
    response = await fetch(`/control/${path}`, options);
  } catch {
    return { ok: false, error: "unreachable", message: UNREACHABLE };
  }
  const answer = await response.json().catch(() => ({}));
  if (response.ok) return { ok: true, ...answer };
  return { ok: false, message: `The workspace server refused this (${answer.error ?? response.status}).`, ...answer };
}

export const get = (path, query = {}) => request(`${path}?${new URLSearchParams(query)}`);

const JUST_MS = 2000;
let underWay = 0;
let lastAct = -Infinity;

// Whether this tab itself is doing something, and so will say in place how it went.
export const isActing = () => underWay > 0 || performance.now() - lastAct < JUST_MS;

export async function post(path, body) {
  underWay += 1;
  const answer = await request(path, { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body) });
  underWay -= 1;
  lastAct = performance.now();
  return answer;
}

const FIRST_WAIT_MS = 400;
const LONGEST_WAIT_MS = 4000;

// Keeps one stream open for a person, again and again after the server restarts.  Returns a function that ends it.
export function openStream(user, { opened, lost, event }) {
  let socket;
  let ended = false;
  let wait = FIRST_WAIT_MS;

  function connect() {
    if (ended) return;
    socket = new WebSocket(`${location.origin.replace(/^http/, "ws")}/control/stream?user=${encodeURIComponent(user)}`);
    socket.onopen = () => { wait = FIRST_WAIT_MS; opened(); };
    socket.onmessage = (message) => { if (!ended) event(JSON.parse(message.data)); };
    socket.onclose = () => {
      if (ended) return;
      lost();
      setTimeout(connect, wait);
      wait = Math.min(wait * 2, LONGEST_WAIT_MS);
    };
  }

  connect();
  return () => { ended = true; socket.close(); };
}
