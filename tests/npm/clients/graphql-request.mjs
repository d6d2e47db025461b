import { GraphQLClient } from "graphql-request";

export const clients = {
  "graphql-request": (url, token) => {
    const client = new GraphQLClient(url, { headers: { authorization: `Bearer ${token}` }, errorPolicy: "all" });
    return { query: (query) => client.rawRequest(query) };
  },
};
