/** Albums: what is done to them, and one that is on the page. */
import { accepted, mutate, query } from "../api/client";
import {
  AlbumPage,
  CreateAlbum,
  DeleteAlbum,
  UpdateAlbum,
  type AlbumCard,
  type ImageData,
} from "../api/documents";
import { Tabs } from "../lib/tabs";
import { remember } from "./images.svelte";

const PAGE = 100;
/** As many images as one mutation takes. */
const MOST_AT_ONCE = 100;

export const albumTabs = new Tabs("albums");
/** Hears also what this tab has changed: a channel hears nothing of itself. */
export const allAlbumChanges = new Tabs("albums");

export async function createAlbum(title: string): Promise<AlbumCard> {
  const album = accepted((await mutate(CreateAlbum, { input: { title } })).createAlbum).album!;
  albumTabs.tell(album.id);
  return album;
}

export async function addToAlbum(albumId: string, batches: readonly string[][]): Promise<void> {
  for (const addImageIds of batches) await update({ albumId, addImageIds });
}

async function update(input: {
  albumId: string;
  title?: string;
  addImageIds?: string[];
  removeImageIds?: string[];
}): Promise<void> {
  accepted((await mutate(UpdateAlbum, { input })).updateAlbum);
  albumTabs.tell(input.albumId);
}

/** An album from its first image on, as far as it has been read. */
interface Part {
  state: "ready" | "missing";
  title: string;
  images: readonly ImageData[];
  cursor: string | null;
  complete: boolean;
}

export class Album {
  state = $state<"loading" | "ready" | "missing" | "failed">("loading");
  title = $state("");
  images = $state.raw<readonly ImageData[]>([]);
  complete = $state(false);
  busy = $state(false);
  #reading: Promise<void> | null = null;
  /** It may have been changed since it was read. */
  #stale = false;
  /** Settled once the orders given so far have been saved. */
  #saving: Promise<void> = Promise.resolve();
  #cursor: string | null = null;

  constructor(readonly id: string) {}

  /** Read one page more. Where something is being read, wait for that instead. */
  async readMore(): Promise<void> {
    if (!this.complete) await (this.#reading ??= this.#alone(() => this.#readNext()));
  }

  /** Read all that is left, after what is being read. */
  async readAll(): Promise<void> {
    await this.#reading;
    while (!this.complete && this.state === "ready") await this.readMore();
  }

  /** Read again as much as is shown: it may have been changed elsewhere. What is shown stays until then. */
  async refresh(): Promise<void> {
    if (this.state === "failed") return await this.readMore();
    this.#stale = true;
    if (this.state === "ready") await (this.#reading ??= this.#alone(() => this.#readAgain()));
  }

  /** Read, and once more what has been changed meanwhile. */
  async #alone(read: () => Promise<void>): Promise<void> {
    this.busy = true;
    await read();
    while (this.#stale && this.state === "ready") await this.#readAgain();
    this.busy = false;
    this.#reading = null;
  }

  async #readNext(): Promise<void> {
    try {
      this.#show(await this.#read(this.images, this.#cursor));
    } catch {
      this.state = "failed";
    }
  }

  async #readAgain(): Promise<void> {
    this.#stale = false;
    const wanted = this.images.length;
    try {
      let part = await this.#read([], null);
      while (part.images.length < wanted && !part.complete) part = await this.#read(part.images, part.cursor);
      this.#show(part);
    } catch {
      // It stays as it was, until the next time.
    }
  }

  /** Read a page behind these images. */
  async #read(before: readonly ImageData[], after: string | null): Promise<Part> {
    const { node } = await query(AlbumPage, { id: this.id, first: PAGE, after });
    if (node?.__typename !== "Album") {
      return { state: "missing", title: "", images: [], cursor: null, complete: true };
    }
    const { nodes, pageInfo } = node.images;
    const here = new Set(before.map(({ id }) => id));
    const images = [...before, ...nodes.map(remember).filter(({ id }) => !here.has(id))];
    return { state: "ready", title: node.title, images, cursor: pageInfo.endCursor, complete: !pageInfo.hasNextPage };
  }

  #show({ cursor, ...shown }: Part): void {
    this.#cursor = cursor;
    Object.assign(this, shown);
  }

  async rename(title: string): Promise<void> {
    await update({ albumId: this.id, title });
    this.title = title;
  }

  async take(batches: readonly string[][]): Promise<void> {
    for (const removeImageIds of batches) {
      await update({ albumId: this.id, removeImageIds });
      this.drop(removeImageIds);
    }
  }

  /** Remove deleted images from the page. */
  drop(ids: readonly string[]): void {
    // What is being read may still have them.
    if (this.busy) this.#stale = true;
    this.images = this.images.filter(({ id }) => !ids.includes(id));
  }

  /** Give all images this order. An album keeps the order in which they were added. */
  async reorder(wanted: readonly ImageData[]): Promise<void> {
    const before = this.images;
    const start = wanted.findIndex((image, index) => image !== before[index]);
    if (start < 0) return;
    this.images = wanted;
    // Requests under way at the same time may be answered in another order.
    const saving = this.#saving.then(() => this.#save(wanted.slice(start)));
    this.#saving = saving.catch(() => undefined);
    try {
      await saving;
    } catch (error) {
      this.images = before;
      throw error;
    }
  }

  async #save(moved: readonly ImageData[]): Promise<void> {
    const moving = moved.map(({ id }) => id);
    for (let first = 0; first < moving.length; first += MOST_AT_ONCE) {
      const ids = moving.slice(first, first + MOST_AT_ONCE);
      await update({ albumId: this.id, removeImageIds: ids, addImageIds: ids });
    }
  }

  async remove(): Promise<void> {
    accepted((await mutate(DeleteAlbum, { input: { albumId: this.id } })).deleteAlbum);
    albumTabs.tell(this.id);
  }
}
