/** Exports and imports are rare: their code is fetched when there is one, or one is kept from before a reload. */
import { tabStore } from "../lib/storage";

export const JOBS_KEY = "darkroom.jobs";

class JobTray {
  shown = $state(tabStore.get(JOBS_KEY) !== null);

  /** Show it, and return what begins a job. */
  async open() {
    this.shown = true;
    return (await import("./jobs.svelte")).jobs;
  }
}

export const jobTray = new JobTray();
