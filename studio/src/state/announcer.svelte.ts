/** What screen readers are told, and the short messages that everybody sees. */
export interface Toast {
  id: number;
  text: string;
  tone: "plain" | "bad";
}

const SECONDS = 6;

class Announcer {
  /** Read aloud when it changes. */
  spoken = $state("");
  toasts = $state<Toast[]>([]);
  #count = 0;

  speak(text: string): void {
    // The same sentence twice would not be a change.
    this.spoken = text === this.spoken ? `${text}\u00a0` : text;
  }

  show(text: string, tone: Toast["tone"] = "plain"): void {
    const id = (this.#count += 1);
    this.toasts.push({ id, text, tone });
    setTimeout(() => this.dismiss(id), SECONDS * 1000);
    this.speak(text);
  }

  dismiss(id: number): void {
    this.toasts = this.toasts.filter((toast) => toast.id !== id);
  }
}

export const announcer = new Announcer();
