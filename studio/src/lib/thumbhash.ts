/** Placeholders as data URLs, decoded once. */
import { thumbHashToDataURL } from "thumbhash";

const decoded = new Map<string, string>();

/** A `url(…)` for CSS, or none. */
export function placeholder(thumbhash: string | null): string {
  if (!thumbhash) return "none";
  let found = decoded.get(thumbhash);
  if (found === undefined) {
    const bytes = Uint8Array.from(atob(thumbhash), (letter) => letter.charCodeAt(0));
    found = `url("${thumbHashToDataURL(bytes)}")`;
    decoded.set(thumbhash, found);
  }
  return found;
}
