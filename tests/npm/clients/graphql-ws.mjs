import { createClient } from "graphql-ws";
import WebSocket from "ws";
import { RETRY_MS, cursorOf, first } from "./shared.mjs";

/** graphql-ws, which resumes from the last cursor: it reads the variables again when it reconnects. */
export const resuming = (url, token) => {
  const client = createClient({
    url: url.replace("http", "ws"),
    webSocketImpl: WebSocket,
    connectionParams: { authorization: `Bearer ${token}` },
    retryAttempts: Infinity,
    shouldRetry: () => true,
    retryWait: () => new Promise((go) => setTimeout(go, RETRY_MS)),
  });
  const subscribe = (payload, sink) => {
    const own = { ...payload, variables: { ...payload.variables } };
    const next = (result) => {
      const cursor = cursorOf(result.data);
      if (cursor && "after" in own.variables) own.variables.after = cursor;
      sink.next(result);
    };
    return client.subscribe(own, { ...sink, next });
  };
  return { subscribe, iterate: (payload) => client.iterate(payload), on: client.on, dispose: client.dispose };
};

export const clients = {
  "graphql-ws": (url, token) => {
    const client = resuming(url, token);
    return {
      query: (query) => first(client.iterate({ query })),
      subscribe: (query, variables, sink) => client.subscribe({ query, variables }, sink),
    };
  },
};
