/** Images of a list that are chosen together, to do one thing to all of them. */
import type { ImageData } from "../api/documents";

/** As many as one mutation takes. */
const MOST_AT_ONCE = 100;

export class Selection {
  /** The list is for choosing: a click chooses, and opens nothing. */
  active = $state(false);
  images = $state.raw<ReadonlyMap<string, ImageData>>(new Map());
  #last: string | null = null;

  get count(): number {
    return this.images.size;
  }

  has(image: ImageData): boolean {
    return this.images.has(image.id);
  }

  begin(): void {
    this.active = true;
  }

  end(): void {
    this.active = false;
    this.images = new Map();
    this.#last = null;
  }

  /** Choose it, or no longer; with `among`, all from the one before to it. */
  toggle(image: ImageData, among?: readonly ImageData[]): void {
    this.active = true;
    const changed = new Map(this.images);
    const start = among?.findIndex(({ id }) => id === this.#last) ?? -1;
    if (among && start >= 0) {
      const end = among.indexOf(image);
      const range = among.slice(Math.min(start, end), Math.max(start, end) + 1);
      for (const one of range) changed.set(one.id, one);
    } else if (!changed.delete(image.id)) changed.set(image.id, image);
    this.#last = image.id;
    this.images = changed;
  }

  drop(ids: Iterable<string>): void {
    const changed = new Map(this.images);
    for (const id of ids) changed.delete(id);
    this.images = changed;
  }

  /** Their ids, in lists that a mutation takes. */
  batches(): string[][] {
    const ids = [...this.images.keys()];
    const count = Math.ceil(ids.length / MOST_AT_ONCE);
    return Array.from({ length: count }, (_, index) =>
      ids.slice(index * MOST_AT_ONCE, (index + 1) * MOST_AT_ONCE),
    );
  }
}
