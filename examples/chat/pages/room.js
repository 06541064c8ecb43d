/** The room: who is here, what is said, and saying something. Whatever anybody wrote is shown as text, never as markup. */

import { clock } from "./countdown.js";
import { paint } from "./people.js";

const byId = (id) => document.getElementById(id);
/** How near to its end the list has to be to follow what is new. */
const NEAR_PIXELS = 80;

export class Room {
  #name = "";
  #room = null;
  #last = 0;
  #follows = true;
  #send;

  /** @param {(text: string) => boolean} send Whether the message went out. */
  constructor(send) {
    this.#send = send;
    const list = byId("messages");
    list.addEventListener("scroll", () => {
      this.#follows = list.scrollHeight - list.scrollTop - list.clientHeight < NEAR_PIXELS;
    });
    // A banner above it, or a longer text below it, must not hide the last message.
    new ResizeObserver(() => this.#follow()).observe(list);
    byId("composer").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#say();
    });
    byId("text").addEventListener("keydown", (event) => {
      if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
      event.preventDefault();
      this.#say();
    });
  }

  /** Begin for this person, with an empty list. */
  enter(name) {
    this.#name = name;
    this.#room = null;
    this.#last = 0;
    byId("messages").replaceChildren();
    this.people([]);
  }

  /** What the server keeps, told after each connect: what was missed is added, what is there already is not. */
  welcome({ room, process, messages, people }) {
    if (this.#room !== null && this.#room !== room) {
      this.#last = 0;
      this.#divide("The server started anew: it does not remember what stands above.");
    }
    this.#room = room;
    byId("process").textContent = `process ${process}`;
    for (const message of messages) this.say(message);
    this.people(people);
  }

  /** A message arrived. */
  say({ number, name, text, at }) {
    if (number <= this.#last) return;
    this.#last = number;
    const item = byId("message").content.cloneNode(true).firstElementChild;
    const moment = new Date(at);
    paint(item.querySelector(".avatar"), name);
    item.dataset.name = name;
    item.classList.toggle("mine", name === this.#name);
    item.classList.toggle("more", byId("messages").lastElementChild?.dataset.name === name);
    item.querySelector(".name").textContent = name;
    item.querySelector(".text").textContent = text;
    const time = item.querySelector("time");
    time.dateTime = at;
    time.textContent = clock(moment);
    this.#append(item);
  }

  /** Who is here now. */
  people(people) {
    byId("people").replaceChildren(
      ...people.map(({ name }) => {
        const item = document.createElement("li");
        item.dir = "auto";
        item.textContent = name;
        return item;
      }),
    );
  }

  #say() {
    const field = byId("text");
    const text = field.value.trim();
    if (text !== "" && this.#send(text)) field.value = "";
    field.focus();
  }

  #divide(text) {
    const item = document.createElement("li");
    item.className = "divider";
    item.textContent = text;
    this.#append(item);
  }

  #append(item) {
    byId("messages").append(item);
    if (item.classList.contains("mine")) this.#follows = true;
    this.#follow();
  }

  /** Show the end of the list, unless somebody is reading further up. */
  #follow() {
    const list = byId("messages");
    if (this.#follows) list.scrollTop = list.scrollHeight;
  }
}
