/** A turn that is being written. Nothing typed is lost: it is kept for this tab until it is sent. */
import { accepted, mutate, persist, query } from "../api/client";
import {
  Plan,
  Send,
  Start,
  type ImageData,
  type ModelData,
  type PlanData,
  type PlanInput,
  type TurnData,
  type UserErrorData,
} from "../api/documents";
import { remember } from "./images.svelte";
import { models } from "./models.svelte";
import { preferences } from "./preferences.svelte";
import { uploads, type Upload } from "./uploads.svelte";

/** What the turn would be: the first of a new conversation, or the next one of this. */
export type Target = { source: ImageData | null } | { conversationId: string };
/** The earlier output to continue from, instead of all of the previous turn. */
export interface Base {
  outputId: string;
  image: ImageData;
}

interface Stored {
  prompt: string;
  models: string[] | null;
  references: ImageData[];
  base: Base | null;
  ratio: string;
  resolution: string;
  quality: string;
  count: number;
  /** What was sent last, in case its answer was lost: sent again, it is not done twice. */
  sent: { wish: string; input: Record<string, unknown> } | null;
}

export class Draft {
  readonly target: Target;
  prompt = $state("");
  models = $state.raw<string[]>([]);
  references = $state.raw<ImageData[]>([]);
  uploading = $state.raw<Upload[]>([]);
  base = $state.raw<Base | null>(null);
  ratio = $state("");
  resolution = $state("");
  quality = $state("");
  count = $state(1);
  plan = $state.raw<PlanData | null>(null);
  /** The plan is that of what is in the form now. */
  planned = $state(false);
  sending = $state(false);
  errors = $state.raw<readonly UserErrorData[]>([]);
  #sent: Stored["sent"] = null;
  #wanted: string[] | null = null;
  #fallback: string | undefined;

  constructor(target: Target, defaults: { model?: string | undefined } = {}) {
    this.target = target;
    this.#fallback = defaults.model;
    const stored = this.#read();
    const { ratio, resolution, quality, count } = preferences.current;
    Object.assign(this, { ratio, resolution, quality, count });
    if (!stored) {
      // An image keeps its own shape, unless another one is asked for.
      if (this.withImages) this.ratio = "";
      return;
    }
    const { sent, models: chosen, references, base, ...rest } = stored;
    Object.assign(this, rest);
    this.references = references.map(remember);
    this.base = base && { ...base, image: remember(base.image) };
    this.#sent = sent;
    this.#wanted = chosen;
  }

  /** Choose what to begin with, once the catalogue is there. */
  chooseModels(before: readonly string[] = []): void {
    if (this.models.length) return;
    const usable = (this.#wanted ?? before).filter((id) => models.get(id)?.available);
    this.models = usable.length ? usable : models.choose(this.#fallback, this.withImages);
  }

  /** The models that would run: with images, the `editModel` of those that have one. */
  get running(): ModelData[] {
    return this.models
      .map((id) => models.get(id))
      .map((model) =>
        this.withImages && model?.editModel ? (models.get(model.editModel.id) ?? model) : model,
      )
      .filter((model) => model !== undefined);
  }

  /** Whether images go along, so that models edit. */
  get withImages(): boolean {
    const { target } = this;
    return !("source" in target) || target.source !== null || this.references.length > 0;
  }

  get ratios(): string[] {
    return shared(this.running.map((model) => model.aspectRatios));
  }

  get resolutions(): string[] {
    return shared(this.running.map((model) => model.resolutions));
  }

  get qualities(): string[] {
    return shared(this.running.map((model) => model.qualities));
  }

  get mostImages(): number {
    return Math.min(4, ...this.running.map((model) => model.maxImages));
  }

  get ready(): boolean {
    const waiting = this.uploading.some((upload) => upload.pending);
    return !!this.prompt.trim() && this.models.length > 0 && !this.sending && !waiting;
  }

  /** Everything that the person has chosen, as the API takes it. */
  get wish(): PlanInput {
    const target =
      "source" in this.target
        ? { sourceImageId: this.target.source?.id }
        : {
            conversationId: this.target.conversationId,
            previousOutputIds: this.base ? [this.base.outputId] : undefined,
          };
    const one = <Value extends string>(value: string, all: string[]): Value | undefined =>
      all.includes(value) ? (value as Value) : undefined;
    return {
      ...target,
      userMessage: this.prompt,
      selectedModels: this.models,
      manualReferenceIds: this.references.map((image) => image.id),
      aspectRatio: one(this.ratio, this.ratios),
      resolution: one(this.resolution, this.resolutions),
      options: {
        imagesPerModel: Math.min(this.count, this.mostImages),
        quality: one(this.quality, this.qualities),
      },
    };
  }

  toggleModel(id: string): void {
    this.models = this.models.includes(id)
      ? this.models.filter((other) => other !== id)
      : [...this.models, id];
  }

  /** Upload files; each becomes a reference when it is there. */
  async addFiles(files: readonly File[]): Promise<void> {
    const started = uploads.start(files);
    this.uploading = [...this.uploading, ...started];
    while (started.some((upload) => upload.pending)) {
      await new Promise((resolve) => setTimeout(resolve, 100));
      for (const upload of started) if (upload.image) this.#land(upload);
    }
  }

  addReference(image: ImageData): void {
    if (!this.references.includes(image)) this.references = [...this.references, image];
  }

  removeReference(image: ImageData): void {
    this.references = this.references.filter((other) => other.id !== image.id);
  }

  removeUpload(upload: Upload): void {
    upload.cancel();
    this.uploading = this.uploading.filter((other) => other !== upload);
  }

  /** Ask what this would cost and use. Failures leave the last plan: a price is no reason to stop. */
  async ask(): Promise<void> {
    const wish = this.wish;
    const text = JSON.stringify(wish);
    try {
      const { planTurn } = await query(Plan, { input: wish });
      if (JSON.stringify(this.wish) !== text) return;
      this.plan = planTurn;
      this.planned = true;
      this.errors = planTurn.userErrors.filter(({ code }) => code !== "PROMPT_EMPTY");
    } catch {
      this.planned = false;
    }
  }

  /** Start the conversation, or send the turn. Returns what there is to follow. */
  async send(): Promise<{ conversationId: string; turn: TurnData | null }> {
    this.sending = true;
    try {
      const wish = JSON.stringify(this.wish);
      if (this.#sent?.wish !== wish) {
        const maxCredits = this.planned ? this.plan?.credits : undefined;
        this.#sent = { wish, input: { ...this.wish, maxCredits, idempotencyKey: makeKey() } };
        this.save();
      }
      const input = this.#sent.input as never;
      let conversationId: string;
      let turn: TurnData | null = null;
      if ("source" in this.target) {
        const { startConversation } = await persist(() => mutate(Start, { input }));
        conversationId = accepted(startConversation).conversation!.id;
      } else {
        const { sendEdit } = await persist(() => mutate(Send, { input }));
        conversationId = this.target.conversationId;
        turn = accepted(sendEdit).turn;
      }
      this.#rememberChoices();
      this.clear();
      return { conversationId, turn };
    } finally {
      this.sending = false;
    }
  }

  /** Keep it for this tab. Call it whenever something has changed. */
  save(): void {
    const { prompt, models, references, base, ratio, resolution, quality, count } = this;
    const sent = this.#sent;
    const chosen = models.length ? models : this.#wanted;
    const all = { prompt, models: chosen, references, base, ratio, resolution, quality, count, sent };
    sessionStorage.setItem(this.#key, JSON.stringify(all));
  }

  /** Forget what has been sent; models and options stay for the next turn. */
  clear(): void {
    this.prompt = "";
    this.references = [];
    this.uploading = [];
    this.base = null;
    this.plan = null;
    this.planned = false;
    this.errors = [];
    this.#sent = null;
    sessionStorage.removeItem(this.#key);
  }

  get #key(): string {
    const { target } = this;
    return `draft:${"source" in target ? (target.source?.id ?? "new") : target.conversationId}`;
  }

  #read(): Stored | null {
    const text = sessionStorage.getItem(this.#key);
    return text === null ? null : (JSON.parse(text) as Stored);
  }

  #land(upload: Upload): void {
    if (!this.uploading.includes(upload)) return;
    this.uploading = this.uploading.filter((other) => other !== upload);
    this.addReference(upload.image!);
  }

  #rememberChoices(): void {
    const { ratio, resolution, quality, count } = this;
    const chosen = this.withImages ? { fromImages: this.models } : { fromText: this.models };
    preferences.change({ ratio, resolution, quality, count, ...chosen });
  }
}

function shared(lists: readonly (readonly string[])[]): string[] {
  const [first = [], ...rest] = lists;
  return first.filter((value) => rest.every((list) => list.includes(value)));
}

/** Not `randomUUID`, which a page without TLS does not have. */
function makeKey(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
