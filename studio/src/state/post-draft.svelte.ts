/** A post that is being written: a message, its images, and how its caption is to be. */
import { accepted, mutate, persist, query } from "../api/client";
import {
  CaptionModels,
  GeneratePost,
  PlanOfPost,
  type CaptionModelData,
  type ImageData,
  type PlanData,
  type PlanInput,
} from "../api/documents";
import { Draft, type Sent, type TurnInput } from "./draft.svelte";
import { preferences, type CaptionChoice } from "./preferences.svelte";
import { links } from "./router.svelte";

export class PostDraft extends Draft {
  caption = $state<CaptionChoice>({ ...preferences.current.caption });
  captionModels = $state.raw<readonly CaptionModelData[]>([]);

  constructor(references: readonly ImageData[]) {
    super({ post: true });
    for (const image of references) this.addReference(image);
  }

  /** Remember how captions are to be, for this post and the next. */
  rememberCaption(): void {
    preferences.change({ caption: $state.snapshot(this.caption) });
  }

  async readCaptionModels(): Promise<void> {
    this.captionModels = (await query(CaptionModels, {})).captionModels;
  }

  /** Who would write: the chosen model, unless it is not available any more. */
  get writer(): CaptionModelData | undefined {
    const usable = this.captionModels.filter(({ available }) => available);
    return usable.find(({ id }) => id === this.caption.model) ?? usable.find(({ isDefault }) => isDefault);
  }

  override get wish(): PlanInput {
    const { mask: _, ...wish } = super.wish;
    const { language, tone, maxLength, hashtags } = this.caption;
    const captionOptions = { language: language || undefined, tone: tone.trim() || undefined, maxLength, hashtags };
    return { ...wish, captionModel: this.writer?.id, captionOptions } as PlanInput;
  }

  protected override get place(): Partial<PlanInput> {
    return {};
  }

  override get key(): string {
    return "draft:post";
  }

  protected override async planFor(input: PlanInput, wanted: () => boolean): Promise<PlanData> {
    return (await query(PlanOfPost, { input }, wanted)).planPost;
  }

  protected override async deliver(input: TurnInput): Promise<Sent> {
    const { generatePost } = await persist(() => mutate(GeneratePost, { input }));
    const { post } = accepted(generatePost);
    return { path: links.post(post!.id), turn: null };
  }
}
