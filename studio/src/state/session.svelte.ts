/** Who is signed in, and what happens when a token ends. */
import { page } from "../lib/page";
import type { Tokens } from "../api/issuer";
import { browserStore, tabStore } from "../lib/storage";
import { backoff, network } from "./network.svelte";
import { router } from "./router.svelte";

/** A token that somebody else has issued, for all tabs of this browser. */
const KEY = "darkroom.token";
/** Somebody has signed in at the issuer from this browser, and not signed out. No token. */
const MARK = "darkroom.signed-in";
/** Whose drafts this tab keeps. */
const WRITER = "viewer";
/** How much of a token's life has passed when it is renewed. */
const RENEWAL = 0.8;
const LONGEST_TIMER = 2 ** 31 - 1;
const RENEWAL_PATH = "/studio/token";

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
  /** Whether somebody is signed in is being found out. */
  arriving = $state(false);
  /** Signing in has failed, for another reason than the person. */
  failed = $state(false);
  /** The last viewer of this page: after a sign-out something of theirs may still wait for the network. */
  #last = "";
  /** Called with each token after the first. */
  onRenewal: (token: string) => void = () => {};
  #name = $state("");
  viewerName = $derived(this.#name || (readClaims(this.token).sub ?? ""));
  /** What the issuer has given besides; null where somebody else has given the token. */
  #tokens: Tokens | null = null;
  #waiting: (() => void)[] = [];
  #end: ReturnType<typeof setTimeout> | undefined;
  #renewal: ReturnType<typeof setTimeout> | undefined;

  constructor() {
    if (this.isReader) return;
    const given = takeToken();
    if (given) browserStore.set(KEY, given);
    this.#use(browserStore.get(KEY));
    addEventListener("storage", ({ key, newValue }) => {
      if (key === KEY && !this.#tokens) this.#change(newValue);
      else if (key === MARK && newValue === null && this.#tokens) this.#forget();
    });
    addEventListener("hashchange", () => {
      const pasted = takeToken();
      if (pasted) this.signIn(pasted);
    });
    if (page.signIn && !this.token) void this.#arrive();
  }

  get usable(): boolean {
    return this.isReader || (this.token !== null && !this.expired);
  }

  signIn(token: string): void {
    browserStore.set(KEY, token);
    this.#change(token);
  }

  /** Go to the issuer, and come back to this view. */
  async signInAtIssuer(silently = false): Promise<void> {
    this.failed = false;
    try {
      await (await import("../api/issuer")).depart(silently);
    } catch {
      this.failed = true;
      this.arriving = false;
    }
  }

  async signOut(): Promise<void> {
    const tokens = this.#tokens;
    browserStore.remove(KEY);
    browserStore.remove(MARK);
    this.#forget();
    if (tokens) await (await import("../api/issuer")).leave(tokens.idToken).catch(() => {});
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

  /** Come back from the issuer, or ask it whether it knows the person: after a reload it does. */
  async #arrive(): Promise<void> {
    this.arriving = true;
    try {
      const issuer = await import("../api/issuer");
      if (issuer.isArrival()) {
        const arrival = await issuer.arrive();
        if (arrival) {
          browserStore.set(MARK, "yes");
          router.replace(arrival.path);
          this.#take(arrival.tokens);
        } else {
          browserStore.remove(MARK);
          router.replace(location.pathname);
        }
      } else if (browserStore.get(MARK)) return await this.signInAtIssuer(true);
    } catch {
      this.failed = true;
    }
    this.arriving = false;
  }

  #take(tokens: Tokens): void {
    this.#tokens = tokens;
    this.#name = tokens.name;
    this.#use(tokens.token);
  }

  /** This or another tab has brought a token, or signed out. */
  #change(token: string | null): void {
    const last = this.viewerName || this.#last;
    const another = last !== "" && readClaims(token).sub !== last;
    if (token === null) this.#forget();
    // What is on the page belongs to the viewer who was here.
    else if (another) location.reload();
    else this.#use(token);
  }

  #forget(): void {
    tabStore.clear();
    this.#tokens = null;
    this.#name = "";
    this.#use(null);
  }

  #use(token: string | null): void {
    clearTimeout(this.#end);
    clearTimeout(this.#renewal);
    this.token = token;
    const { exp, sub } = readClaims(token);
    if (sub !== undefined) this.#last = sub;
    // What has been written belongs to the viewer who wrote it.
    if (sub !== undefined && sub !== tabStore.get(WRITER)) {
      tabStore.clear();
      tabStore.set(WRITER, sub);
    }
    const milliseconds = exp === undefined ? Infinity : exp * 1000 - Date.now();
    this.expired = milliseconds <= 0;
    // A longer time would overflow, and end at once.
    if (milliseconds > 0 && milliseconds <= LONGEST_TIMER) {
      this.#end = setTimeout(() => this.refuse(token), milliseconds);
      this.#renewal = setTimeout(() => void this.#renew(token!), milliseconds * RENEWAL);
    }
    for (const resolve of this.#waiting.splice(0)) resolve();
    if (token !== null) this.onRenewal(token);
  }

  /** Renew it before it ends, trying again while there is no network. */
  async #renew(token: string): Promise<void> {
    for (let attempts = 1; token === this.token && !this.expired; attempts += 1) {
      try {
        if (this.#tokens) return await this.#refresh(this.#tokens.refreshToken);
        if (page.development) return await this.#renewHere(token);
        return;
      } catch {
        await network.pause(backoff(attempts));
      }
    }
  }

  async #refresh(refreshToken: string | undefined): Promise<void> {
    if (!refreshToken) return;
    const tokens = await (await import("../api/issuer")).refresh(refreshToken);
    // A sign-out may have come in between.
    if (tokens && this.#tokens) this.#take({ ...tokens, name: tokens.name || this.#name });
  }

  async #renewHere(token: string): Promise<void> {
    const headers = { authorization: `Bearer ${token}` };
    const answer = await fetch(RENEWAL_PATH, { method: "POST", headers, credentials: "omit" });
    if (answer.status >= 500) throw new Error(String(answer.status));
    if (answer.ok && token === this.token) this.signIn(((await answer.json()) as { token: string }).token);
  }
}

/** The token in the address, which it is taken out of: it must not end up in history or a screenshot. */
function takeToken(): string | null {
  const given = new URLSearchParams(location.hash.slice(1)).get("token");
  if (given) history.replaceState(null, "", location.pathname + location.search);
  return given;
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
