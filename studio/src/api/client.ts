/** The API: queries and mutations over HTTP, live updates over one WebSocket. */
import { Client, fetchExchange, type AnyVariables, type CombinedError, type OperationResult } from "@urql/core";
import type { GraphQLError } from "graphql";
import { createClient } from "graphql-ws";
import { backoff, network } from "../state/network.svelte";
import { session } from "../state/session.svelte";
import type { Operation, UserErrorData } from "./documents";

const URL_PATH = "/graphql";
const PONG_MILLISECONDS = 5_000;
/** A page that was hidden for so long may have slept, and its socket have died unnoticed. */
const ASLEEP_MILLISECONDS = 30_000;
const MOST_FAILURES = 5;
/** While the browser has no network, that is no failure of the server: about 10 minutes of it. */
const MOST_ATTEMPTS = 50;
const PASSING = new Set(["OFFLINE", "OVERLOADED", "RATE_LIMITED", "DEADLINE_EXCEEDED"]);

/** What an operation could not do. `code` is the API's, or `OFFLINE` where nothing was answered. */
export class ApiError extends Error {
  constructor(
    readonly code: string,
    message: string,
    readonly retryAfterSeconds = 0,
  ) {
    super(message);
  }
}

/** What the person can correct, as the API says it. */
export class Refused extends Error {
  constructor(readonly userErrors: readonly UserErrorData[]) {
    super(userErrors.map((error) => error.message).join(" "));
  }
}

/** What the open socket was opened with: by its end there may be a newer one. */
let socketToken: string | null = null;
let openSocket: WebSocket | null = null;
let watchdog: ReturnType<typeof setTimeout> | undefined;
const socket = createClient({
  url: () => new URL(URL_PATH, location.href).href.replace(/^http/, "ws"),
  keepAlive: 10_000,
  retryAttempts: Infinity,
  shouldRetry: () => true,
  // A socket without a token would be closed again at once.
  retryWait: async (attempt) => {
    await network.pause(backoff(attempt));
    await session.usableToken();
  },
  connectionParams: async () => {
    socketToken = await session.usableToken();
    return authorization(socketToken);
  },
  on: {
    connected: (opened, _payload, again) => {
      openSocket = opened as WebSocket;
      network.reconnecting = false;
      if (again) network.return();
    },
    closed: (event) => {
      clearTimeout(watchdog);
      openSocket = null;
      const { code } = event as CloseEvent;
      if (code === 4403) session.refuse(socketToken);
      if (code !== 1000) network.reconnecting = true;
    },
    ping: (received) => {
      if (!received) watchdog = setTimeout(() => socket.terminate(), PONG_MILLISECONDS);
    },
    pong: () => clearTimeout(watchdog),
  },
});

// A renewed token goes into the open socket, which would end with the old one.
session.onRenewal = (token) => {
  if (!openSocket || token === socketToken) return;
  socketToken = token;
  openSocket.send(JSON.stringify({ type: "ping", payload: authorization(token) }));
};

// A phone that wakes up, or a laptop that changes its network, has a socket that looks alive.
addEventListener("online", () => socket.terminate());
let hiddenAt = 0;
document.addEventListener("visibilitychange", () => {
  if (document.hidden) hiddenAt = Date.now();
  else if (hiddenAt && Date.now() - hiddenAt > ASLEEP_MILLISECONDS) socket.terminate();
});
addEventListener("offline", () => (network.reconnecting = true));

const client = new Client({
  url: URL_PATH,
  preferGetMethod: false,
  requestPolicy: "network-only",
  exchanges: [fetchExchange],
  fetchOptions: () => ({
    credentials: "omit",
    headers: authorization(session.token),
  }),
});

/** Nothing for readers of a share, who are not signed in. */
function authorization(token: string | null): Record<string, string> {
  return token === null ? {} : { authorization: `Bearer ${token}` };
}

/**
 * Read something. What may pass by itself (no network, overload) is waited for, a few times, for as
 * long as the answer is wanted. After that the page says so, and reads again later.
 */
export async function query<Data, Variables extends AnyVariables>(
  operation: Operation<Data, Variables>,
  variables: Variables,
  wanted?: () => boolean,
): Promise<Data> {
  try {
    return await persist(() => run(client.query<Data, Variables>(operation, variables).toPromise()), wanted);
  } catch (error) {
    if (passes(error)) void network.readAgainLater(error.retryAfterSeconds);
    throw error;
  }
}

/** Change something, once. */
export async function mutate<Data, Variables extends AnyVariables>(
  operation: Operation<Data, Variables>,
  variables: Variables,
): Promise<Data> {
  return await run(client.mutation<Data, Variables>(operation, variables).toPromise());
}

/** The payload of a mutation, or `Refused` with all that is wrong. */
export function accepted<Payload extends { userErrors: readonly UserErrorData[] }>(
  payload: Payload,
): Payload {
  if (payload.userErrors.length) throw new Refused(payload.userErrors);
  return payload;
}

/** Do it again while it fails for a reason that passes, and is wanted. For what may be done twice. */
export async function persist<Result>(attempt: () => Promise<Result>, wanted = () => true): Promise<Result> {
  let failures = 0;
  for (let attempts = 1; ; attempts += 1) {
    try {
      return await attempt();
    } catch (error) {
      const passing = passes(error);
      // What was answered had a network, whatever the browser says.
      if (network.online || !passing || error.code !== "OFFLINE") failures += 1;
      if (!passing || failures === MOST_FAILURES || attempts === MOST_ATTEMPTS) throw error;
      await network.pause(Math.max(backoff(attempts), error.retryAfterSeconds * 1000));
      if (!wanted()) throw error;
    }
  }
}

/** It may pass by itself. */
function passes(error: unknown): error is ApiError {
  return error instanceof ApiError && PASSING.has(error.code);
}

/**
 * Follow a subscription through every interruption; returns what ends it.
 *
 * `variables` may be changed by `onData`: each connection sends them as they are then.
 */
export function follow<Data, Variables extends AnyVariables>(
  operation: Operation<Data, Variables>,
  variables: Variables,
  { onData, onEnd }: { onData: (data: Data) => void; onEnd?: (code: string | null) => void },
): () => void {
  let stopped = false;
  let unsubscribe = (): void => {};
  let failures = 0;

  const start = (): void => {
    const end = (code: string | null): void => {
      if (stopped) return;
      if (code === null || code === "NOT_FOUND") {
        stopped = true;
        onEnd?.(code);
        return;
      }
      if (code === "INVALID_CURSOR") delete (variables as { after?: string }).after;
      void network.pause(backoff((failures += 1))).then(() => stopped || start());
    };
    unsubscribe = socket.subscribe<Data>(
      { query: operation, variables: variables as Record<string, unknown> },
      {
        next: ({ data, errors }) => {
          failures = 0;
          if (data && !errors) onData(data);
        },
        // A list of errors ends the subscription; anything else is a socket that was given up.
        error: (error) => {
          const first = Array.isArray(error) ? (error[0] as GraphQLError) : undefined;
          end(String(first?.extensions?.code ?? "OFFLINE"));
        },
        complete: () => end(null),
      },
    );
  };

  start();
  return () => {
    stopped = true;
    unsubscribe();
  };
}

async function run<Data>(answer: Promise<OperationResult<Data>>): Promise<Data> {
  const token = session.token;
  const { data, error } = await answer;
  if (!error) return data!;
  const [first] = error.graphQLErrors;
  const code = codeOf(error);
  if (code === "UNAUTHENTICATED") session.refuse(token);
  throw new ApiError(
    code,
    first?.message ?? error.message,
    Number(first?.extensions?.retryAfterSeconds ?? 0),
  );
}

function codeOf({ graphQLErrors: [first], response }: CombinedError): string {
  if (first) return String(first.extensions?.code ?? "INTERNAL");
  const { status } = (response ?? {}) as Response;
  if (status === 401) return "UNAUTHENTICATED";
  // A proxy says so where Darkroom is being restarted.
  return status === undefined || status >= 502 ? "OFFLINE" : "INTERNAL";
}
