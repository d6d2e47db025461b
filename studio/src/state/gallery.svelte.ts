/** The viewer's images, newest first, page by page. */
import { query } from "../api/client";
import { Gallery, type ImageData } from "../api/documents";
import { remember } from "./images.svelte";

export type Filter = "all" | "favourites" | "uploads";

const PAGE = 60;

class GalleryState {
  filter = $state<Filter>("all");
  images = $state.raw<ImageData[]>([]);
  state = $state<"loading" | "ready" | "failed">("loading");
  complete = $state(false);
  #cursor: string | null = null;
  #reading = false;
  #version = 0;

  show(filter: Filter): void {
    this.filter = filter;
    this.images = [];
    this.complete = false;
    this.#cursor = null;
    this.#version += 1;
    this.#reading = false;
    void this.readMore();
  }

  async readMore(): Promise<void> {
    if (this.#reading || this.complete) return;
    this.#reading = true;
    this.state = "loading";
    const version = this.#version;
    try {
      const page = await this.#read(this.#cursor);
      if (version !== this.#version) return;
      this.#cursor = page.pageInfo.endCursor;
      this.complete = !page.pageInfo.hasNextPage;
      this.#add(page.nodes, "after");
      this.state = "ready";
    } catch {
      if (version === this.#version) this.state = "failed";
    } finally {
      if (version === this.#version) this.#reading = false;
    }
  }

  /** Put in front what has been added since. */
  async refresh(): Promise<void> {
    const version = this.#version;
    if (!this.images.length) return this.show(this.filter);
    const page = await this.#read(null);
    if (version === this.#version) this.#add(page.nodes, "before");
  }

  add(image: ImageData): void {
    if (this.filter !== "favourites") this.#add([image], "before");
  }

  remove(id: string): void {
    this.images = this.images.filter((image) => image.id !== id);
  }

  async #read(after: string | null) {
    const { viewer } = await query(Gallery, {
      first: PAGE,
      after,
      favourite: this.filter === "favourites" ? true : null,
      origin: this.filter === "uploads" ? "UPLOAD" : null,
    });
    return viewer.images;
  }

  #add(images: readonly ImageData[], where: "before" | "after"): void {
    const here = new Set(this.images.map((image) => image.id));
    const added = images.filter((image) => !here.has(image.id)).map(remember);
    if (!added.length) return;
    this.images = where === "after" ? [...this.images, ...added] : [...added, ...this.images];
  }
}

export const gallery = new GalleryState();
