/** An image of a list that is being dragged to another place. */
import type { ImageData } from "../api/documents";

export interface Place {
  target: ImageData;
  side: "before" | "after";
}

export class Dragging {
  image = $state.raw<ImageData | null>(null);
  /** Where it would be put. */
  place = $state.raw<Place | null>(null);

  constructor(readonly drop: (image: ImageData, place: Place) => void) {}

  start(event: DragEvent, image: ImageData): void {
    this.image = image;
    event.dataTransfer!.effectAllowed = "move";
  }

  over(event: DragEvent, target: ImageData): void {
    // Files that are dragged in from elsewhere are uploads.
    if (!this.image) return;
    event.preventDefault();
    const { left, width } = (event.currentTarget as HTMLElement).getBoundingClientRect();
    this.place = { target, side: event.clientX < left + width / 2 ? "before" : "after" };
  }

  end(event: DragEvent): void {
    const { image, place } = this;
    this.image = this.place = null;
    if (event.type !== "drop" || !image || !place) return;
    event.preventDefault();
    this.drop(image, place);
  }

  /** The side of this image on which it would be put. */
  side(image: ImageData): Place["side"] | null {
    return this.place?.target === image ? this.place.side : null;
  }
}
