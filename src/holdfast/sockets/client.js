/**
 * Holdfast's client for browsers: a WebSocket that lives and dies with its session.
 *
 *     import { connect } from "/holdfast/client.js";
 *
 *     const connection = connect("/ws", {
 *       onMessage: (data) => show(data),
 *       onState: ({ state, reason }) => explain(state, reason),
 *     });
 *
 * It comes back by itself while that can help, and says what is the matter when it cannot. It needs no other file,
 * stores nothing, and never sees the session's cookie.
 *
 * @typedef {"connecting" | "open" | "reconnecting" | "login-needed" | "revoked" | "evicted" | "closed"} State
 *
 * @typedef {object} Change
 * @property {State} state
 * @property {string} reason Why, in one fixed word:
 *   for `reconnecting` it is `restart` (of the server), `unavailable` (server or store, for now) or `lost` (the line);
 *   for `login-needed` it is `expired`, `idle` or `unauthenticated` (no credential, or none that opens anything; without
 *   `browser_codes=True` at the server no page can tell a refused handshake from a lost line, and it is `lost`);
 *   for `closed` it is the server's own, such as `forbidden`, `too big` or `too fast`; else it is empty.
 * @property {number} [code] The close code, where a socket closed.
 * @property {number} [wait] Milliseconds until the next attempt, for `reconnecting`.
 *
 * @typedef {object} Options
 * @property {(data: string | ArrayBuffer) => void} [onMessage] What the application at the other end sent.
 * @property {(change: Change) => void} [onState] Called after every change of state.
 * @property {(expiresAt: Date) => void} [onExpiring] The server warns: the session is about to run out.
 * @property {(context: {signal: AbortSignal}) => Promise<string | null>} [ticket] Asked before each attempt for a
 *   one-time ticket, for pages of another site than the server's. `null` says that one has to log in; an error says
 *   that it can be tried again.
 * @property {number} [base] Milliseconds that the first pause is drawn from.
 * @property {number} [cap] The longest pause, in milliseconds.
 * @property {number} [openWithin] How long one attempt may take, in milliseconds.
 * @property {number} [steadyAfter] After so many milliseconds open the pauses begin from the first one again.
 */

const DEFAULTS = { base: 500, cap: 30_000, openWithin: 10_000, steadyAfter: 10_000 };

/**
 * How long to wait before an attempt: full jitter, anything from nothing to a limit that doubles each time. Clients that
 * lost one server at the same moment come back spread out, and not in waves.
 *
 * @param {number} attempt How many failed before it: 0 for the first.
 * @param {{base?: number, cap?: number, random?: () => number}} [options] `random` gives a number from 0 up to 1.
 * @returns {number} Milliseconds.
 */
export function backoff(attempt, { base = DEFAULTS.base, cap = DEFAULTS.cap, random = Math.random } = {}) {
  return random() * Math.min(cap, base * 2 ** attempt);
}

/**
 * What a close means. Only `reconnecting` is worth another attempt; a code that nobody agreed on is not.
 *
 * @param {number} code
 * @param {string} [reason] The server's word for it.
 * @returns {{state: State, reason: string}}
 */
export function meaning(code, reason = "") {
  switch (code) {
    case 1001:
    case 1012:
      return { state: "reconnecting", reason: "restart" };
    case 1006: // No close was ever received. A handshake that is refused before it is accepted looks the same.
      return { state: "reconnecting", reason: "lost" };
    case 1011:
    case 1013:
      return { state: "reconnecting", reason: "unavailable" };
    case 3000:
      return { state: "login-needed", reason: "unauthenticated" };
    case 4401:
      return { state: "login-needed", reason: reason === "idle" ? "idle" : "expired" };
    case 4403:
      return { state: "revoked", reason: "" };
    case 4409:
      return { state: "evicted", reason: "" };
    case 3003:
      return { state: "closed", reason: "forbidden" };
    default:
      return { state: "closed", reason };
  }
}

/**
 * Connect, and stay connected for as long as the session lives.
 *
 * @param {string | URL} url Of the socket; relative to the page, and with `http` for `ws` if you like.
 * @param {Options} [options]
 * @returns {Connection}
 * @throws {TypeError | SyntaxError} For an address that is none.
 */
export function connect(url, options = {}) {
  return new Connection(url, options);
}

/** A connection: many sockets one after the other, never two at once. */
export class Connection {
  #address;
  #options;
  /** @type {WebSocket | null} */
  #socket = null;
  #failures = 0;
  /** What would end the present wait: a pause between attempts, or a ticket that is being fetched. */
  #wait = new AbortController();
  /** @type {((expiresAt: Date | null) => void)[]} */
  #extending = [];
  /** @type {State} */
  #state = "connecting";

  constructor(url, options) {
    this.#address = new URL(url, globalThis.location?.href);
    this.#address.protocol = this.#address.protocol.replace(/^http/, "ws");
    if (!/^wss?:$/.test(this.#address.protocol)) throw new SyntaxError("a socket's address begins with ws or http");
    this.#options = { ...DEFAULTS, ...options };
    this.#begin();
  }

  /** @returns {State} */
  get state() {
    return this.#state;
  }

  /**
   * Send something now.
   *
   * @param {string | ArrayBuffer | ArrayBufferView | Blob} data
   * @returns {boolean} Whether it was handed to an open socket. Nothing is kept for later: only the application knows
   *   what is still true after a pause. That it arrived only an answer of the application's own can say.
   */
  send(data) {
    if (this.#state !== "open" || this.#socket?.readyState !== WebSocket.OPEN) return false;
    this.#socket.send(data);
    return true;
  }

  /**
   * Ask the server to extend the session, where it allows that.
   *
   * @returns {Promise<Date | null>} When it now expires; `null` when the connection was or went away before the answer.
   */
  extend() {
    if (!this.send('{"holdfast":"extend"}')) return Promise.resolve(null);
    return new Promise((resolve) => this.#extending.push(resolve));
  }

  /** Do not wait any longer before the next attempt: for a button, or for a page that comes to the front. */
  retry() {
    if (this.#state === "reconnecting" && this.#socket === null) this.#begin();
  }

  /**
   * Begin again after a state that ended it, such as `login-needed` once the user has logged in. No effect while it is
   * open or on its way.
   */
  restart() {
    if (["connecting", "open", "reconnecting"].includes(this.#state)) return;
    this.#failures = 0;
    this.#change({ state: "connecting", reason: "" });
    this.#begin();
  }

  /** Close for good, at this end. Safe to repeat. */
  close() {
    const socket = this.#leave();
    if (socket !== null) socket.close(1000);
    this.#change({ state: "closed", reason: "" });
  }

  /** One attempt. */
  async #begin() {
    this.#leave();
    const wait = this.#wait;
    const { ticket, openWithin } = this.#options;
    const tooLong = AbortSignal.timeout(openWithin);
    const address = new URL(this.#address);
    if (ticket !== undefined) {
      let fetched;
      try {
        fetched = await unlessAborted(tooLong, ticket({ signal: tooLong }));
      } catch {
        if (!wait.signal.aborted) this.#pause({ state: "reconnecting", reason: "unavailable" });
        return;
      }
      if (wait.signal.aborted) return;
      if (fetched === null) {
        this.#change({ state: "login-needed", reason: "unauthenticated" });
        return;
      }
      address.searchParams.set("ticket", fetched);
    }
    this.#open(new WebSocket(address), tooLong);
  }

  #open(socket, tooLong) {
    let openedAt = null;
    this.#socket = socket;
    socket.binaryType = "arraybuffer";
    tooLong.addEventListener("abort", () => openedAt === null && socket.close());
    socket.onopen = () => {
      openedAt = performance.now();
      this.#change({ state: "open", reason: "" });
    };
    socket.onmessage = ({ data }) => this.#receive(data);
    socket.onclose = ({ code, reason }) => {
      this.#leave();
      if (openedAt !== null && performance.now() - openedAt >= this.#options.steadyAfter) this.#failures = 0;
      const change = { ...meaning(code, reason), code };
      if (change.state === "reconnecting") this.#pause(change);
      else this.#change(change);
    };
  }

  /** Text of the server's own is an object with the key `holdfast`; everything else is the application's. */
  #receive(data) {
    const frame = frameIn(data);
    if (frame !== null) {
      const expiresAt = new Date(frame.expires_at);
      if (frame.holdfast === "expiring") this.#options.onExpiring?.(expiresAt);
      if (frame.holdfast === "extended") this.#extending.splice(0).forEach((resolve) => resolve(expiresAt));
      return;
    }
    this.#options.onMessage?.(data);
  }

  #pause(change) {
    const wait = backoff(this.#failures, this.#options);
    this.#failures += 1;
    const timer = setTimeout(() => this.#begin(), wait);
    this.#wait.signal.addEventListener("abort", () => clearTimeout(timer));
    this.#change({ ...change, wait });
  }

  /** Be done with the socket or the wait there is, whichever it is; gives the socket, deaf. */
  #leave() {
    const socket = this.#socket;
    this.#socket = null;
    if (socket !== null) socket.onopen = socket.onmessage = socket.onclose = null;
    this.#wait.abort();
    this.#wait = new AbortController();
    this.#extending.splice(0).forEach((resolve) => resolve(null));
    return socket;
  }

  #change(change) {
    if (change.state === this.#state && change.state === "closed") return;
    this.#state = change.state;
    this.#options.onState?.(change);
  }
}

/** The server's own frame in what came, or `null`: a text may begin like one and be none. */
function frameIn(data) {
  if (typeof data !== "string" || !data.startsWith('{"holdfast":')) return null;
  try {
    return JSON.parse(data);
  } catch {
    return null;
  }
}

/** The outcome of a promise, or an error as soon as the signal says so. */
function unlessAborted(signal, promise) {
  return new Promise((resolve, reject) => {
    signal.addEventListener("abort", () => reject(signal.reason));
    Promise.resolve(promise).then(resolve, reject);
  });
}
