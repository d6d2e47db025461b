import { Client, fetchExchange, subscriptionExchange } from "@urql/core";
import { persistedExchange } from "@urql/exchange-persisted";
import { resuming } from "./graphql-ws.mjs";
import { again } from "./shared.mjs";

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

export const clients = {
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
};
