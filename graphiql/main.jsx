// GraphiQL on Darkroom's own address, signed in as the viewer that the studio is signed in as.
import { createGraphiQLFetcher } from "@graphiql/toolkit";
import { GraphiQL } from "graphiql";
import "graphiql/style.css";
import { parse } from "graphql";
import { createElement } from "react";
import { createRoot } from "react-dom/client";
import "./main.css";

const url = new URL("/graphql", location.href);
const subscriptionUrl = new URL("/graphql", location.href.replace(/^http/, "ws"));
const token = localStorage.getItem("darkroom.token");
const headers = token ? { authorization: `Bearer ${token}` } : {};
const fetchOrFollow = createGraphiQLFetcher({ url: url.href, subscriptionUrl: subscriptionUrl.href });

/** The editor's own document may be the one before, for a moment after a change. */
function fetcher(parameters, options) {
  return fetchOrFollow(parameters, { ...options, documentAST: read(parameters.query) });
}

/** What cannot be read is sent all the same: the server says why. */
function read(text) {
  try {
    return parse(text);
  } catch {
    return undefined;
  }
}

const query = `# Run a query with Ctrl+Enter. The studio's token is under "Headers".
{
  models {
    id
    label
  }
}
`;

createRoot(document.getElementById("graphiql")).render(
  createElement(GraphiQL, { fetcher, defaultQuery: query, defaultHeaders: JSON.stringify(headers, null, 2) }),
);
