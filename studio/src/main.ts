import { mount } from "svelte";
import App from "./App.svelte";
import "./app.css";
import { i18n } from "./i18n/index.svelte";
import { preferences } from "./state/preferences.svelte";

await i18n.use(preferences.current.language);
mount(App, { target: document.getElementById("app")! });
