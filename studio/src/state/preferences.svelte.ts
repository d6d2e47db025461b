/** What this person has chosen, remembered by this browser: theme, language, last used options. */
import { browserStore } from "../lib/storage";

export type Theme = "system" | "light" | "dark";
export type Language = "en" | "pt";

interface Stored {
  theme: Theme;
  language: Language;
  /** Ids of models that were used last, from text and with images. */
  fromText: string[];
  fromImages: string[];
  ratio: string;
  resolution: string;
  quality: string;
  format: string;
  count: number;
  caption: CaptionChoice;
}

/** Who writes the captions of posts, and how. Empty: the default, the language of the message. */
export interface CaptionChoice {
  model: string;
  language: string;
  tone: string;
  maxLength: number;
  hashtags: number;
}

const KEY = "darkroom.preferences";
const DEFAULTS: Stored = {
  theme: "system",
  language: navigator.language.toLowerCase().startsWith("pt") ? "pt" : "en",
  fromText: [],
  fromImages: [],
  ratio: "",
  resolution: "",
  quality: "",
  format: "",
  count: 1,
  caption: { model: "", language: "", tone: "", maxLength: 600, hashtags: 0 },
};

class Preferences {
  #stored = $state(read());

  constructor() {
    addEventListener("storage", (event) => {
      if (event.key === KEY) this.#stored = read();
    });
  }

  get current(): Readonly<Stored> {
    return this.#stored;
  }

  change(some: Partial<Stored>): void {
    this.#stored = { ...this.#stored, ...some };
    browserStore.set(KEY, JSON.stringify(this.#stored));
  }
}

function read(): Stored {
  try {
    return { ...DEFAULTS, ...(JSON.parse(browserStore.get(KEY) ?? "{}") as Partial<Stored>) };
  } catch {
    return DEFAULTS;
  }
}

export const preferences = new Preferences();
