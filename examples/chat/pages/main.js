/** The page: the way in, the chat, and what it shows when the session or the connection is over. */

import { connect } from "../holdfast/client.js";
import { Countdown } from "./countdown.js";
import { Devices } from "./devices.js";
import { paint } from "./people.js";
import { Room } from "./room.js";
import { ask } from "./server.js";

const byId = (id) => document.getElementById(id);

/** What the page says while it waits for the server. The first reason stays: what follows a restart is a lost line. */
const WAITING = {
  restart: "The server is restarting. This page comes back by itself.",
  unavailable: "The server cannot serve just now. This page comes back by itself.",
  lost: "The connection was lost. This page comes back by itself.",
};

/** What it says when waiting would not help. */
const OVER = {
  revoked: {
    status: "Logged out",
    title: "Logged out elsewhere",
    text: "Somebody ended this session: you, on another device or in another tab, or whoever runs the server. "
      + "The socket of this page was closed at that moment.",
    button: "Log in again",
  },
  evicted: {
    status: "Logged out",
    title: "Too many devices",
    text: "A newer log-in took the place of this session, because there may only be so many at once.",
    button: "Log in again",
  },
  expired: {
    status: "Expired",
    title: "Your session has expired",
    text: "It lasted for as long as it was meant to. Log in again to go on; the room is still there.",
    button: "Log in again",
    kind: "time",
  },
  idle: {
    status: "Expired",
    title: "You were away for long",
    text: "A session that nobody uses ends by itself. Log in again to go on.",
    button: "Log in again",
    kind: "time",
  },
  unauthenticated: {
    status: "Logged out",
    title: "You are not logged in any more",
    text: "The session ended while this page was away from the server.",
    button: "Log in again",
  },
  closed: {
    status: "Closed",
    title: "The connection was closed",
    text: "The server does not want this connection to go on as it is.",
    button: "Connect again",
  },
};

let connection = null;
let me = null;
let ownConnections = 0;

const countdown = new Countdown();
const room = new Room((text) => connection?.send(JSON.stringify({ text })) ?? false);
const devices = new Devices(logOut, explain);

/** Show the way in. */
function showWelcome(problem = "") {
  connection?.close();
  connection = null;
  countdown.stop();
  byId("chat").hidden = true;
  byId("welcome").hidden = false;
  byId("name-problem").textContent = problem;
  document.title = "Holdfast chat";
  byId("name").focus();
}

/** Show the chat of a visitor with a session, and connect. */
function showChat(session) {
  me = session;
  byId("welcome").hidden = true;
  byId("chat").hidden = false;
  byId("me-name").textContent = me.name;
  paint(byId("me-avatar"), me.name);
  byId("insecure").hidden = me.secure;
  byId("devices-said").textContent = "";
  document.title = `${me.name} · Holdfast chat`;
  countdown.start(me);
  ownConnections = 0;
  room.enter(me.name);
  byId("text").focus();
  connection = connect(new URL("room", import.meta.url), {
    onState: showState,
    onMessage: (data) => receive(JSON.parse(data)),
    onExpiring: (expiresAt) => {
      countdown.moved(expiresAt);
      countdown.warn(me.may_extend);
    },
  });
}

function receive(frame) {
  if (frame.kind === "welcome") room.welcome(frame);
  if (frame.kind === "message") room.say(frame);
  if (frame.kind === "people") room.people(frame.people);
  if (frame.kind === "message") return;
  // The list of devices is asked for when one of one's own came or went, and not for everybody: that is an activity of
  // this session, and would keep it from ending when nobody uses it.
  const { connections } = frame.people.find(({ name }) => name === me.name);
  if (connections !== ownConnections) devices.refresh();
  ownConnections = connections;
}

function showState({ state, reason, code }) {
  const open = state === "open";
  byId("send").disabled = !open;
  const waits = state === "reconnecting" || state === "connecting";
  if (state === "reconnecting" && byId("banner").hidden) byId("banner-text").textContent = WAITING[reason];
  byId("banner").hidden = state !== "reconnecting";
  if (open || waits) {
    showStatus(state, { open: "Connected", connecting: "Connecting", reconnecting: "Reconnecting" }[state]);
    return;
  }
  if (connection === null || (state === "closed" && code === undefined)) return;
  showOver(OVER[state === "login-needed" ? reason : state], code, reason);
}

function showStatus(state, text) {
  byId("status").dataset.state = state;
  byId("status-text").textContent = text;
}

function showOver({ status, title, text, button, kind = "door" }, code, reason) {
  countdown.stop();
  showStatus("over", status);
  byId("over-sign").dataset.kind = kind;
  byId("over-title").textContent = title;
  byId("over-text").textContent = text;
  byId("over-code").textContent = `close code ${code}${reason ? `, ${reason}` : ""}`;
  byId("over-button").textContent = button;
  byId("over").showModal();
}

/** A request failed. A session that is over closes the socket as well, and that says why. */
function explain(problem) {
  if (problem.status !== 401) byId("devices-said").textContent = problem.message;
}

/** Leave in order: the socket first, so that its end is not taken for somebody else's doing. */
async function logOut() {
  connection.close();
  try {
    await ask("POST", "log-out");
  } catch (problem) {
    explain(problem);
    connection.restart();
    return;
  }
  showWelcome();
}

byId("log-in").addEventListener("submit", async (event) => {
  event.preventDefault();
  const name = byId("name").value.trim();
  try {
    await ask("POST", "log-in", { name });
    const session = await ask("GET", "me");
    if (session === null) throw new Error("Your browser did not keep the cookie that says who you are.");
    showChat(session);
  } catch (problem) {
    byId("name-problem").textContent = problem.message;
  }
});
byId("log-out").addEventListener("click", logOut);
byId("try-now").addEventListener("click", () => connection.retry());
window.addEventListener("online", () => connection?.retry());
// Back at this page: what happened to one's devices meanwhile, on other servers too?
document.addEventListener("visibilitychange", () => {
  if (!document.hidden && connection?.state === "open") devices.refresh();
});
byId("extend").addEventListener("click", async () => {
  const expiresAt = await connection.extend();
  if (expiresAt !== null) countdown.moved(expiresAt);
  byId("text").focus();
});
byId("over-button").addEventListener("click", () => byId("over").close());
// Escape closes it too, and means the same.
byId("over").addEventListener("close", () => {
  if (connection.state === "closed") connection.restart();
  else showWelcome();
});

try {
  const session = await ask("GET", "me");
  if (session === null) showWelcome();
  else showChat(session);
} catch (problem) {
  showWelcome(problem.message);
}
