// Follow a conversation until its latest turn has finished:
// node examples/follow.mjs CONVERSATION [CURSOR | --first]
// --first prints the cursor of the first update and stops.
import { readFileSync } from "node:fs";
import { createClient } from "graphql-ws";
import WebSocket from "ws";

const [id, option] = process.argv.slice(2);
const first = option === "--first";
const url = (process.env.GRAPHQL_URL ?? "http://127.0.0.1:8000/graphql").replace("http", "ws");
const connectionParams = { authorization: `Bearer ${process.env.TOKEN}` };
const client = createClient({ url, webSocketImpl: WebSocket, connectionParams });
const query = readFileSync(new URL("documents/follow.graphql", import.meta.url), "utf8");

for await (const { data, errors } of client.iterate({ query, variables: { id, after: first ? null : option } })) {
  if (errors) throw new Error(errors[0].message);
  const { cursor, turn, changedOutputs } = data.turnUpdated;
  console.log(first ? cursor : `turn ${turn.turnIndex} ${turn.status}`);
  if (first) break;
  for (const { model, status, image, error } of changedOutputs)
    console.log(`  ${model.label}: ${image?.url ?? error?.message ?? status}`);
  const isLatest = turn.turnIndex >= turn.conversation.turnCount - 1; // an earlier turn may come again
  if (isLatest && !["PENDING", "GENERATING"].includes(turn.status)) break;
}
await client.dispose();
