/** What every wait for the server depends on: whether there is a network, and how long to pause. */
const CATCH_UP_MILLISECONDS = 3_000;
/** Between two rounds of attempts to read something, at least. */
const READ_AGAIN_MILLISECONDS = 15_000;

/** Whether the server can be reached, as far as this page knows. */
class Network {
  /** The browser has a network at all. */
  online = $state(navigator.onLine);
  /** The socket of the live updates is lost, and is being opened again. */
  reconnecting = $state(false);
  /** How often the server can have become reachable again: what is not followed live is read again then. */
  returns = $state(0);

  #returnedAt = -Infinity;
  #readsAgain = false;

  constructor() {
    addEventListener("online", () => (this.online = true));
    addEventListener("offline", () => (this.online = false));
  }

  /** Updates that come are those that were missed: the server sends them first. */
  get isCatchingUp(): boolean {
    return performance.now() - this.#returnedAt < CATCH_UP_MILLISECONDS;
  }

  /** The socket is open again, after it was lost. */
  return(): void {
    this.returns += 1;
    this.#returnedAt = performance.now();
  }

  /** Let the page read again what it could not read, an overloaded server for example. */
  async readAgainLater(retryAfterSeconds: number): Promise<void> {
    if (this.#readsAgain) return;
    this.#readsAgain = true;
    await this.pause(Math.max(READ_AGAIN_MILLISECONDS, retryAfterSeconds * 1000));
    this.#readsAgain = false;
    this.returns += 1;
  }

  /** Wait this long, or until the browser is back online. */
  pause(milliseconds: number): Promise<void> {
    return new Promise((resolve) => {
      const end = (): void => {
        clearTimeout(timer);
        removeEventListener("online", end);
        resolve();
      };
      const timer = setTimeout(end, milliseconds);
      addEventListener("online", end);
    });
  }
}

export const network = new Network();

/** The n-th pause between attempts, in milliseconds: growing, with jitter, 15 seconds at most. */
export function backoff(attempt: number): number {
  return Math.min(500 * 2 ** attempt, 15_000) * (0.5 + Math.random() / 2);
}
