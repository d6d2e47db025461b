/** One object for each image, wherever it is shown: a favourite here is a favourite everywhere. */
import { accepted, mutate, query, Refused } from "../api/client";
import { DeleteImages, ImagesById, SetFavourite, SetFavourites, type ImageData } from "../api/documents";

const BATCH_MILLISECONDS = 20;
const MOST_AT_ONCE = 50;

const known = new Map<string, ImageData>();
let expired: string[] = [];
let renewal: Promise<void> | undefined;
let read = readById;

/** Take in what has been read about an image; returns its one object. */
export function remember(data: ImageData): ImageData {
  const image = imageOf(data);
  Object.assign(image, data);
  return image;
}

/** The one object of an image. Unlike `remember` it changes nothing, so views may call it. */
export function imageOf(data: ImageData): ImageData {
  const found = known.get(data.id);
  if (found) return found;
  const image = $state({ ...data });
  known.set(data.id, image);
  return image;
}

/** Ask for an image's URLs again: signed URLs expire while a page is open. */
export function renew(image: ImageData): Promise<void> {
  expired.push(image.id);
  renewal ??= new Promise((resolve) => setTimeout(resolve, BATCH_MILLISECONDS)).then(renewAll);
  return renewal;
}

/** Have it done in another way than by the ids of images, which only their viewer can read. */
export function renewBy(another: typeof read): void {
  read = another;
}

async function renewAll(): Promise<void> {
  const ids = [...new Set(expired)];
  expired = [];
  renewal = undefined;
  await read(ids);
}

async function readById(ids: readonly string[]): Promise<void> {
  for (let start = 0; start < ids.length; start += MOST_AT_ONCE) {
    const { nodes } = await query(ImagesById, { ids: ids.slice(start, start + MOST_AT_ONCE) });
    for (const node of nodes) if (node?.__typename === "Image") remember(node as ImageData);
  }
}

/** Mark it, or take the mark away: at once here, and back again where the server refuses. */
export async function toggleFavourite(image: ImageData): Promise<void> {
  const favourite = !image.favourite;
  Object.assign(image, { favourite });
  try {
    accepted((await mutate(SetFavourite, { input: { id: image.id, favourite } })).setFavourite);
  } catch (error) {
    Object.assign(image, { favourite: !favourite });
    throw error;
  }
}

/** Mark all of them, or none where one cannot be marked. */
export async function setFavourites(ids: readonly string[], favourite: boolean): Promise<void> {
  const { images } = accepted((await mutate(SetFavourites, { input: { ids, favourite } })).setFavourites);
  for (const { id } of images) Object.assign(known.get(id) ?? {}, { favourite });
}

/** Delete those that nothing uses. Returns the ids of the deleted ones. */
export async function deleteUnused(ids: readonly string[]): Promise<readonly string[]> {
  if (!ids.length) return [];
  try {
    return accepted((await mutate(DeleteImages, { input: { imageIds: ids } })).deleteImages).deletedImageIds;
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    const stay = new Set(error.userErrors.map(({ path }) => Number(path?.at(-1) ?? NaN)));
    if (stay.has(NaN)) throw error;
    return await deleteUnused(ids.filter((_, index) => !stay.has(index)));
  }
}
