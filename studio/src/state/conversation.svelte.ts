/** One conversation, live: its turns, its images, and what can be done to its outputs. */
import { accepted, follow, mutate, query } from "../api/client";
import {
  CancelOutput,
  CancelTurn,
  Choose,
  ConversationImages,
  ConversationPage,
  ConversationUpdated,
  DeleteTurn,
  Fork,
  Rename,
  Rerun,
  Retry,
  TurnIds,
  TurnUpdated,
  type ConversationData,
  type OutputData,
  type TurnData,
} from "../api/documents";
import { once } from "../api/once";
import type { Subject } from "./draft.svelte";
import { gallery } from "./gallery.svelte";
import { imageOf, remember } from "./images.svelte";
import { isUnfinished, Turns } from "./turns.svelte";

const PAGE = 12;
const MOST_AT_ONCE = 100;

export class Conversation extends Turns {
  readonly id: string;
  state = $state<"loading" | "ready" | "missing" | "failed">("loading");
  data = $state.raw<ConversationData | null>(null);
  hasEarlier = $state(false);
  #before: string | null = null;
  /** From where on images are not listed yet. */
  #unlisted: Cursor = { hasNextPage: true, endCursor: null };
  #stops: (() => void)[] = [];
  #closed = false;

  constructor(id: string) {
    super();
    this.id = id;
  }

  /** Read it, and follow it until `close`. */
  async open(): Promise<void> {
    this.state = "loading";
    try {
      const { conversation } = await query(ConversationPage, { id: this.id, last: PAGE, before: null });
      if (this.#closed) return;
      if (!conversation) return void (this.state = "missing");
      this.data = conversation;
      this.#addEarlier(conversation.turns);
      this.state = "ready";
      this.#follow(conversation.cursor);
      await this.#listImages();
    } catch {
      if (this.state === "loading") this.state = "failed";
    }
  }

  /** Read what could not be read while the connection was lost. */
  async catchUp(): Promise<void> {
    if (this.state === "failed") await this.open();
    else if (this.state === "ready") await this.#listImages().catch(() => {});
  }

  close(): void {
    this.#closed = true;
    for (const stop of this.#stops.splice(0)) stop();
  }

  async readEarlier(): Promise<void> {
    const { conversation } = await query(ConversationPage, {
      id: this.id,
      last: PAGE,
      before: this.#before,
    });
    if (conversation) this.#addEarlier(conversation.turns);
  }

  override show(turn: TurnData): void {
    super.show(turn);
    // Their number comes by itself, a moment later.
    if (this.data && this.data.turnCount < this.turns.length) {
      this.data = { ...this.data, turnCount: this.turns.length };
    }
  }

  /** The latest turn, while it has not ended. */
  get unfinished(): TurnData | null {
    const last = this.turns.at(-1);
    return last && isUnfinished(last) ? last : null;
  }

  /** What the next turn edits: the chosen or first image of the nearest turn that has any, or the source. */
  get next(): Subject | null {
    for (const turn of this.turns.toReversed()) {
      const made = turn.outputs.filter(({ images }) => images.length);
      const output = made.find(({ chosen }) => chosen) ?? made[0];
      if (output) return { outputId: output.id, image: imageOf(output.images[0]!) };
    }
    const source = this.data?.sourceImage;
    return source ? { outputId: null, image: imageOf(source) } : null;
  }

  /** Run a turn once more, as a new one with new seeds. */
  async rerun(turn: TurnData): Promise<void> {
    await once(`rerun ${turn.id} ${this.turns.at(-1)?.id}`, async (idempotencyKey) => {
      const input = { turnId: turn.id, idempotencyKey };
      this.show(accepted((await mutate(Rerun, { input })).rerunTurn).turn!);
    });
  }

  /** Begin another conversation with the turns up to this one; returns its id. */
  async fork(turn: TurnData): Promise<string> {
    const input = { turnId: turn.id };
    return accepted((await mutate(Fork, { input })).forkConversation).conversation!.id;
  }

  async deleteTurn(turn: TurnData): Promise<void> {
    const input = { turnId: turn.id };
    accepted((await mutate(DeleteTurn, { input })).deleteTurn);
    this.#remove([turn]);
  }

  async retry(output: OutputData, modelId?: string): Promise<void> {
    await once(`retry ${output.id} ${output.attempt} ${modelId}`, async (idempotencyKey) => {
      const input = { outputId: output.id, modelId, idempotencyKey };
      this.show(accepted((await mutate(Retry, { input })).retryOutput).turn!);
    });
  }

  async cancel(output: OutputData): Promise<void> {
    const input = { outputId: output.id };
    this.show(accepted((await mutate(CancelOutput, { input })).cancelOutput).turn!);
  }

  async cancelTurn(turn: TurnData): Promise<void> {
    const input = { turnId: turn.id };
    this.show(accepted((await mutate(CancelTurn, { input })).cancelTurn).turn!);
  }

  /** Let the next turn go on from this output alone, or no longer. */
  async choose(output: OutputData): Promise<void> {
    const input = { outputId: output.id, chosen: !output.chosen };
    this.show(accepted((await mutate(Choose, { input })).chooseOutput).turn!);
  }

  async rename(title: string): Promise<void> {
    const before = this.data!.title;
    this.data = { ...this.data!, title };
    try {
      accepted((await mutate(Rename, { input: { conversationId: this.id, title } })).renameConversation);
    } catch (error) {
      // Another tab may have renamed it meanwhile.
      if (this.data!.title === title) this.data = { ...this.data!, title: before };
      throw error;
    }
  }

  #follow(cursor: string): void {
    const variables: { id: string; after?: string | null } = { id: this.id, after: cursor };
    const gone = (): void => void (this.state = "missing");
    this.#stops.push(
      follow(TurnUpdated, variables, {
        onData: ({ turnUpdated }) => {
          variables.after = turnUpdated.cursor;
          this.show(turnUpdated.turn);
        },
        onEnd: gone,
      }),
      follow(
        ConversationUpdated,
        { id: this.id },
        {
          onData: ({ conversationUpdated: { title, turnCount } }) => {
            if (!this.data) return;
            this.data = { ...this.data, title, turnCount };
            if (this.#showsMoreThan(turnCount)) void this.#removeDeleted().catch(() => {});
          },
          onEnd: gone,
        },
      ),
    );
  }

  /** A turn has been deleted, in another tab for example. */
  #showsMoreThan(turnCount: number): boolean {
    return !this.hasEarlier && this.turns.length > turnCount;
  }

  async #removeDeleted(): Promise<void> {
    const last = Math.min(this.turns.length, MOST_AT_ONCE);
    const { conversation } = await query(TurnIds, { id: this.id, last });
    if (!conversation) return;
    const there = new Set(conversation.turns.nodes.map(({ id }) => id));
    this.#remove(this.turns.slice(-last).filter(({ id }) => !there.has(id)));
  }

  #remove(turns: readonly TurnData[]): void {
    const gone = new Set(turns.map(({ id }) => id));
    const images = new Set(turns.flatMap(({ outputs }) => outputs.flatMap((output) => output.images.map(({ id }) => id))));
    this.turns = this.turns.filter(({ id }) => !gone.has(id));
    this.listed = this.listed.filter(({ id }) => !images.has(id));
  }

  #addEarlier(page: { nodes: readonly TurnData[]; pageInfo: PageInfo }): void {
    this.#before = page.pageInfo.startCursor;
    this.hasEarlier = page.pageInfo.hasPreviousPage;
    for (const turn of page.nodes) this.show(turn);
  }

  async #listImages(): Promise<void> {
    while (this.#unlisted.hasNextPage) {
      const variables = { id: this.id, after: this.#unlisted.endCursor };
      const { conversation } = await query(ConversationImages, variables);
      if (!conversation) return;
      this.listed = [...this.listed, ...conversation.images.nodes.map(remember)];
      this.#unlisted = conversation.images.pageInfo;
    }
  }

  protected override arrived(output: OutputData): void {
    if (output.status !== "COMPLETED") return;
    for (const image of output.images) gallery.add(imageOf(image));
  }
}

interface PageInfo {
  startCursor: string | null;
  hasPreviousPage: boolean;
}

interface Cursor {
  hasNextPage: boolean;
  endCursor: string | null;
}
