import { createClient } from "graphql-sse";
import { RETRY_MS, cursorOf, first } from "./shared.mjs";

export const clients = {
  "graphql-sse": (url, token) => {
    const headers = { authorization: `Bearer ${token}` };
    const retry = () => new Promise((go) => setTimeout(go, RETRY_MS));
    const client = createClient({ url, headers, retry, retryAttempts: Infinity });
    return {
      query: (query) => first(client.iterate({ query })),
      subscribe: (query, variables, sink) => {
        const own = { ...variables }; // read again for each request
        const next = (result) => {
          const cursor = cursorOf(result.data);
          if (cursor && "after" in own) own.after = cursor;
          sink.next(result);
        };
        client.subscribe({ query, variables: own }, { ...sink, next });
      },
    };
  },
};
