/** What must not happen twice because it was clicked twice, or because an answer was lost. */
import { makeKey } from "../lib/key";
import { ApiError, persist } from "./client";

/** Under way, or sent without an answer. */
const keys = new Map<string, string>();

/** Send it with a key that stays the same until there is an answer: it may be sent again, and is done once. */
export async function once<Result>(what: string, send: (idempotencyKey: string) => Promise<Result>): Promise<Result> {
  const key = keys.get(what) ?? makeKey();
  keys.set(what, key);
  try {
    const result = await persist(() => send(key));
    keys.delete(what);
    return result;
  } catch (error) {
    if (!(error instanceof ApiError)) keys.delete(what);
    throw error;
  }
}
