/** The list of one's own sessions, and the ways to end them. */

import { clock } from "./countdown.js";
import { ask } from "./server.js";

const byId = (id) => document.getElementById(id);

export class Devices {
  #onOwnEnd;
  #onProblem;

  /**
   * @param {() => void} onOwnEnd Called instead of ending this very session: the page has to leave in order.
   * @param {(problem: Error) => void} onProblem
   */
  constructor(onOwnEnd, onProblem) {
    this.#onOwnEnd = onOwnEnd;
    this.#onProblem = onProblem;
    byId("others").addEventListener("click", () => this.#endOthers());
  }

  /** Ask the server for the list, and show it. */
  async refresh() {
    try {
      this.#show((await ask("GET", "devices")).devices);
    } catch (problem) {
      this.#onProblem(problem);
    }
  }

  #show(devices) {
    const shown = devices.map((device) => {
      const item = byId("device").content.cloneNode(true).firstElementChild;
      item.dataset.id = device.id;
      item.querySelector(".device-sign").dataset.kind = device.kind;
      item.querySelector(".device-name").textContent = device.name;
      item.querySelector(".this").hidden = !device.this_one;
      item.querySelector(".since").textContent = since(device);
      const button = item.querySelector("button");
      button.setAttribute("aria-label", `Log out ${device.name}, ${device.this_one ? "this one" : since(device)}`);
      button.addEventListener("click", () => (device.this_one ? this.#onOwnEnd() : this.#end(device)));
      return item;
    });
    byId("devices").replaceChildren(...shown);
    byId("others").disabled = devices.length < 2;
  }

  async #end(device) {
    await this.#said(async () => {
      await ask("DELETE", `devices/${encodeURIComponent(device.id)}`);
      return `${device.name} was logged out.`;
    });
  }

  async #endOthers() {
    await this.#said(async () => {
      const { ended } = await ask("DELETE", "devices");
      return ended === 1 ? "One other device was logged out." : `${ended} other devices were logged out.`;
    });
  }

  async #said(action) {
    try {
      byId("devices-said").textContent = await action();
    } catch (problem) {
      this.#onProblem(problem);
      return;
    }
    await this.refresh();
  }
}

/** When a session began, by the server's count of seconds and this machine's clock. */
function since({ seconds_ago: ago }) {
  const began = new Date(Date.now() - ago * 1000);
  const day = ago < 12 * 3600 ? "" : `${began.toLocaleDateString("en", { weekday: "long" })}, `;
  return `since ${day}${clock(began)}`;
}
