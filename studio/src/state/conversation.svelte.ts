/** One conversation, live: its turns, its images, and what can be done to its outputs. */
import { accepted, follow, mutate, query } from "../api/client";
import {
  CancelOutput,
  CancelTurn,
  Choose,
  ConversationImages,
  ConversationPage,
  ConversationUpdated,
  Rename,
  Retry,
  TurnUpdated,
  type ConversationData,
  type OutputData,
  type TurnData,
} from "../api/documents";
import { gallery } from "./gallery.svelte";
import { imageOf, remember } from "./images.svelte";
import { Turns } from "./turns.svelte";

const PAGE = 12;

export class Conversation extends Turns {
  readonly id: string;
  state = $state<"loading" | "ready" | "missing" | "failed">("loading");
  data = $state.raw<ConversationData | null>(null);
  hasEarlier = $state(false);
  #before: string | null = null;
  #stops: (() => void)[] = [];

  constructor(id: string) {
    super();
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

  override show(turn: TurnData): void {
    super.show(turn);
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

  /** Let the next turn go on from this output alone, or no longer. */
  async choose(output: OutputData): Promise<void> {
    const input = { outputId: output.id, chosen: !output.chosen };
    this.show(accepted((await mutate(Choose, { input })).chooseOutput).turn!);
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
      this.listed = [...this.listed, ...conversation.images.nodes.map(remember)];
      page = conversation.images.pageInfo;
    }
  }

  protected override announce(output: OutputData): void {
    super.announce(output);
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
