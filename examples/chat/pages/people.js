/** What stands for a person on the page: a colour and a letter, always the same for the same name. */

const HUES = 8;

/** Dress an avatar. */
export function paint(avatar, name) {
  let sum = 0;
  for (const character of name) sum = (sum * 31 + character.codePointAt(0)) % 9973;
  avatar.dataset.hue = String(sum % HUES);
  avatar.textContent = [...name.trim()][0] ?? "?";
}
