/** Files on their way to the store: declared, sent with progress, completed; each with its own end. */
import { accepted, ApiError, mutate, persist, Refused } from "../api/client";
import { CompleteUpload, CreateUploads, type ImageData } from "../api/documents";
import { i18n } from "../i18n/index.svelte";
import { announcer } from "./announcer.svelte";
import { gallery } from "./gallery.svelte";
import { remember } from "./images.svelte";
import { viewer } from "./viewer.svelte";

/** As many as the server processes of one viewer. */
const AT_ONCE = 2;
const TYPES: Record<string, string> = {
  jpg: "image/jpeg",
  jpeg: "image/jpeg",
  png: "image/png",
  webp: "image/webp",
  heic: "image/heic",
  heif: "image/heif",
};

type State = "waiting" | "sending" | "checking" | "done" | "failed" | "cancelled";

class SendFailed extends Error {}
/** The URL that the file was sent to is not valid any more. */
class UrlExpired extends SendFailed {}

/** One file. */
export class Upload {
  state = $state<State>("waiting");
  /** Of the bytes, 0 to 1. */
  progress = $state(0);
  reason = $state("");
  image = $state.raw<ImageData | null>(null);
  /** Resolves once it is done, failed or cancelled. */
  readonly end: Promise<void>;
  #request: XMLHttpRequest | undefined;
  #resolve!: () => void;

  /** `listed`: whether it is shown in the gallery. A mask is not. */
  constructor(
    readonly file: File,
    readonly listed = true,
  ) {
    this.end = new Promise((resolve) => (this.#resolve = resolve));
  }

  get pending(): boolean {
    return ["waiting", "sending", "checking"].includes(this.state);
  }

  cancel(): void {
    if (!this.pending) return;
    this.state = "cancelled";
    this.#request?.abort();
    this.#resolve();
  }

  /** Send it; afterwards it is done, failed with a reason, or cancelled. */
  async run(): Promise<void> {
    if (this.state === "cancelled") return;
    this.state = "sending";
    /** Like `persist`, until it is cancelled: it may have been while it waited for the network. */
    const unlessCancelled = <Result>(attempt: () => Promise<Result>): Promise<Result> =>
      persist(async () => {
        if ((this.state as State) === "cancelled") throw new SendFailed("cancelled");
        return await attempt();
      });
    try {
      const most = viewer.data?.limits.maxUploadBytes ?? Infinity;
      if (this.file.size > most) throw new Unfit(i18n.t.fileTooLarge(fileSize(most)));
      if (!this.file.size) throw new Unfit(i18n.t.fileEmpty);
      const sending = {
        onProgress: (progress: number) => (this.progress = progress),
        onRequest: (request: XMLHttpRequest) => (this.#request = request),
      };
      const upload = await bring(
        () => unlessCancelled(() => this.#declare()),
        (declared) => unlessCancelled(() => sendFile(this.file, declared, sending)),
      );
      if ((this.state as State) === "cancelled") return;
      this.state = "checking";
      const { image } = accepted(
        await unlessCancelled(async () => {
          const input = { uploadId: upload.id };
          return (await mutate(CompleteUpload, { input })).completeUpload;
        }),
      );
      this.image = remember(image!);
      this.state = "done";
      if (this.listed) gallery.add(this.image);
    } catch (error) {
      if ((this.state as State) === "cancelled") return;
      this.state = "failed";
      this.reason = error instanceof Unfit ? error.message : i18n.explain(error);
    } finally {
      this.#resolve();
    }
  }

  async #declare(): Promise<Declared> {
    const { name, size, type } = this.file;
    const ending = name.slice(name.lastIndexOf(".") + 1).toLowerCase();
    // File pickers have other names for these types, or `application/octet-stream`.
    const contentType = Object.values(TYPES).includes(type) ? type : TYPES[ending];
    if (!contentType) throw new Unfit(i18n.t.fileNotAnImage);
    const input = { files: [{ contentType, byteSize: size, filename: name }] };
    return accepted((await mutate(CreateUploads, { input })).createUploads).uploads[0]!;
  }
}

export interface Declared {
  id: string;
  url: string;
  headers: readonly { name: string; value: string }[];
}

interface Sending {
  onProgress: (progress: number) => void;
  /** Called with what can be aborted. */
  onRequest?: (request: XMLHttpRequest) => void;
}

/** Declare a file and send it; once more where it has waited for longer than its URL is valid. */
export async function bring(
  declare: () => Promise<Declared>,
  send: (declared: Declared) => Promise<void>,
): Promise<Declared> {
  let declared = await declare();
  try {
    await send(declared);
  } catch (error) {
    if (!(error instanceof UrlExpired)) throw error;
    declared = await declare();
    await send(declared);
  }
  return declared;
}

/** Send a file to the store. `fetch` cannot tell how much of a body has been sent. */
export function sendFile(file: File, { url, headers }: Declared, sending: Sending): Promise<void> {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    sending.onRequest?.(request);
    request.open("PUT", url);
    for (const { name, value } of headers) request.setRequestHeader(name, value);
    request.upload.onprogress = ({ loaded, total }) => sending.onProgress(loaded / total);
    request.onload = () => {
      // 412: it has arrived before, and the answer was lost.
      if (request.status < 300 || request.status === 412) resolve();
      else if (request.status === 503) reject(new ApiError("OVERLOADED", ""));
      else if (request.status === 403) reject(new UrlExpired("403"));
      else reject(new SendFailed(String(request.status)));
    };
    request.onerror = () => reject(new ApiError("OFFLINE", ""));
    request.onabort = () => reject(new SendFailed("cancelled"));
    request.send(file);
  });
}

/** It need not be sent to be refused. */
class Unfit extends Refused {
  constructor(message: string) {
    super([]);
    this.message = message;
  }
}

class Uploads {
  /** Those that the gallery shows until they are dismissed. */
  items = $state.raw<readonly Upload[]>([]);
  #queue: Upload[] = [];
  #running = 0;

  /** Upload files to the gallery, and show how it goes. */
  add(files: readonly File[]): void {
    this.items = [...this.items, ...this.start(files)];
  }

  /** Upload files for somebody who shows them. */
  start(files: readonly File[], { listed = true } = {}): Upload[] {
    const started = files.map((file) => new Upload(file, listed));
    this.#queue.push(...started);
    for (let slot = 0; slot < AT_ONCE; slot += 1) void this.#pump();
    return started;
  }

  retry(upload: Upload): void {
    const [again] = this.start([upload.file]);
    this.items = this.items.map((item) => (item === upload ? again! : item));
  }

  dismiss(upload: Upload): void {
    upload.cancel();
    this.items = this.items.filter((item) => item !== upload);
  }

  dismissEnded(): void {
    this.items = this.items.filter((item) => item.pending);
  }

  async #pump(): Promise<void> {
    if (this.#running >= AT_ONCE) return;
    const upload = this.#queue.shift();
    if (!upload) return;
    this.#running += 1;
    await upload.run();
    this.#running -= 1;
    if (upload.state === "done" && upload.listed) announcer.speak(i18n.t.uploaded(upload.file.name));
    if (upload.state === "failed") announcer.speak(`${upload.file.name}: ${upload.reason}`);
    void this.#pump();
  }
}

export function fileSize(bytes: number): string {
  const [size, unit, digits] = bytes < 1e5 ? [bytes / 1e3, "kilobyte", 0] : [bytes / 1e6, "megabyte", 1];
  return size.toLocaleString(document.documentElement.lang, { style: "unit", unit, maximumFractionDigits: digits });
}

export const uploads = new Uploads();
