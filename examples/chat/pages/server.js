/** Requests to this server, and what it refuses. The cookie travels by itself; no script ever sees it. */

/** An answer that is none: `status` is 0 when nothing came back at all. */
export class Refused extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

/**
 * @param {"GET" | "POST" | "DELETE"} method
 * @param {string} path Below `/chat/`.
 * @param {object} [body]
 * @returns {Promise<any>} The answer's JSON; `null` when it has no body.
 * @throws {Refused}
 */
export async function ask(method, path, body) {
  const request = { method };
  if (body !== undefined) {
    request.headers = { "Content-Type": "application/json" };
    request.body = JSON.stringify(body);
  }
  let answer;
  try {
    answer = await fetch(new URL(path, import.meta.url), request);
  } catch {
    throw new Refused(0, "The server cannot be reached just now.");
  }
  if (answer.status === 204) return null;
  const content = await answer.json();
  if (answer.ok) return content;
  throw new Refused(answer.status, content.message ?? "The server refused.");
}
