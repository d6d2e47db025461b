// The clients of npm, unmodified, behind two functions each: `query(document)`, which resolves with
// the result, and `subscribe(document, variables, sink)`, which may be cut and resumes by itself.
import { ApolloClient, ApolloLink, HttpLink, InMemoryCache, gql } from "@apollo/client";
import { PersistedQueryLink } from "@apollo/client/link/persisted-queries";
import { GraphQLWsLink } from "@apollo/client/link/subscriptions";
import { Client, fetchExchange, subscriptionExchange } from "@urql/core";
import { persistedExchange } from "@urql/exchange-persisted";
import { createHash } from "node:crypto";
import { GraphQLClient } from "graphql-request";
import { createClient as createSseClient } from "graphql-sse";
import { createClient as createWsClient } from "graphql-ws";
import relay from "relay-runtime";
import WebSocket from "ws";

const RETRY_MS = 100;
const sha256 = (text) => createHash("sha256").update(text).digest("hex");
const codes = (errors) => errors.map(({ extensions }) => extensions.code);
const cursorOf = (data) => Object.values(data ?? {})[0]?.cursor;

/** graphql-ws, which resumes from the last cursor: it reads the variables again when it reconnects. */
const resuming = (url, token) => {
  const client = createWsClient({
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

/** What has no connection to keep begins again by itself where its stream is cut. */
const again = (subscribe) => (document, variables, sink) => {
  const own = { ...variables };
  const begin = () =>
    subscribe(document, { ...own }, {
      next: (result) => {
        const cursor = cursorOf(result.data);
        if (cursor && "after" in own) own.after = cursor;
        sink.next(result);
      },
      cut: () => setTimeout(begin, RETRY_MS),
      complete: sink.complete,
    });
  begin();
};

const apollo = (link) => {
  const client = new ApolloClient({ link, cache: new InMemoryCache() });
  return {
    query: async (document) => {
      const { data, error } = await client.query({ query: gql(document), errorPolicy: "all" });
      return { data, errors: error?.errors };
    },
    subscribe: again((document, variables, sink) => {
      let isDone = false;
      const end = (error) => {
        if (isDone) return;
        isDone = true;
        if (error) sink.cut();
        else sink.complete();
      };
      client.subscribe({ query: gql(document), variables, errorPolicy: "all" }).subscribe({
        next: ({ data, error }) => {
          if (error?.errors) sink.next({ errors: error.errors });
          else if (error) end(error);
          else sink.next({ data });
        },
        error: end,
        complete: () => end(),
      });
    }),
  };
};

const urql = (url, options) => {
  const client = new Client({ url, preferGetMethod: false, ...options });
  return {
    query: async (document) => {
      const { data, error } = await client.query(document, {}).toPromise();
      return { data, errors: error?.graphQLErrors };
    },
    subscribe: again((document, variables, sink) => {
      client.subscription(document, variables).subscribe((result) => {
        const { data, error, hasNext } = result;
        if (error?.networkError) sink.cut();
        else if (!hasNext) sink.complete(); // with the last result, again
        else sink.next(error ? { errors: error.graphQLErrors } : { data });
      });
    }),
  };
};

const relayRuntime = (url, token) => {
  const { Network, Observable } = relay;
  const socket = resuming(url, token);
  const network = Network.create(
    ({ text }, variables) => fetch(url, post(token, { query: text, variables })).then((answer) => answer.json()),
    ({ text }, variables) => Observable.create((sink) => socket.subscribe({ query: text, variables }, sink)),
  );
  const execute = (text, operationKind, variables) =>
    network.execute({ id: null, text, name: "Asked", operationKind, metadata: {} }, variables, {});
  return {
    query: (document) => execute(document, "query", {}).toPromise(),
    subscribe: (document, variables, sink) => execute(document, "subscription", variables).subscribe(sink),
  };
};

const post = (token, body) => ({
  method: "POST",
  headers: { authorization: `Bearer ${token}`, "content-type": "application/json" },
  body: JSON.stringify(body),
});

const first = async (results) => (await results.next()).value;

const open = {
  "graphql-ws": (url, token) => {
    const client = resuming(url, token);
    return {
      query: (query) => first(client.iterate({ query })),
      subscribe: (query, variables, sink) => client.subscribe({ query, variables }, sink),
    };
  },
  "graphql-sse": (url, token) => {
    const headers = { authorization: `Bearer ${token}` };
    const retry = () => new Promise((go) => setTimeout(go, RETRY_MS));
    const client = createSseClient({ url, headers, retry, retryAttempts: Infinity });
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
  "graphql-request": (url, token) => {
    const client = new GraphQLClient(url, { headers: { authorization: `Bearer ${token}` }, errorPolicy: "all" });
    return { query: (query) => client.rawRequest(query) };
  },
  urql: (url, token) =>
    urql(url, {
      exchanges: [fetchExchange],
      fetchOptions: { headers: { authorization: `Bearer ${token}` } },
      fetchSubscriptions: true,
    }),
  "urql over graphql-ws": (url, token) => {
    const client = resuming(url, token);
    // urql leaves a query at its result. graphql-ws 6 counts one subscription too few where that is
    // before it has read "complete", and then takes a socket that is cut for one that nobody uses.
    const forwardSubscription = (operation) => ({
      subscribe: (sink) => {
        const leave = client.subscribe(operation, sink);
        return { unsubscribe: () => setTimeout(leave) };
      },
    });
    return urql(url, {
      exchanges: [subscriptionExchange({ forwardSubscription, enableAllOperations: true })],
    });
  },
  "urql with persisted queries": (url, token) =>
    urql(url, {
      exchanges: [persistedExchange({ preferGetForPersistedQueries: false }), fetchExchange],
      fetchOptions: { headers: { authorization: `Bearer ${token}` } },
    }),
  apollo: (url, token) =>
    apollo(new HttpLink({ uri: url, headers: { authorization: `Bearer ${token}` } })),
  "apollo over graphql-ws": (url, token) => apollo(new GraphQLWsLink(resuming(url, token))),
  "apollo with persisted queries": (url, token) => {
    const http = new HttpLink({ uri: url, headers: { authorization: `Bearer ${token}` } });
    return apollo(ApolloLink.from([new PersistedQueryLink({ sha256 }), http]));
  },
  relay: relayRuntime,
};

/** What is printed of a result: its codes, or what `shown` makes of its data. */
export const read = ({ data, errors }, shown) =>
  errors?.length ? ["errors", codes(errors)] : ["next", shown(data)];

export const openClient = (name, url, token) => open[name](url, token);
