/** Exports and imports: begun, asked about until they have ended, and kept through a reload. */
import { accepted, mutate, persist, query } from "../api/client";
import {
  CreateUploads,
  ExportConversation,
  ExportViewer,
  ImportConversation,
  JobsById,
  type ExportData,
  type ImportData,
} from "../api/documents";
import { i18n } from "../i18n/index.svelte";
import { tabStore } from "../lib/storage";
import { announcer } from "./announcer.svelte";
import { gallery } from "./gallery.svelte";
import { JOBS_KEY } from "./job-tray.svelte";
import { network } from "./network.svelte";
import { session } from "./session.svelte";
import { bring, sendFile } from "./uploads.svelte";

const POLL_MILLISECONDS = 1_500;

/** One of them, and what it is of. */
export interface Job {
  /** Empty while the file of an import is on its way. */
  id: string;
  kind: "export" | "import";
  name: string;
  status: ExportData["status"];
  progress: number | null;
  /** Where the ZIP is, or the id of the new conversation. */
  url: string | null;
  byteSize: number | null;
  conversationId: string | null;
  error: { code: string; message: string } | null;
}

class Jobs {
  items = $state.raw<readonly Job[]>([]);
  #asking = false;

  constructor() {
    const kept = JSON.parse(tabStore.get(JOBS_KEY) ?? "[]") as Job[];
    if (!kept.length) return;
    this.items = kept;
    void this.#ask();
  }

  async exportConversation(conversationId: string, title: string): Promise<void> {
    const { exportConversation } = await mutate(ExportConversation, { input: { conversationId } });
    this.#add({ ...begun("export", title), id: accepted(exportConversation).export!.id });
  }

  async exportAll(): Promise<void> {
    const { exportViewer } = await mutate(ExportViewer, {});
    this.#add({ ...begun("export", i18n.t.data.everything), id: accepted(exportViewer).export!.id });
  }

  async importFile(file: File): Promise<void> {
    const job = begun("import", file.name);
    this.items = [...this.items, job];
    let shown = job;
    const change = (some: Partial<Job>): void => {
      const changed = { ...shown, ...some };
      this.items = this.items.map((item) => (item === shown ? changed : item));
      shown = changed;
    };
    try {
      const declared = { contentType: "application/zip", byteSize: file.size, filename: file.name };
      const upload = await bring(
        async () => {
          const input = { files: [{ ...declared, purpose: "IMPORT" as const }] };
          return accepted((await persist(() => mutate(CreateUploads, { input }))).createUploads).uploads[0]!;
        },
        (url) => persist(() => sendFile(file, url, { onProgress: (progress) => change({ progress }) })),
      );
      const input = { uploadId: upload.id };
      const { importConversation } = await persist(() => mutate(ImportConversation, { input }));
      change({ id: accepted(importConversation).import!.id, progress: null });
    } catch (error) {
      change({ status: "FAILED", error: { code: "", message: i18n.explain(error) } });
    }
    this.#keep();
    void this.#ask();
  }

  dismiss(job: Job): void {
    this.items = this.items.filter((item) => item !== job);
    this.#keep();
  }

  /** A new URL: one that was signed some time ago has ended. */
  async renew(job: Job): Promise<string | null> {
    await this.#read([job.id]);
    return this.items.find(({ id }) => id === job.id)?.url ?? null;
  }

  #add(job: Job): void {
    this.items = [...this.items, job];
    this.#keep();
    void this.#ask();
  }

  #keep(): void {
    const known = this.items.filter(({ id }) => id);
    if (known.length) tabStore.set(JOBS_KEY, JSON.stringify(known.map((job) => ({ ...job, url: null }))));
    else tabStore.remove(JOBS_KEY);
  }

  async #ask(): Promise<void> {
    if (this.#asking) return;
    this.#asking = true;
    for (;;) {
      const ids = this.items.filter((job) => job.id && isOpen(job)).map(({ id }) => id);
      if (!ids.length || session.token === null) break;
      await this.#read(ids).catch(() => {});
      await network.pause(POLL_MILLISECONDS);
    }
    this.#asking = false;
  }

  async #read(ids: readonly string[]): Promise<void> {
    const { nodes } = await query(JobsById, { ids });
    nodes.forEach((node, index) => {
      const found = node?.__typename === "Export" || node?.__typename === "Import" ? node : null;
      this.#take(ids[index]!, found);
    });
    this.#keep();
  }

  #take(id: string, data: ExportData | ImportData | null): void {
    this.items = this.items.map((item) => {
      if (item.id !== id) return item;
      if (!data) return { ...item, status: "FAILED", url: null, error: { code: "NOT_FOUND", message: "" } };
      const { status, progress, error } = data;
      if (item.status !== status && status === "COMPLETED") this.#announce(item);
      return "url" in data
        ? { ...item, status, progress, error, url: data.url, byteSize: data.byteSize }
        : { ...item, status, progress, error, conversationId: data.conversation?.id ?? null };
    });
  }

  #announce({ kind, name }: Job): void {
    announcer.speak(kind === "export" ? i18n.t.data.exported(name) : i18n.t.data.imported(name));
    if (kind === "import") void gallery.refresh().catch(() => {});
  }
}

/** It has not ended, or has ended and its link is not known after a reload. */
function isOpen({ kind, status, url }: Job): boolean {
  return status === "QUEUED" || status === "GENERATING" || (status === "COMPLETED" && kind === "export" && !url);
}

function begun(kind: Job["kind"], name: string): Job {
  return {
    id: "",
    kind,
    name,
    status: "QUEUED",
    progress: null,
    url: null,
    byteSize: null,
    conversationId: null,
    error: null,
  };
}

export const jobs = new Jobs();
