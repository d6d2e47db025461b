import { ApolloClient, ApolloLink, HttpLink, InMemoryCache, gql } from "@apollo/client";
import { PersistedQueryLink } from "@apollo/client/link/persisted-queries";
import { GraphQLWsLink } from "@apollo/client/link/subscriptions";
import { createHash } from "node:crypto";
import { resuming } from "./graphql-ws.mjs";
import { again } from "./shared.mjs";

const sha256 = (text) => createHash("sha256").update(text).digest("hex");

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

export const clients = {
  apollo: (url, token) =>
    apollo(new HttpLink({ uri: url, headers: { authorization: `Bearer ${token}` } })),
  "apollo over graphql-ws": (url, token) => apollo(new GraphQLWsLink(resuming(url, token))),
  "apollo with persisted queries": (url, token) => {
    const http = new HttpLink({ uri: url, headers: { authorization: `Bearer ${token}` } });
    return apollo(ApolloLink.from([new PersistedQueryLink({ sha256 }), http]));
  },
};
