/** Parts of the page whose code is fetched when they are needed. */
import { uploads } from "./uploads.svelte";

/**
 * Fetch a part once more. Not every browser asks again for code that it could not fetch once: where the
 * server can be reached and the part still cannot, only a new page helps. It would end uploads.
 */
export async function fetchAgain<Part>(fetchPart: () => Promise<Part>): Promise<Part> {
  try {
    return await fetchPart();
  } catch (error) {
    const reached = (await fetch(import.meta.env.BASE_URL).catch(() => null))?.ok;
    if (reached && !uploads.items.some(({ pending }) => pending)) location.reload();
    throw error;
  }
}
