/** Nothing typed is lost: what has not been sent or saved is there again after a reload of this tab. */
import { tabStore } from "../lib/storage";

/** The text of one field. */
export class Typed {
  #text = $state<string | null>(null);

  /** `place`: what the field is for. */
  constructor(readonly place: string) {}

  /** Read when it is shown: before somebody is signed in, the tab may keep what another viewer has typed. */
  get text(): string {
    return this.#text ?? tabStore.get(this.#key) ?? "";
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
