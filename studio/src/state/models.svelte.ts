/** The model catalogue, and what it says about a choice of models. */
import { query } from "../api/client";
import { Models, type ModelData } from "../api/documents";
import { preferences } from "./preferences.svelte";

/** By then the first images are there, also on a slow line. */
const PATIENCE_MILLISECONDS = 1_500;

class ModelsState {
  all = $state.raw<readonly ModelData[]>([]);
  #reading: Promise<void> | undefined;

  /** Read the catalogue, once. Where that fails, who needs it next tries again. */
  load(): void {
    this.#reading ??= query(Models, {}).then(
      ({ models }) => void (this.all = models),
      () => void (this.#reading = undefined),
    );
  }

  /** Read it once what was asked for is on the screen: it is long. Returns what calls that off. */
  loadLater(): () => void {
    const timer = setTimeout(() => this.load(), PATIENCE_MILLISECONDS);
    return () => clearTimeout(timer);
  }

  get(id: string): ModelData | undefined {
    return this.all.find((model) => model.id === id);
  }

  label(id: string): string {
    return this.get(id)?.label ?? id.slice(id.lastIndexOf("/") + 1);
  }

  /** Whether it can be chosen for a turn with, or without, images. */
  suits(model: ModelData, withImages: boolean): boolean {
    if (!withImages) return model.scenes.includes("TEXT_TO_IMAGE");
    return model.scenes.includes("IMAGE_TO_IMAGE") || model.editModel !== null;
  }

  price(model: ModelData, withImages: boolean): number | null {
    const made = withImages && model.editModel ? (this.get(model.editModel.id) ?? model) : model;
    return withImages ? made.fromImages : made.fromText;
  }

  /** What to begin with: the wanted model, else those that were used last, else the default. */
  choose(wanted: string | undefined, withImages: boolean): string[] {
    const usable = (id: string | undefined): boolean => {
      const model = id === undefined ? undefined : this.get(id);
      return !!model?.available && this.suits(model, withImages);
    };
    if (usable(wanted)) return [wanted!];
    const { fromText, fromImages } = preferences.current;
    const last = (withImages ? fromImages : fromText).filter(usable);
    if (last.length) return last;
    const suitable = this.all.filter((model) => usable(model.id));
    const found = suitable.find((model) => model.isDefault) ?? suitable[0];
    return found ? [found.id] : [];
  }
}

export const models = new ModelsState();
