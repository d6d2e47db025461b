/** The viewer's images, newest first, page by page. */
import { query } from "../api/client";
import { Gallery, type ImageData } from "../api/documents";
import { remember } from "./images.svelte";
import { recent } from "./recent.svelte";
import { Typed } from "./typed.svelte";

export type Filter = "all" | "favourites" | "uploads";

const PAGE = 100;

class GalleryState {
  filter = $state<Filter>("all");
  readonly #words = new Typed("search:gallery");
  /** The model that made them; "" for any. */
  modelId = $state("");
  images = $state.raw<readonly ImageData[]>([]);
  state = $state<"loading" | "ready" | "failed">("loading");
  complete = $state(false);
  #cursor: string | null = null;
  #reading = false;
  #version = 0;

  /** Words of the prompts that images were made from. */
  get search(): string {
    return this.#words.text;
  }

  /** All images are wanted. Only then is shown what they belong to. */
  get whole(): boolean {
    return this.filter === "all" && !this.narrowed;
  }

  /** Only some of the images are wanted. */
  get narrowed(): boolean {
    return this.search.trim() !== "" || this.modelId !== "";
  }

  show({ search = this.search, ...wanted }: { filter?: Filter; search?: string; modelId?: string }): void {
    this.#words.text = search;
    Object.assign(this, wanted);
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
    if (!this.images.length) return this.show({});
    const page = await this.#read(null);
    if (version === this.#version) this.#add(page.nodes, "before");
  }

  add(image: ImageData): void {
    // Only the server knows what a search finds.
    if (this.filter !== "favourites" && !this.narrowed) this.#add([image], "before");
  }

  remove(ids: readonly string[]): void {
    this.images = this.images.filter((image) => !ids.includes(image.id));
  }

  async #read(after: string | null) {
    const { viewer } = await query(Gallery, {
      first: PAGE,
      after,
      favourite: this.filter === "favourites" ? true : null,
      origin: this.filter === "uploads" ? "UPLOAD" : null,
      modelId: this.modelId || null,
      search: this.search.trim() || null,
      recent: !after && this.whole,
    });
    if (viewer.posts && viewer.conversations) recent.show(viewer.conversations.nodes, viewer.posts.nodes);
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
