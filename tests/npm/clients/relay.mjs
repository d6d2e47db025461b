import relay from "relay-runtime";
import { resuming } from "./graphql-ws.mjs";

const post = (token, body) => ({
  method: "POST",
  headers: { authorization: `Bearer ${token}`, "content-type": "application/json" },
  body: JSON.stringify(body),
});

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

export const clients = { relay: relayRuntime };
