/** What must not happen twice because it was clicked twice, or because an answer was lost. */
import { makeKey } from "../lib/key";
import { ApiError, persist } from "./client";

/** Under way, or sent without an answer. */
const keys = new Map<string, string>();

/**
 * Send it with a key that stays the same until there is an answer: it may be sent again, and is done once.
 *
 * `what` names the state that the person saw: once its result has been seen, the same click means another one.
 */
export async function once<Result>(what: string, send: (idempotencyKey: string) => Promise<Result>): Promise<Result> {
  const key = keys.get(what) ?? makeKey();
  const forget = (): void => void (keys.get(what) === key && keys.delete(what));
  keys.set(what, key);
  try {
    const result = await persist(() => send(key));
    forget();
    return result;
  } catch (error) {
    if (!(error instanceof ApiError)) forget();
    throw error;
  }
}
