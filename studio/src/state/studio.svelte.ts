/** What the views ask of the frame: dialogs that lie over all of them, and messages. */
import type { ImageData, TurnData } from "../api/documents";
import { i18n } from "../i18n/index.svelte";
import { announcer } from "./announcer.svelte";
import type { Base } from "./draft.svelte";
import { imageOf, toggleFavourite } from "./images.svelte";
import { uploads } from "./uploads.svelte";

/** An image shown large, among those that it can be left for. */
export interface Shown {
  image: ImageData;
  among: readonly ImageData[];
}

/** Images beside each other; the first may be what the others were made from. */
export interface Compared {
  images: readonly ImageData[];
  original: ImageData | null;
}

const MOST_COMPARED = 6;

class Studio {
  /** What a new conversation is being started from: an image, or null for words alone; and words to begin with. */
  starting = $state.raw<{ source: ImageData | null; prompt: string } | null>(null);
  /** The references that a new post is being made with. */
  posting = $state.raw<readonly ImageData[] | null>(null);
  /** The images that are being put in an album, in lists that a mutation takes. */
  filing = $state.raw<readonly string[][] | null>(null);
  shown = $state.raw<Shown | null>(null);
  /** Images that are being picked to be compared, and those that are. */
  comparing = $state.raw<readonly ImageData[]>([]);
  compared = $state.raw<Compared | null>(null);
  /** How the open conversation continues from one of its outputs; null where none is open. */
  continueFrom = $state.raw<((base: Base) => void) | null>(null);

  start(source: ImageData | null, prompt = ""): void {
    this.shown = null;
    this.starting = { source, prompt };
  }

  post(references: readonly ImageData[]): void {
    this.shown = null;
    this.posting = references;
  }

  show(image: ImageData, among: readonly ImageData[]): void {
    this.shown = { image, among };
  }

  /** Pick it to be compared, or no longer. */
  compare(image: ImageData): void {
    if (this.comparing.includes(image)) {
      this.comparing = this.comparing.filter((other) => other !== image);
    } else if (this.comparing.length < MOST_COMPARED) {
      this.comparing = [...this.comparing, image];
      if (this.comparing.length === 1) announcer.speak(i18n.t.chooseAnother);
    }
  }

  /** Show what has been picked. */
  showCompared(): void {
    this.compared = { images: this.comparing, original: null };
    this.comparing = [];
  }

  /** Show all that a turn has made, after what it was made from. */
  compareTurn({ references, outputs }: TurnData): void {
    const made = outputs.flatMap(({ images }) => images).slice(0, MOST_COMPARED);
    // What the viewer has added shows a style, or a thing: the images were not made from it alone.
    const base = references.find(({ origin }) => origin !== "MANUAL");
    const from = base ? [base.image] : [];
    const images = [...from, ...made].map(imageOf);
    this.compared = { images, original: from.length ? images[0]! : null };
  }

  /** Show an image beside what it was made from. */
  compareWithOriginal(image: ImageData, original: ImageData): void {
    this.compared = { images: [original, image], original };
  }

  /** Close what lies over a view that has been left. */
  leave(): void {
    this.starting = this.posting = this.filing = this.shown = this.compared = null;
  }

  upload(files: readonly File[]): void {
    if (files.length) uploads.add(files);
  }

  async toggleFavourite(image: ImageData): Promise<void> {
    await this.attempt(() => toggleFavourite(image));
  }

  /** Do it, or say why it cannot be done. Returns whether it was done. */
  async attempt(action: () => Promise<unknown>): Promise<boolean> {
    try {
      await action();
      return true;
    } catch (error) {
      announcer.show(i18n.explain(error), "bad");
      return false;
    }
  }
}

export const studio = new Studio();
