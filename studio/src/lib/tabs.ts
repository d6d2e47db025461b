/** What other tabs of this browser have changed. No subscription tells it. */
export class Tabs {
  readonly #channel: BroadcastChannel;

  constructor(name: string) {
    this.#channel = new BroadcastChannel(`darkroom.${name}`);
  }

  /** Tell the other tabs. */
  tell(id: string): void {
    this.#channel.postMessage(id);
  }

  /** Hear of what others have changed, and of coming back to this tab: other devices tell nobody. Returns what ends it. */
  hear(heard: (id: string | null) => void): () => void {
    const told = ({ data }: MessageEvent<string>): void => heard(data);
    const returned = (): void => void (document.hidden || heard(null));
    this.#channel.addEventListener("message", told);
    document.addEventListener("visibilitychange", returned);
    return () => {
      this.#channel.removeEventListener("message", told);
      document.removeEventListener("visibilitychange", returned);
    };
  }
}
