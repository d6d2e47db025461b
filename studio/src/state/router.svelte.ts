/** Which view the address names. Every view can be opened, refreshed and shared by its address. */
export type Route =
  | { view: "gallery" }
  | { view: "conversations" }
  | { view: "conversation"; id: string }
  | { view: "posts" }
  | { view: "post"; id: string }
  | { view: "albums" }
  | { view: "album"; id: string }
  | { view: "statistics" }
  | { view: "deleted" }
  | { view: "shared"; token: string }
  | { view: "lost" };

const BASE = "/studio";

export const links = {
  gallery: `${BASE}/`,
  conversations: `${BASE}/conversations`,
  conversation: (id: string) => `${BASE}/conversations/${encodeURIComponent(id)}`,
  posts: `${BASE}/posts`,
  post: (id: string) => `${BASE}/posts/${encodeURIComponent(id)}`,
  albums: `${BASE}/albums`,
  album: (id: string) => `${BASE}/albums/${encodeURIComponent(id)}`,
  statistics: `${BASE}/statistics`,
  deleted: `${BASE}/deleted`,
};

/** Lists, and what one of their items is called. */
const ITEMS = { conversations: "conversation", posts: "post", albums: "album" } as const;
const PAGES = ["conversations", "posts", "albums", "statistics", "deleted"] as const;

/** How long a view that is returned to may take until it is as long as it was. */
const RESTORE_MILLISECONDS = 1_000;
/** The frame that scrolls to where a view was left. */
let restoring = 0;

class Router {
  #path = $state(location.pathname);
  route: Route = $derived(match(this.#path));
  /** Whether the previous entry of the history is a view of the studio. */
  canGoBack = $state(false);

  /** How often another view has been gone to. */
  moves = $state(0);

  /** The entry of the history that is shown, and how far each was scrolled when it was left. */
  #entry = entryOf(history.state);
  #tops = new Map<number, number>();

  constructor() {
    addEventListener("popstate", ({ state }) => {
      this.#tops.set(this.#entry, scrollY);
      this.#entry = entryOf(state);
      this.#path = location.pathname;
      this.moves += 1;
      cancelAnimationFrame(restoring);
      const top = this.#tops.get(this.#entry);
      if (top !== undefined) scrollToWhenLongEnough(top);
    });
  }

  go(path: string): void {
    if (path === this.#path) return;
    this.#tops.set(this.#entry, scrollY);
    this.#entry = Date.now();
    history.pushState(this.#entry, "", path);
    this.canGoBack = true;
    this.#path = path;
    this.moves += 1;
    cancelAnimationFrame(restoring);
    scrollTo(0, 0);
  }

  /** Show another view in place of this one. */
  replace(path: string): void {
    history.replaceState(history.state, "", path);
    this.#path = path;
  }

  /** Follow links inside the studio without loading the page again. */
  follow = (event: MouseEvent): void => {
    const link = (event.target as Element).closest?.("a[href]");
    const plain = event.button === 0 && !(event.metaKey || event.ctrlKey || event.shiftKey);
    if (!(link instanceof HTMLAnchorElement) || !plain || event.defaultPrevented) return;
    if (link.target || link.download || link.origin !== location.origin) return;
    if (!link.pathname.startsWith(`${BASE}/`) || link.hash) return;
    event.preventDefault();
    this.go(link.pathname);
  };
}

function match(path: string): Route {
  const [view, id, ...rest] = path.slice(BASE.length).split("/").filter(Boolean);
  if (!view) return { view: "gallery" };
  if (rest.length) return { view: "lost" };
  if (id) {
    if (view === "shared") return { view, token: decode(id) };
    if (view in ITEMS) return { view: ITEMS[view as keyof typeof ITEMS], id: decode(id) };
    return { view: "lost" };
  }
  const page = PAGES.find((name) => name === view);
  return page ? { view: page } : { view: "lost" };
}

function entryOf(state: unknown): number {
  return typeof state === "number" ? state : 0;
}

/** A list is laid out only after it has been shown: the browser would have scrolled before. */
function scrollToWhenLongEnough(top: number): void {
  const end = performance.now() + RESTORE_MILLISECONDS;
  const scroll = (): void => {
    scrollTo(0, top);
    if (Math.abs(scrollY - top) > 1 && performance.now() < end) restoring = requestAnimationFrame(scroll);
  };
  restoring = requestAnimationFrame(scroll);
}

/** What cannot be decoded stays as it is: nothing has such a name. */
function decode(part: string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

export const router = new Router();
