/** One post, live: its caption as it is written, then its outputs; and what can be done to them. */
import { accepted, follow, mutate } from "../api/client";
import {
  CancelInPost,
  CancelPost,
  DeletePost,
  PostUpdated,
  RegenerateCaption,
  RetryInPost,
  type ImageData,
  type OutputData,
  type PostData,
} from "../api/documents";
import { once } from "../api/once";
import { i18n } from "../i18n/index.svelte";
import { announcer } from "./announcer.svelte";
import { gallery } from "./gallery.svelte";
import { imageOf, remember } from "./images.svelte";
import { announceOutput } from "./turns.svelte";

export class Post {
  state = $state<"loading" | "ready" | "missing">("loading");
  data = $state.raw<PostData | null>(null);
  /** All images, in the order of the models. */
  images: readonly ImageData[] = $derived(
    this.data?.outputs.flatMap(({ images }) => images.map(imageOf)) ?? [],
  );
  #stop = (): void => {};

  constructor(readonly id: string) {}

  /** Follow it until `close`. The first update is the state that it is in. */
  open(): void {
    const { id } = this;
    this.#stop = follow(
      PostUpdated,
      { id },
      {
        onData: ({ postUpdated }) => this.#show(postUpdated),
        onEnd: () => void (this.state = "missing"),
      },
    );
  }

  close(): void {
    this.#stop();
  }

  async retry(output: OutputData, modelId?: string): Promise<void> {
    await once(`retry ${output.id} ${output.attempt} ${modelId}`, async (idempotencyKey) => {
      const input = { outputId: output.id, modelId, idempotencyKey };
      this.#show(accepted((await mutate(RetryInPost, { input })).retryOutput).post!);
    });
  }

  async cancel(output: OutputData): Promise<void> {
    const input = { outputId: output.id };
    this.#show(accepted((await mutate(CancelInPost, { input })).cancelOutput).post!);
  }

  async cancelAll(): Promise<void> {
    const input = { postId: this.id };
    this.#show(accepted((await mutate(CancelPost, { input })).cancelPost).post!);
  }

  async rewrite(): Promise<void> {
    await once(`rewrite ${this.id} ${this.data?.updatedAt}`, async (idempotencyKey) => {
      const input = { postId: this.id, idempotencyKey };
      this.#show(accepted((await mutate(RegenerateCaption, { input })).regenerateCaption).post!);
    });
  }

  async remove(): Promise<void> {
    accepted((await mutate(DeletePost, { input: { postId: this.id } })).deletePost);
  }

  /** Show it, unless a newer state of it is shown already. */
  #show(data: PostData): void {
    const before = this.data;
    if (before && before.updatedAt > data.updatedAt) return;
    for (const { image } of data.references) remember(image);
    for (const output of data.outputs) {
      output.images.forEach(remember);
      const earlier = before?.outputs.find(({ id }) => id === output.id);
      if (before && earlier?.status !== output.status) this.#announce(output);
    }
    if (before?.status === "GENERATING_CAPTION" && data.status !== "GENERATING_CAPTION") {
      announcer.speak(data.captionError ? i18n.t.posts.failed : i18n.t.posts.captionReady);
    }
    this.data = data;
    this.state = "ready";
  }

  #announce(output: OutputData): void {
    announceOutput(output);
    if (output.status === "COMPLETED") for (const image of output.images) gallery.add(imageOf(image));
  }
}
