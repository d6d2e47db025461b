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
import { remember } from "./images.svelte";

const PAGE = 100;
/** As many images as one mutation takes. */
const MOST_AT_ONCE = 100;

export async function createAlbum(title: string): Promise<AlbumCard> {
  return accepted((await mutate(CreateAlbum, { input: { title } })).createAlbum).album!;
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
}

export class Album {
  state = $state<"loading" | "ready" | "missing" | "failed">("loading");
  title = $state("");
  images = $state.raw<readonly ImageData[]>([]);
  complete = $state(false);
  busy = $state(false);
  #cursor: string | null = null;

  constructor(readonly id: string) {}

  async readMore(): Promise<void> {
    if (this.busy || this.complete) return;
    this.busy = true;
    try {
      const { node } = await query(AlbumPage, { id: this.id, first: PAGE, after: this.#cursor });
      if (node?.__typename !== "Album") return void (this.state = "missing");
      this.title = node.title;
      const here = new Set(this.images.map(({ id }) => id));
      const added = node.images.nodes.filter(({ id }) => !here.has(id)).map(remember);
      this.images = [...this.images, ...added];
      this.#cursor = node.images.pageInfo.endCursor;
      this.complete = !node.images.pageInfo.hasNextPage;
      this.state = "ready";
    } catch {
      this.state = "failed";
    } finally {
      this.busy = false;
    }
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
  }
}

/** The order of a list after some of its items have been moved by a step, or to an end. */
export function moved<Item>(
  items: readonly Item[],
  chosen: ReadonlySet<Item>,
  where: "start" | "earlier" | "later" | "end",
): Item[] {
  const those = items.filter((item) => chosen.has(item));
  const others = items.filter((item) => !chosen.has(item));
  if (where === "start") return [...those, ...others];
  if (where === "end") return [...others, ...those];
  const first = items.findIndex((item) => chosen.has(item));
  const place = others.indexOf(items.slice(first).find((item) => !chosen.has(item)) as Item);
  const before = place < 0 ? others.length : place;
  const target = Math.min(Math.max(before + (where === "earlier" ? -1 : 1), 0), others.length);
  return [...others.slice(0, target), ...those, ...others.slice(target)];
}
