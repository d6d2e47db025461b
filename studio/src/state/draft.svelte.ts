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
import { makeKey } from "../lib/key";
import type { Mark } from "../lib/mask";
import { tabStore } from "../lib/storage";
import { remember } from "./images.svelte";
import { models } from "./models.svelte";
import { Options, type OptionValues } from "./options.svelte";
import { preferences } from "./preferences.svelte";
import { links } from "./router.svelte";
import { uploads, type Upload } from "./uploads.svelte";

/** What the turn would be: the first of a new conversation, or the next one of this. */
export type Target = { source: ImageData | null } | { conversationId: string } | { post: true };
/** Where to follow what was sent; with the turn, where it belongs to a conversation that is open. */
export interface Sent {
  path: string;
  turn: TurnData | null;
}
/** The earlier output to continue from, instead of all of the previous turn. */
export interface Base {
  outputId: string;
  image: ImageData;
}

/** What is edited: an output, or the source image. */
export interface Subject {
  outputId: string | null;
  image: ImageData;
}

/** Where the edited image may change. */
export interface Mask {
  image: ImageData;
  /** The id of the image that it was painted on. */
  on: string;
  feather: number;
  keepOutside: boolean;
  marks: readonly Mark[];
}

/** A turn as it is sent. */
export type TurnInput = PlanInput & {
  idempotencyKey: string;
  maxCredits: number | undefined;
  whenReady?: boolean;
};

/** What is written for one turn, and gone once that has been sent. */
interface Contents {
  prompt: string;
  references: readonly ImageData[];
  base: Base | null;
  mask: Mask | null;
}

interface Stored extends Contents {
  models: string[] | null;
  options: OptionValues;
  /** What was sent last, in case its answer was lost: sent again, it is not done twice. */
  sent: { wish: string; input: TurnInput } | null;
}

/** What a turn that waits is planned again for, once it begins. */
const PASSING = ["TURN_IN_PROGRESS", "REFERENCE_NOT_READY"];

/** Those that are being sent, by where they are kept. */
const underWay = new Map<string, Draft>();

/** This draft, or the same one that is still being sent: its form has been left and opened again. */
export function resumed<Kind extends Draft>(draft: Kind): Kind {
  return (underWay.get(draft.key) as Kind | undefined) ?? draft;
}

export class Draft {
  readonly target: Target;
  readonly options = new Options(() => this.running);
  prompt = $state("");
  models = $state.raw<string[]>([]);
  references = $state.raw<ImageData[]>([]);
  uploading = $state.raw<Upload[]>([]);
  base = $state.raw<Base | null>(null);
  mask = $state.raw<Mask | null>(null);
  /** What the next turn edits, where no `base` is named. */
  next = $state.raw<Subject | null>(null);
  /** The latest turn, while it has not ended. */
  unfinished = $state.raw<TurnData | null>(null);
  /** Let the turn wait for the unfinished one, rather than go on from what has landed. */
  patient = $state(true);
  plan = $state.raw<PlanData | null>(null);
  /** The plan is that of what is in the form now. */
  planned = $state(false);
  sending = $state(false);
  #errors = $state.raw<readonly UserErrorData[]>([]);
  #sent: Stored["sent"] = null;
  #wanted: string[] | null = null;
  #fallback: string | undefined;

  constructor(target: Target, defaults: { model?: string | undefined; prompt?: string } = {}) {
    models.load();
    this.target = target;
    this.#fallback = defaults.model;
    const stored = this.#read();
    this.prompt = stored?.prompt || (defaults.prompt ?? "");
    if (!stored) {
      // An image keeps its own shape, unless another one is asked for.
      if (this.withImages) this.options.values.ratio = "";
      return;
    }
    this.references = stored.references.map(remember);
    this.base = stored.base && { ...stored.base, image: remember(stored.base.image) };
    this.mask = stored.mask ?? null;
    this.options.restore(stored.options ?? {});
    this.#sent = stored.sent;
    this.#wanted = stored.models;
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
    return "conversationId" in target || this.source !== null || this.references.length > 0;
  }

  /** The image that a new conversation would start from. */
  get source(): ImageData | null {
    return "source" in this.target ? this.target.source : null;
  }

  /** Whether it edits an image, even one that has not landed yet: not from words or references alone. */
  get edits(): boolean {
    return "conversationId" in this.target || this.source !== null;
  }

  /** What would be edited. Null where nothing is, and until the image to edit has landed. */
  get subject(): Subject | null {
    if ("conversationId" in this.target) return this.base ?? this.next;
    const { source } = this;
    return source && { outputId: null, image: source };
  }

  get ready(): boolean {
    const uploading = this.uploading.some((upload) => upload.pending);
    return !!this.prompt.trim() && this.models.length > 0 && !this.sending && !uploading && !this.#lacksImage;
  }

  /** One of the models only edits, and there is no image yet: the notes below the words say so. */
  get #lacksImage(): boolean {
    return this.planned && this.#errors.some(({ code }) => code === "MODEL_NEEDS_REFERENCE");
  }

  /** It would wait for the turn before it. */
  get waits(): boolean {
    return this.unfinished !== null && this.patient && this.base === null;
  }

  /** Everything that the mutation would be refused for. */
  get errors(): readonly UserErrorData[] {
    return this.waits ? this.#errors.filter(({ code }) => !PASSING.includes(code)) : this.#errors;
  }

  /** Everything that the person has chosen, as the API takes it. */
  get wish(): PlanInput {
    const { mask } = this;
    return {
      ...this.place,
      ...this.options.wish,
      userMessage: this.prompt,
      selectedModels: this.models,
      manualReferenceIds: this.references.map((image) => image.id),
      mask: mask && {
        imageId: mask.image.id,
        feather: mask.feather,
        keepOutside: mask.keepOutside,
      },
    };
  }

  /** What a turn would be added to, or begin with. */
  protected get place(): Partial<PlanInput> {
    if (!("conversationId" in this.target)) return { sourceImageId: this.source?.id };
    const previousOutputIds = this.base ? [this.base.outputId] : undefined;
    return { conversationId: this.target.conversationId, previousOutputIds };
  }

  toggleModel(id: string): void {
    this.models = this.models.includes(id)
      ? this.models.filter((other) => other !== id)
      : [...this.models, id];
  }

  /** Continue from an earlier output, or from what the conversation goes on with. */
  continueFrom(base: Base | null): void {
    this.base = base;
    if (this.mask && this.mask.on !== this.subject?.image.id) this.mask = null;
  }

  /** Let only a part of the subject change. Its output is named, so that no other one is edited. */
  useMask(mask: Mask, subject: Subject): void {
    this.mask = mask;
    const { outputId, image } = subject;
    if (outputId !== null) this.base = { outputId, image };
  }

  /** Upload files; each becomes a reference when it is there. */
  async addFiles(files: readonly File[]): Promise<void> {
    const started = uploads.start(files);
    this.uploading = [...this.uploading, ...started];
    await Promise.all(
      started.map(async (upload) => {
        await upload.end;
        if (upload.image) this.#land(upload);
      }),
    );
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
    // Offline each pause in the words asks once more: only the last of them is still to be answered.
    const wanted = (): boolean => JSON.stringify(this.wish) === text;
    try {
      const plan = await this.planFor(wish, wanted);
      if (!wanted()) return;
      this.plan = plan;
      this.planned = true;
      this.#errors = plan.userErrors.filter(({ code }) => code !== "PROMPT_EMPTY");
    } catch {
      if (wanted()) this.planned = false;
    }
  }

  /** Start the conversation, or send the turn. What is written until the answer comes is kept. */
  async send(): Promise<Sent> {
    this.sending = true;
    underWay.set(this.key, this);
    const { prompt, references, base, mask, uploading } = this;
    try {
      const sent = await this.deliver(this.#input());
      this.#rememberChoices();
      this.#remove({ prompt, references, base, mask });
      this.uploading = this.uploading.filter((upload) => !uploading.includes(upload));
      return sent;
    } finally {
      this.sending = false;
      underWay.delete(this.key);
    }
  }

  /** Keep it for this tab. Call it whenever something has changed. */
  save(): void {
    const { prompt, models, references, base, mask } = this;
    const stored: Stored = {
      prompt,
      models: models.length ? models : this.#wanted,
      references,
      base,
      mask,
      options: $state.snapshot(this.options.values),
      sent: this.#sent,
    };
    tabStore.set(this.key, JSON.stringify(stored));
  }

  /** Where it is kept. */
  get key(): string {
    return `draft:${"conversationId" in this.target ? this.target.conversationId : (this.source?.id ?? "new")}`;
  }

  protected async planFor(input: PlanInput, wanted: () => boolean): Promise<PlanData> {
    return (await query(Plan, { input }, wanted)).planTurn;
  }

  protected async deliver(input: TurnInput): Promise<Sent> {
    if ("conversationId" in this.target) {
      const { conversationId } = this.target;
      const { sendEdit } = await persist(() => mutate(Send, { input: { ...input, conversationId } }));
      return { path: links.conversation(conversationId), turn: accepted(sendEdit).turn };
    }
    const { startConversation } = await persist(() => mutate(Start, { input }));
    return { path: links.conversation(accepted(startConversation).conversation!.id), turn: null };
  }

  #read(): Stored | null {
    const text = tabStore.get(this.key);
    return text === null ? null : (JSON.parse(text) as Stored);
  }

  /** What to send: the same as before where it is the same wish, so that it is not done twice. */
  #input(): TurnInput {
    const { waits } = this;
    const wish = JSON.stringify({ ...this.wish, waits });
    if (this.#sent?.wish !== wish) {
      // What waits is planned when it begins: a plan that could not see its references is no limit.
      const known = this.planned && !this.#errors.some(({ code }) => PASSING.includes(code));
      const input = {
        ...this.wish,
        maxCredits: known ? this.plan?.credits : undefined,
        idempotencyKey: makeKey(),
        ...("conversationId" in this.target ? { whenReady: waits } : {}),
      };
      this.#sent = { wish, input };
      this.save();
    }
    return this.#sent.input;
  }

  /** Take out what has been sent; models and options stay for the next turn. */
  #remove(sent: Contents): void {
    const rest = this.prompt.slice(sent.prompt.length);
    // In the middle of a word: other words, which begin in the same way, have been written over it.
    const cutsWord = /^[\p{L}\p{N}]{2}$/u.test(this.prompt.slice(sent.prompt.length - 1, sent.prompt.length + 1));
    if (this.prompt.startsWith(sent.prompt) && !cutsWord) this.prompt = rest.trimStart();
    this.references = this.references.filter((image) => !sent.references.includes(image));
    if (this.base === sent.base) this.base = null;
    if (this.mask === sent.mask) this.mask = null;
    this.plan = null;
    this.planned = false;
    this.#errors = [];
    this.#sent = null;
    // The form that keeps it may have been left.
    this.save();
  }

  #land(upload: Upload): void {
    if (!this.uploading.includes(upload)) return;
    this.uploading = this.uploading.filter((other) => other !== upload);
    this.addReference(upload.image!);
  }

  #rememberChoices(): void {
    this.options.remember();
    preferences.change(this.withImages ? { fromImages: this.models } : { fromText: this.models });
  }
}
