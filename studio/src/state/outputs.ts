/** What a tile needs of the turn or post that its output belongs to, and what it may ask for. */
import type { OutputData, TurnData } from "../api/documents";

export type OutputParent = Pick<TurnData, "userMessage" | "aspectRatio" | "references"> & {
  readonly options: Pick<TurnData["options"], "imagesPerModel" | "quality">;
};

export interface OutputActions {
  retry(output: OutputData, modelId?: string): Promise<void>;
  cancel(output: OutputData): Promise<void>;
  /** Let the next turn go on from it, or no longer. Nothing goes on from a post. */
  choose?(output: OutputData): Promise<void>;
  /** The ids of outputs that ended while nobody could see it. */
  readonly missed?: ReadonlySet<string>;
  /** The person has looked at it. */
  see?(output: OutputData): void;
}
