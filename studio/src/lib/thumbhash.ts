/** Placeholders as data URLs, decoded once while they are needed. */
import { thumbHashToDataURL } from "thumbhash";

/** More than several screens of images have. */
const MOST = 500;
const decoded = new Map<string, string>();

/** A `url(…)` for CSS, or none. */
export function placeholder(thumbhash: string | null): string {
  if (!thumbhash) return "none";
  let found = decoded.get(thumbhash);
  if (found === undefined) {
    const bytes = Uint8Array.from(atob(thumbhash), (letter) => letter.charCodeAt(0));
    found = `url("${thumbHashToDataURL(bytes)}")`;
    if (decoded.size >= MOST) decoded.delete(decoded.keys().next().value!);
    decoded.set(thumbhash, found);
  }
  return found;
}
