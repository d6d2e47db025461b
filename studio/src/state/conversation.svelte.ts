/** One conversation, live: its turns, its images, and what can be done to its outputs. */
import { accepted, follow, mutate, query } from "../api/client";
import {
  CancelOutput,
  CancelTurn,
  ConversationImages,
  ConversationPage,
  ConversationUpdated,
  Rename,
  Retry,
  TurnUpdated,
  type ConversationData,
  type ImageData,
  type OutputData,
  type TurnData,
} from "../api/documents";
import { i18n } from "../i18n/index.svelte";
import { announcer } from "./announcer.svelte";
import { gallery } from "./gallery.svelte";
import { imageOf, remember } from "./images.svelte";

const PAGE = 12;

export class Conversation {
  readonly id: string;
  state = $state<"loading" | "ready" | "missing" | "failed">("loading");
  data = $state.raw<ConversationData | null>(null);
  turns = $state.raw<readonly TurnData[]>([]);
  hasEarlier = $state(false);
  /** All images, in their order, as far as they have been read. */
  #listed = $state.raw<readonly ImageData[]>([]);
  images: readonly ImageData[] = $derived([
    ...new Set([
      ...this.#listed,
      ...this.turns.flatMap((turn) => turn.outputs.flatMap(({ images }) => images.map(imageOf))),
    ]),
  ]);
  #before: string | null = null;
  #stops: (() => void)[] = [];

  constructor(id: string) {
    this.id = id;
  }

  /** Read it, and follow it until `close`. */
  async open(): Promise<void> {
    this.state = "loading";
    try {
      const { conversation } = await query(ConversationPage, { id: this.id, last: PAGE, before: null });
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

  close(): void {
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

  /** Show a turn, unless a newer state of it is shown already. */
  show(turn: TurnData): void {
    const before = this.turns.find(({ id }) => id === turn.id);
    if (before && before.updatedAt > turn.updatedAt) return;
    for (const { image } of turn.references) remember(image);
    for (const output of turn.outputs) {
      output.images.forEach(remember);
      const earlier = before?.outputs.find(({ id }) => id === output.id);
      if (before && earlier?.status !== output.status) this.#announce(output);
    }
    this.turns = before
      ? this.turns.map((other) => (other.id === turn.id ? turn : other))
      : [...this.turns, turn].sort((one, other) => one.turnIndex - other.turnIndex);
    if (this.data && this.data.turnCount <= turn.turnIndex) {
      this.data = { ...this.data, turnCount: turn.turnIndex + 1 };
    }
  }

  async retry(output: OutputData, modelId?: string): Promise<void> {
    const input = { outputId: output.id, modelId };
    this.show(accepted((await mutate(Retry, { input })).retryOutput).turn!);
  }

  async cancel(output: OutputData): Promise<void> {
    const input = { outputId: output.id };
    this.show(accepted((await mutate(CancelOutput, { input })).cancelOutput).turn!);
  }

  async cancelTurn(turn: TurnData): Promise<void> {
    const input = { turnId: turn.id };
    this.show(accepted((await mutate(CancelTurn, { input })).cancelTurn).turn!);
  }

  async rename(title: string): Promise<void> {
    const before = this.data!;
    this.data = { ...before, title };
    try {
      accepted((await mutate(Rename, { input: { conversationId: this.id, title } })).renameConversation);
    } catch (error) {
      this.data = before;
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
            if (this.data) this.data = { ...this.data, title, turnCount };
          },
          onEnd: gone,
        },
      ),
    );
  }

  #addEarlier(page: { nodes: readonly TurnData[]; pageInfo: PageInfo }): void {
    this.#before = page.pageInfo.startCursor;
    this.hasEarlier = page.pageInfo.hasPreviousPage;
    for (const turn of page.nodes) this.show(turn);
  }

  async #listImages(): Promise<void> {
    let page: Cursor = { hasNextPage: true, endCursor: null };
    while (page.hasNextPage) {
      const variables = { id: this.id, after: page.endCursor };
      const { conversation } = await query(ConversationImages, variables);
      if (!conversation) return;
      this.#listed = [...this.#listed, ...conversation.images.nodes.map(remember)];
      page = conversation.images.pageInfo;
    }
  }

  #announce(output: OutputData): void {
    const { label } = output.model;
    if (output.status === "COMPLETED") {
      for (const image of output.images) gallery.add(imageOf(image));
      announcer.speak(i18n.t.landed(label));
    } else if (output.status === "FAILED") {
      announcer.speak(`${label}: ${i18n.byCode(output.error!.code, output.error!.message)}`);
    } else if (output.status === "CANCELLED") announcer.speak(i18n.t.cancelledBy(label));
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
