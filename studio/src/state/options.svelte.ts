/** The options of a turn, as they are in the form, and what the chosen models allow. */
import type { ModelData, PlanInput } from "../api/documents";
import { preferences } from "./preferences.svelte";

/** What people type and choose. Empty: each model decides. */
export interface OptionValues {
  /** A shape, or `custom` for a width and a height. */
  ratio: string;
  width: number | null;
  height: number | null;
  resolution: string;
  quality: string;
  format: string;
  count: number;
  seed: string;
  negativePrompt: string;
  /** Models that can are given the messages of earlier turns as well. */
  context: boolean;
}

export interface Sizes {
  minimum: number;
  maximum: number;
  step: number;
}

export const CUSTOM = "custom";
const MOST_IMAGES = 4;
const USUAL_PIXELS = 1024;
const UNSET: OptionValues = {
  ratio: "",
  width: null,
  height: null,
  resolution: "",
  quality: "",
  format: "",
  count: 1,
  seed: "",
  negativePrompt: "",
  context: false,
};

export class Options {
  /** What is in the form. It stays while models that do not support it are chosen. */
  values = $state<OptionValues>({ ...UNSET });
  #running: () => readonly ModelData[];

  constructor(running: () => readonly ModelData[]) {
    this.#running = running;
    const { ratio, resolution, quality, format, count } = preferences.current;
    Object.assign(this.values, { ratio, resolution, quality, format, count });
  }

  restore(values: Partial<OptionValues>): void {
    this.values = { ...UNSET, ...values };
  }

  get ratios(): string[] {
    return shared(this.#running().map((model) => model.aspectRatios));
  }

  get resolutions(): string[] {
    return shared(this.#running().map((model) => model.resolutions));
  }

  get qualities(): string[] {
    return shared(this.#running().map((model) => model.qualities));
  }

  get formats(): string[] {
    return shared(this.#running().map((model) => model.formats));
  }

  get mostImages(): number {
    return Math.min(MOST_IMAGES, ...this.#running().map((model) => model.maxImages));
  }

  /** Widths and heights that all of the models make. */
  get sizes(): Sizes | null {
    const all = this.#running().map((model) => model.customSize);
    if (!all.length) return null;
    return all.reduce((one, other) => {
      if (!one || !other) return null;
      return {
        minimum: Math.max(one.minimum, other.minimum),
        maximum: Math.min(one.maximum, other.maximum),
        step: Math.max(one.step, other.step),
      };
    });
  }

  get takesSeed(): boolean {
    return this.#all((model) => model.supportsSeed);
  }

  get takesNegativePrompt(): boolean {
    return this.#all((model) => model.supportsNegativePrompt);
  }

  /** At least one can read earlier messages: the others always read the message alone. */
  get takesContext(): boolean {
    return this.#running().some((model) => model.supportsContext);
  }

  /** How many of those behind "More" are set. */
  get furtherCount(): number {
    const { format, seed, negativePrompt, context } = this.values;
    return [
      this.formats.includes(format),
      this.takesSeed && seed.trim(),
      this.takesNegativePrompt && negativePrompt.trim(),
      this.takesContext && context,
    ].filter(Boolean).length;
  }

  get hasCustomSize(): boolean {
    return this.values.ratio === CUSTOM && this.sizes !== null;
  }

  /** Where a size of one's own begins. */
  useCustomSize(): void {
    const sizes = this.sizes;
    if (!sizes) return;
    const usual = Math.min(Math.max(USUAL_PIXELS, sizes.minimum), sizes.maximum);
    this.values.width ??= usual;
    this.values.height ??= usual;
  }

  /** As the API takes them, without what the models do not support. */
  get wish(): Pick<PlanInput, "aspectRatio" | "resolution" | "options"> {
    const { ratio, width, height, resolution, quality, format, count, seed, negativePrompt, context } =
      this.values;
    const own = this.hasCustomSize;
    return {
      aspectRatio: own ? undefined : one(ratio, this.ratios),
      resolution: own ? undefined : one(resolution, this.resolutions),
      options: {
        imagesPerModel: Math.min(count, this.mostImages),
        quality: one(quality, this.qualities),
        format: one(format, this.formats),
        seed: (this.takesSeed && seed.trim()) || undefined,
        negativePrompt: (this.takesNegativePrompt && negativePrompt.trim()) || undefined,
        context: this.takesContext && context ? "CONVERSATION" : undefined,
        width: own ? width : undefined,
        height: own ? height : undefined,
      },
    };
  }

  /** What is used again next time. Seeds and negative prompts belong to one picture. */
  remember(): void {
    const { ratio, resolution, quality, format, count } = this.values;
    preferences.change({ ratio: ratio === CUSTOM ? "" : ratio, resolution, quality, format, count });
  }

  #all(supports: (model: ModelData) => boolean): boolean {
    const running = this.#running();
    return running.length > 0 && running.every(supports);
  }
}

function one<Value extends string>(value: string, all: readonly string[]): Value | undefined {
  return all.includes(value) ? (value as Value) : undefined;
}

function shared(lists: readonly (readonly string[])[]): string[] {
  const [first = [], ...rest] = lists;
  return first.filter((value) => rest.every((list) => list.includes(value)));
}
