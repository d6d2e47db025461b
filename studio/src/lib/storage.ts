/** What is kept for the browser, or for this tab. Where that is blocked or full, it is kept for this page. */
class Store {
  readonly #here = new Map<string, string>();

  constructor(readonly open: () => Storage) {}

  get(key: string): string | null {
    const here = this.#here.get(key);
    if (here !== undefined) return here;
    try {
      return this.open().getItem(key);
    } catch {
      return null;
    }
  }

  set(key: string, value: string): void {
    try {
      this.open().setItem(key, value);
      this.#here.delete(key);
    } catch {
      this.#here.set(key, value);
    }
  }

  remove(key: string): void {
    this.#here.delete(key);
    try {
      this.open().removeItem(key);
    } catch {
      // Then there is nothing in it either.
    }
  }

  clear(): void {
    this.#here.clear();
    try {
      this.open().clear();
    } catch {
      // Then there is nothing in it either.
    }
  }
}

export const browserStore = new Store(() => localStorage);
export const tabStore = new Store(() => sessionStorage);
