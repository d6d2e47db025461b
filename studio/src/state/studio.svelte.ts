/** What the views ask of the frame: dialogs that lie over all of them. */
import type { ImageData } from "../api/documents";
import { i18n } from "../i18n/index.svelte";
import { announcer } from "./announcer.svelte";
import { toggleFavourite } from "./images.svelte";

class Studio {
  async toggleFavourite(image: ImageData): Promise<void> {
    try {
      await toggleFavourite(image);
    } catch (error) {
      announcer.show(i18n.explain(error), "bad");
    }
  }
}

export const studio = new Studio();
