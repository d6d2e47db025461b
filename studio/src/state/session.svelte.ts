/** Who is signed in: the token, kept for all tabs of this browser, and what happens when it ends. */
import { router } from "./router.svelte";

const KEY = "darkroom.token";

interface Claims {
  sub?: string;
  exp?: number;
}

class Session {
  /** The page of a share is the same for everybody: it is read without a token, even if there is one. */
  readonly isReader = router.route.view === "shared";
  token = $state<string | null>(null);
  /** The server has refused the token, or its time is over. What was on the page stays. */
  expired = $state(false);
  viewerName = $derived(readClaims(this.token).sub ?? "");
  #waiting: (() => void)[] = [];
  #timer: ReturnType<typeof setTimeout> | undefined;

  constructor() {
    if (this.isReader) return;
    const given = new URLSearchParams(location.hash.slice(1)).get("token");
    if (given) {
      // Before anything else reads the address: a token must not end up in history or a screenshot.
      history.replaceState(null, "", location.pathname + location.search);
      localStorage.setItem(KEY, given);
    }
    this.#use(localStorage.getItem(KEY));
    addEventListener("storage", (event) => {
      if (event.key === KEY) this.#use(event.newValue);
    });
    addEventListener("hashchange", () => {
      const pasted = new URLSearchParams(location.hash.slice(1)).get("token");
      if (!pasted) return;
      history.replaceState(null, "", location.pathname + location.search);
      this.signIn(pasted);
    });
  }

  get usable(): boolean {
    return this.isReader || (this.token !== null && !this.expired);
  }

  signIn(token: string): void {
    const another = readClaims(token).sub !== this.viewerName && this.viewerName !== "";
    localStorage.setItem(KEY, token);
    // What is on the page belongs to the viewer who was here.
    if (another) location.reload();
    else this.#use(token);
  }

  signOut(): void {
    localStorage.removeItem(KEY);
    sessionStorage.clear();
    this.#use(null);
  }

  /** Called with the token that was refused: by now there may be a newer one. */
  refuse(token: string | null): void {
    if (token === this.token) this.expired = true;
  }

  /** A token that the server has not refused, as soon as there is one. Null for readers. */
  async usableToken(): Promise<string | null> {
    while (!this.usable) await new Promise<void>((resolve) => this.#waiting.push(resolve));
    return this.token;
  }

  #use(token: string | null): void {
    clearTimeout(this.#timer);
    this.token = token;
    const { exp } = readClaims(token);
    const milliseconds = exp === undefined ? Infinity : exp * 1000 - Date.now();
    this.expired = milliseconds <= 0;
    // A longer time than this would overflow, and end at once.
    if (milliseconds > 0 && milliseconds < 2 ** 31) {
      this.#timer = setTimeout(() => this.refuse(token), milliseconds);
    }
    for (const resolve of this.#waiting.splice(0)) resolve();
  }
}

function readClaims(token: string | null): Claims {
  try {
    const payload = token!.split(".")[1]!.replaceAll("-", "+").replaceAll("_", "/");
    const bytes = Uint8Array.from(atob(payload), (letter) => letter.charCodeAt(0));
    return JSON.parse(new TextDecoder().decode(bytes)) as Claims;
  } catch {
    return {};
  }
}

export const session = new Session();
