// Follow a conversation: node examples/follow.mjs <conversation> [<cursor>], with the token in $TOKEN.
import { createClient } from "graphql-ws";
import WebSocket from "ws";

const [id, after] = process.argv.slice(2);
const url = process.env.GRAPHQL_URL ?? "ws://127.0.0.1:8000/graphql";
const connectionParams = { authorization: `Bearer ${process.env.TOKEN}` };
const client = createClient({ url, webSocketImpl: WebSocket, connectionParams });
const query = `subscription ($id: ID!, $after: String) { turnUpdated(conversationId: $id, after: $after) {
  cursor turn { turnIndex status outputs { status model { label } image { url } error { message } } } } }`;

process.stdout.on("error", () => process.exit()); // whoever reads us has had enough
for await (const { data } of client.iterate({ query, variables: { id, after } })) {
  const { cursor, turn } = data.turnUpdated;
  console.log(`turn ${turn.turnIndex} ${turn.status} cursor=${cursor}`);
  for (const { model, status, image, error } of turn.outputs)
    console.log(`  ${model.label}: ${image?.url ?? error?.message ?? status}`);
  if (!["PENDING", "GENERATING"].includes(turn.status)) break;
}
await client.dispose();
