/** A mask that is being painted: its marks, which can be undone, kept for this tab until it is used. */
import type { Mark } from "../lib/mask";
import { tabStore } from "../lib/storage";

export type Tool = "brush" | "eraser" | "box";

const SMALLEST = 0.01;
const LARGEST = 0.4;
/** Points that are nearer than this to the one before say nothing. */
const NEAR = 0.0015;

export class Painting {
  marks = $state.raw<readonly Mark[]>([]);
  tool = $state<Tool>("brush");
  /** Of the brush, as a fraction of the longer side. */
  size = $state(0.08);
  #undone = $state.raw<readonly Mark[]>([]);
  #key: string;

  constructor(imageId: string, marks: readonly Mark[]) {
    this.#key = `mask:${imageId}`;
    const kept = tabStore.get(this.#key);
    this.marks = kept === null ? marks : (JSON.parse(kept) as Mark[]);
  }

  get canUndo(): boolean {
    return this.marks.length > 0;
  }

  get canRedo(): boolean {
    return this.#undone.length > 0;
  }

  add(mark: Mark): void {
    this.#undone = [];
    this.#keep([...this.marks, mark]);
  }

  undo(): void {
    const last = this.marks.at(-1);
    if (!last) return;
    this.#undone = [...this.#undone, last];
    this.#keep(this.marks.slice(0, -1));
  }

  redo(): void {
    const last = this.#undone.at(-1);
    if (!last) return;
    this.#undone = this.#undone.slice(0, -1);
    this.#keep([...this.marks, last]);
  }

  resize(factor: number): void {
    this.size = Math.min(Math.max(this.size * factor, SMALLEST), LARGEST);
  }

  /** The mask is used, or given up: nothing has to be kept. */
  forget(): void {
    tabStore.remove(this.#key);
  }

  #keep(marks: readonly Mark[]): void {
    this.marks = marks;
    tabStore.set(this.#key, JSON.stringify(marks));
  }
}

/** Add a point to a stroke, unless it is nearly the one before. Returns whether it was added. */
export function addPoint(points: [number, number][], x: number, y: number): boolean {
  const last = points.at(-1);
  if (last && Math.hypot(last[0] - x, last[1] - y) < NEAR) return false;
  points.push([round(x), round(y)]);
  return true;
}

function round(value: number): number {
  return Math.round(value * 1e4) / 1e4;
}
