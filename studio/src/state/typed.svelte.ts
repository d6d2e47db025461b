/** Nothing typed is lost: what has not been sent or saved is there again after a reload of this tab. */
import { tabStore } from "../lib/storage";

/** The text of one field. */
export class Typed {
  #text = $state("");

  /** `place`: what the field is for. */
  constructor(readonly place: string) {
    this.#text = tabStore.get(this.#key) ?? "";
  }

  get text(): string {
    return this.#text;
  }

  set text(text: string) {
    this.#text = text;
    if (text) tabStore.set(this.#key, text);
    else tabStore.remove(this.#key);
  }

  get #key(): string {
    return `typed:${this.place}`;
  }
}
