// Follows a conversation's title over HTTP with a client as it comes from npm:
// node follow.mjs <client> <url> <token> <conversation>. Prints what the client reports, as JSON.
import { ApolloClient, HttpLink, InMemoryCache, gql } from "@apollo/client";
import { Client, fetchExchange } from "@urql/core";
import { createClient } from "graphql-sse";

const [client, url, token, id] = process.argv.slice(2);
const headers = { authorization: `Bearer ${token}` };
const viewer = "{ viewer { id } }";
const subscription =
  "subscription($id: ID!) { conversationUpdated(conversationId: $id) { title } }";
const say = (event, told) => console.log(JSON.stringify({ event, told }));
const tell = ({ data, errors, error }) => {
  const found = errors ?? error?.graphQLErrors ?? error?.errors;
  if (found?.length) say("errors", found.map(({ extensions }) => extensions.code));
  else if (error) say("failed", error.message);
  else say("next", data.conversationUpdated?.title ?? Object.keys(data));
};
const sink = {
  next: tell,
  error: (error) => say("failed", error.message),
  complete: () => {
    say("complete");
    process.exit(0);
  },
};

const follow = {
  "graphql-sse": async () => {
    const retry = () => new Promise((go) => setTimeout(go, 100));
    const sse = createClient({ url, headers, retry, retryAttempts: Infinity });
    const query = sse.iterate({ query: viewer });
    tell((await query.next()).value);
    sse.subscribe({ query: subscription, variables: { id } }, sink);
  },
  urql: async () => {
    const urql = new Client({
      url,
      exchanges: [fetchExchange],
      fetchOptions: { headers },
      fetchSubscriptions: true,
      preferGetMethod: false,
    });
    tell(await urql.query(viewer, {}).toPromise());
    urql.subscription(subscription, { id }).subscribe((result) => {
      // It repeats the last result when the stream ends.
      if (result.hasNext) tell(result);
      else sink.complete();
    });
  },
  apollo: async () => {
    const link = new HttpLink({ uri: url, headers });
    const apollo = new ApolloClient({ link, cache: new InMemoryCache() });
    const { data } = await apollo.query({ query: gql(viewer) });
    tell({ data: { viewer: data.viewer } });
    apollo.subscribe({ query: gql(subscription), variables: { id } }).subscribe(sink);
  },
};
await follow[client]();
