// Follows a conversation with a client as it comes from npm:
// node follow.mjs <client> <url> <token> <conversation> <what>. Prints what the client reports, as
// JSON: `title` follows the title, `turns` the turns, from the last cursor where it is cut.
import { openClient, read } from "./clients.mjs";

const [name, url, token, id, what] = process.argv.slice(2);
const documents = {
  title: "subscription($id: ID!) { conversationUpdated(conversationId: $id) { title } }",
  turns:
    "subscription($id: ID!, $after: String) { turnUpdated(conversationId: $id, after: $after) { cursor turn { turnIndex status } } }",
};
const shown = (data) => {
  const turn = data.turnUpdated?.turn;
  return data.conversationUpdated?.title ?? (turn ? `${turn.turnIndex} ${turn.status}` : Object.keys(data));
};
const say = (event, payload) => console.log(JSON.stringify({ event, payload }));
const tell = (result) => say(...read(result, shown));
const client = await openClient(name, url, token);
tell(await client.query("{ viewer { id } }"));
if (what === "nothing") process.exit(0);
client.subscribe(documents[what], what === "turns" ? { id, after: undefined } : { id }, {
  next: tell,
  error: (error) => (Array.isArray(error) ? tell({ errors: error }) : say("failed", String(error?.message ?? error))),
  complete: () => {
    say("complete");
    process.exit(0);
  },
});
