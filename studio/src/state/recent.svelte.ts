/** What the viewer has worked on last: conversations and posts, newest first. */
import type { ConversationCard, PostCard } from "../api/documents";
import { remember } from "./images.svelte";

export type Work = { kind: "conversation"; item: ConversationCard } | { kind: "post"; item: PostCard };

const MOST = 5;

class Recent {
  works = $state.raw<readonly Work[]>([]);
  readonly unfinished: boolean = $derived(this.works.some(isUnfinished));

  show(conversations: readonly ConversationCard[], posts: readonly PostCard[]): void {
    const works: Work[] = [
      ...conversations.map((item) => ({ kind: "conversation" as const, item })),
      ...posts.map((item) => ({ kind: "post" as const, item })),
    ];
    this.works = works
      .toSorted((one, other) => (one.item.updatedAt < other.item.updatedAt ? 1 : -1))
      .slice(0, MOST);
    for (const work of this.works) imagesOf(work).forEach(remember);
  }
}

/** Its images, that which stands for it first. */
export function imagesOf({ kind, item }: Work) {
  const images =
    kind === "post"
      ? [item.image]
      : [...(item.latestTurn?.outputs.map(({ image }) => image) ?? []), item.sourceImage];
  return images.filter((image) => image !== null);
}

export function isUnfinished({ kind, item }: Work): boolean {
  const status = kind === "post" ? item.status : item.latestTurn?.status;
  return status !== undefined && !["GENERATED", "COMPLETED", "FAILED", "CANCELLED"].includes(status);
}

export const recent = new Recent();
