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

export class Album {
  state = $state<"loading" | "ready" | "missing" | "failed">("loading");
  title = $state("");
  images = $state.raw<readonly ImageData[]>([]);
  complete = $state(false);
  busy = $state(false);
  /** It has been changed elsewhere while it was being read. */
  #stale = false;
  #cursor: string | null = null;

  constructor(readonly id: string) {}

  async readMore(): Promise<void> {
    if (this.busy || this.complete) return;
    this.busy = true;
    try {
      await this.#read(this.images, this.#cursor);
    } catch {
      this.state = "failed";
    } finally {
      this.busy = false;
    }
  }

  /** Read again as much as is shown: it may have been changed elsewhere. What is shown stays until then. */
  async refresh(): Promise<void> {
    if (this.busy) return void (this.#stale = true);
    if (this.state !== "ready") return;
    this.busy = true;
    try {
      const wanted = this.images.length;
      let images = await this.#read([], null);
      while (images.length < wanted && !this.complete) images = await this.#read(images, this.#cursor);
    } catch {
      // It stays as it was, until the next time.
    } finally {
      this.busy = false;
      if (this.#stale) {
        this.#stale = false;
        void this.refresh();
      }
    }
  }

  /** Read a page behind these images. Returns all, and shows them. */
  async #read(before: readonly ImageData[], after: string | null): Promise<readonly ImageData[]> {
    const { node } = await query(AlbumPage, { id: this.id, first: PAGE, after });
    if (node?.__typename !== "Album") {
      this.state = "missing";
      this.complete = true;
      return [];
    }
    this.title = node.title;
    const here = new Set(before.map(({ id }) => id));
    this.images = [...before, ...node.images.nodes.map(remember).filter(({ id }) => !here.has(id))];
    this.#cursor = node.images.pageInfo.endCursor;
    this.complete = !node.images.pageInfo.hasNextPage;
    this.state = "ready";
    return this.images;
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
    this.images = this.images.filter(({ id }) => !ids.includes(id));
  }

  /** Give all images this order. An album keeps the order in which they were added. */
  async reorder(wanted: readonly ImageData[]): Promise<void> {
    const before = this.images;
    const start = wanted.findIndex((image, index) => image !== before[index]);
    if (start < 0) return;
    this.images = wanted;
    try {
      const moved = wanted.slice(start).map(({ id }) => id);
      for (let first = 0; first < moved.length; first += MOST_AT_ONCE) {
        const ids = moved.slice(first, first + MOST_AT_ONCE);
        await update({ albumId: this.id, removeImageIds: ids, addImageIds: ids });
      }
    } catch (error) {
      this.images = before;
      throw error;
    }
  }

  async remove(): Promise<void> {
    accepted((await mutate(DeleteAlbum, { input: { albumId: this.id } })).deleteAlbum);
    albumTabs.tell(this.id);
  }
}
