/** The turns of a conversation that is on the page, each in its newest known state, and their images. */
import type { ImageData, OutputData, TurnData } from "../api/documents";
import { i18n } from "../i18n/index.svelte";
import { announcer } from "./announcer.svelte";
import { imageOf, remember } from "./images.svelte";
import { network } from "./network.svelte";

const UNFINISHED: ReadonlySet<TurnData["status"]> = new Set(["WAITING", "PENDING", "GENERATING"]);

/** By then everything that was missed has come. */
const SAID_AFTER_MILLISECONDS = 600;

export function isUnfinished(turn: TurnData): boolean {
  return UNFINISHED.has(turn.status);
}

export function isPending({ status }: OutputData): boolean {
  return status === "QUEUED" || status === "GENERATING";
}

export class Turns {
  turns = $state.raw<readonly TurnData[]>([]);
  /** Images that are known without their turns. */
  protected listed = $state.raw<readonly ImageData[]>([]);
  /** The ids of outputs that ended while the connection was lost, until they have been seen. */
  missed = $state.raw<ReadonlySet<string>>(new Set());
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
    const isNew = turn.turnIndex > (this.turns.at(-1)?.turnIndex ?? Infinity);
    for (const { image } of turn.references) remember(image);
    for (const output of turn.outputs) {
      output.images.forEach(remember);
      const earlier = before?.outputs.find(({ id }) => id === output.id);
      if ((before && earlier?.status !== output.status) || (isNew && network.isCatchingUp)) this.#notice(output);
    }
    this.turns = before
      ? this.turns.map((other) => (other.id === turn.id ? turn : other))
      : [...this.turns, turn].sort((one, other) => one.turnIndex - other.turnIndex);
  }

  /** The person has looked at it. */
  see(output: OutputData): void {
    if (!this.missed.has(output.id)) return;
    this.missed = new Set([...this.missed].filter((id) => id !== output.id));
  }

  #notice(output: OutputData): void {
    if (isPending(output) || !network.isCatchingUp) return this.announce(output);
    // Said in one sentence: what came one by one while nobody was there is not read out one by one.
    const first = this.missed.size === 0;
    this.missed = new Set([...this.missed, output.id]);
    this.arrived(output);
    if (first) setTimeout(() => announcer.show(i18n.t.missed(this.missed.size)), SAID_AFTER_MILLISECONDS);
  }

  /** Something has been made of an output. */
  protected arrived(_output: OutputData): void {}

  protected announce(output: OutputData): void {
    this.arrived(output);
    announceOutput(output);
  }
}

/** Tell who does not see it that an output has ended. */
export function announceOutput({ status, error, model: { label } }: OutputData): void {
  if (status === "COMPLETED") announcer.speak(i18n.t.landed(label));
  else if (status === "FAILED") announcer.speak(`${label}: ${i18n.byCode(error!.code, error!.message)}`);
  else if (status === "CANCELLED") announcer.speak(i18n.t.cancelledBy(label));
}
