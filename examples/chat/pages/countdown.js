/** How long the session still lasts: a number, a ring, and a colour when it gets short. */

const byId = (id) => document.getElementById(id);
const SOON_SECONDS = 60;

export class Countdown {
  #card = document.querySelector(".session");
  #endsAt = 0;
  #lifetime = 1;
  #ahead = 0;
  #timer = 0;

  /**
   * @param {{expires_at: string, seconds_left: number, lifetime: number}} session As the server tells it. The seconds
   *   are by the database's clock, so it does not matter what time this machine believes it is.
   */
  start({ expires_at, seconds_left, lifetime }) {
    const expiresAt = new Date(expires_at);
    this.#ahead = Date.now() - (expiresAt - seconds_left * 1000);
    this.#lifetime = lifetime;
    this.moved(expiresAt);
    clearInterval(this.#timer);
    this.#timer = setInterval(() => this.#show(), 1000);
  }

  stop() {
    clearInterval(this.#timer);
  }

  /** The session now expires at another time. */
  moved(expiresAt) {
    this.#endsAt = expiresAt.getTime() + this.#ahead;
    this.#lifetime = Math.max(this.#lifetime, this.#left());
    byId("ends-at").textContent = `on ${expiresAt.toLocaleDateString("en", { weekday: "long" })} at ${clock(expiresAt)}`;
    byId("expiring").hidden = true;
    this.#show();
  }

  /** The server has warned that it ends soon. */
  warn(canExtend) {
    byId("expiring").hidden = false;
    byId("extend").hidden = !canExtend;
    this.#show();
  }

  #left() {
    return Math.max(0, (this.#endsAt - Date.now()) / 1000);
  }

  #show() {
    const left = this.#left();
    byId("left").textContent = spoken(left);
    byId("ring").style.strokeDashoffset = String(100 - 100 * Math.min(1, left / this.#lifetime));
    this.#card.classList.toggle("soon", left < SOON_SECONDS);
  }
}

/** A moment as hours and minutes. */
export function clock(moment) {
  return moment.toLocaleTimeString("en", { hour: "2-digit", minute: "2-digit", hour12: false });
}

function spoken(seconds) {
  const whole = Math.ceil(seconds);
  if (whole < 60) return `${whole} s`;
  const minutes = Math.floor(whole / 60);
  if (minutes < 60) return `${minutes} min ${String(whole % 60).padStart(2, "0")} s`;
  return `${Math.floor(minutes / 60)} h ${String(minutes % 60).padStart(2, "0")} min`;
}
