/** A list that is read page by page. */
export interface Page<Item> {
  readonly nodes: readonly Item[];
  readonly pageInfo: { readonly endCursor: string | null; readonly hasNextPage: boolean };
}

export class Pages<Item extends { readonly id: string }> {
  items = $state.raw<readonly Item[]>([]);
  stage = $state<"loading" | "ready" | "failed">("loading");
  more = $state(false);
  #cursor: string | null = null;
  #version = 0;

  constructor(readonly readPage: (after: string | null) => Promise<Page<Item>>) {}

  /** Read the first page; what is shown stays until it is there. */
  async restart(): Promise<void> {
    this.#version += 1;
    if (this.stage === "failed") this.stage = "loading";
    await this.#read(null);
  }

  async next(): Promise<void> {
    if (this.more) await this.#read(this.#cursor);
  }

  remove(id: string): void {
    this.items = this.items.filter((item) => item.id !== id);
  }

  async #read(after: string | null): Promise<void> {
    const version = this.#version;
    try {
      const { nodes, pageInfo } = await this.readPage(after);
      if (version !== this.#version) return;
      this.items = after ? [...this.items, ...nodes] : nodes;
      this.#cursor = pageInfo.endCursor;
      this.more = pageInfo.hasNextPage;
      this.stage = "ready";
    } catch {
      if (version === this.#version) this.stage = "failed";
    }
  }
}
