/** The turns of a conversation that is on the page, each in its newest known state, and their images. */
import type { ImageData, OutputData, TurnData } from "../api/documents";
import { i18n } from "../i18n/index.svelte";
import { announcer } from "./announcer.svelte";
import { imageOf, remember } from "./images.svelte";

export class Turns {
  turns = $state.raw<readonly TurnData[]>([]);
  /** Images that are known without their turns. */
  protected listed = $state.raw<readonly ImageData[]>([]);
  /** All images, in their order, as far as they have been read. */
  images: readonly ImageData[] = $derived([
    ...new Set([
      ...this.listed,
      ...this.turns.flatMap((turn) => turn.outputs.flatMap(({ images }) => images.map(imageOf))),
    ]),
  ]);

  /** Show a turn, unless a newer state of it is shown already. */
  show(turn: TurnData): void {
    const before = this.turns.find(({ id }) => id === turn.id);
    if (before && before.updatedAt > turn.updatedAt) return;
    for (const { image } of turn.references) remember(image);
    for (const output of turn.outputs) {
      output.images.forEach(remember);
      const earlier = before?.outputs.find(({ id }) => id === output.id);
      if (before && earlier?.status !== output.status) this.announce(output);
    }
    this.turns = before
      ? this.turns.map((other) => (other.id === turn.id ? turn : other))
      : [...this.turns, turn].sort((one, other) => one.turnIndex - other.turnIndex);
  }

  protected announce(output: OutputData): void {
    announceOutput(output);
  }
}

/** Tell who does not see it that an output has ended. */
export function announceOutput({ status, error, model: { label } }: OutputData): void {
  if (status === "COMPLETED") announcer.speak(i18n.t.landed(label));
  else if (status === "FAILED") announcer.speak(`${label}: ${i18n.byCode(error!.code, error!.message)}`);
  else if (status === "CANCELLED") announcer.speak(i18n.t.cancelledBy(label));
}
