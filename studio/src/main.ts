/** Puts the studio into the page that the server sends. */
import { mount } from "svelte";
import App from "./App.svelte";
import "./app.css";
import { i18n } from "./i18n/index.svelte";
import { preferences } from "./state/preferences.svelte";

addEventListener("vite:preloadError", () => void reloadIfReplaced());

/** The parts of a release that has been replaced are gone: the page of the new one has others. */
async function reloadIfReplaced(): Promise<void> {
  const answer = await fetch(import.meta.env.BASE_URL).catch(() => null);
  if (answer?.ok && !(await answer.text()).includes(new URL(import.meta.url).pathname)) location.reload();
}

await i18n.use(preferences.current.language);
const target = document.getElementById("app")!;
// What stood there until now: the frame of the page, which needs no script.
target.replaceChildren();
mount(App, { target });
