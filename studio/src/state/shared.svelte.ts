/** A conversation as the readers of a share see it: read from its first turn on, and followed live. */
import { follow, query } from "../api/client";
import { SharedPage, SharedTurnUpdated, type TurnData } from "../api/documents";
import { renewBy } from "./images.svelte";
import { isUnfinished, Turns } from "./turns.svelte";

const PAGE = 20;

export class SharedConversation extends Turns {
  state = $state<"loading" | "ready" | "ended" | "failed">("loading");
  title = $state("");
  expiresAt = $state<string | null>(null);
  hasMore = $state(false);
  /** The index of the last turn that has been read: between it and newer ones there may be others. */
  #end = $state(-1);
  /** Those without a gap. */
  shown: readonly TurnData[] = $derived(
    this.hasMore ? this.turns.filter(({ turnIndex }) => turnIndex <= this.#end) : this.turns,
  );
  /** Where each page that has been read begins. */
  #begins: (string | null)[] = [];
  #next: string | null = null;
  #stop = (): void => {};

  constructor(readonly token: string) {
    super();
  }

  /** Read its first page, and follow it until `close`. */
  async open(): Promise<void> {
    this.state = "loading";
    renewBy(() => this.#readAgain()); // a reader has no other way to an image
    try {
      await this.readOn();
      if (this.state === "loading") {
        this.state = "ready";
        this.#follow();
      }
    } catch {
      this.state = "failed";
    }
  }

  /** Open it if that failed while the server could not be reached. */
  async catchUp(): Promise<void> {
    if (this.state === "failed") await this.open();
  }

  close(): void {
    this.#stop();
  }

  /** Read the next page. */
  async readOn(): Promise<void> {
    const begin = this.#next;
    const page = await this.#read(begin);
    if (!page || begin !== this.#next) return;
    this.hasMore = page.pageInfo.hasNextPage;
    const last = page.nodes.at(-1);
    if (!last) return;
    this.#begins.push(begin);
    this.#end = Math.max(this.#end, last.turnIndex);
    this.#next = page.pageInfo.endCursor;
  }

  async #readAgain(): Promise<void> {
    for (const begin of this.#begins) await this.#read(begin);
  }

  async #read(after: string | null) {
    const { shared } = await query(SharedPage, { token: this.token, first: PAGE, after });
    if (!shared) return this.#endNow();
    this.title = shared.title;
    this.expiresAt = shared.expiresAt;
    for (const turn of shared.turns.nodes) this.show(turn);
    return shared.turns;
  }

  #follow(): void {
    const variables: { token: string; after?: string | null } = { token: this.token };
    this.#stop = follow(SharedTurnUpdated, variables, {
      onData: ({ sharedTurnUpdated: { cursor, turn } }) => {
        const isFirst = !variables.after;
        variables.after = cursor;
        this.show(turn);
        void this.#catchUp(turn, isFirst);
      },
      onEnd: () => this.#endNow(),
    });
  }

  /**
   * Read what no update will say. Without a cursor a subscription begins with the latest turn and
   * those that have not ended: turns that were added, or ended, between the page and it are missing.
   */
  async #catchUp(turn: TurnData, isFirst: boolean): Promise<void> {
    try {
      if (!this.hasMore && turn.turnIndex > this.#end + 1) await this.readOn();
      else if (!this.hasMore) this.#end = Math.max(this.#end, turn.turnIndex);
      if (isFirst && this.shown.some((other) => other.id !== turn.id && isUnfinished(other))) {
        await this.#readAgain();
      }
    } catch {
      // The next update tries again.
    }
  }

  #endNow(): void {
    this.state = "ended";
    this.close();
  }
}
