/** The messages in the person's language. */
import { ApiError, Refused } from "../api/client";
import { preferences, type Language } from "../state/preferences.svelte";
import { en, type Messages } from "./en";

class I18n {
  t = $state.raw<Messages>(en);
  language = $state<Language>("en");

  /** Load the messages of a language. Portuguese is only fetched by those who read it. */
  async use(language: Language): Promise<void> {
    this.t = language === "pt" ? (await import("./pt")).pt : en;
    this.language = language;
    document.documentElement.lang = language === "pt" ? "pt-BR" : "en";
    if (preferences.current.language !== language) preferences.change({ language });
  }

  /** What to tell a person about an error of an operation. */
  explain(error: unknown): string {
    if (error instanceof Refused) {
      return error.userErrors.map(({ code, message }) => this.byCode(code, message)).join(" ");
    }
    if (!(error instanceof ApiError)) return this.t.unexpected;
    if (error.code === "OFFLINE") return this.t.noConnection;
    if (["OVERLOADED", "DEADLINE_EXCEEDED"].includes(error.code)) return this.t.overloaded;
    return error.code === "INTERNAL" ? this.t.unexpected : this.byCode(error.code, error.message);
  }

  /** The API's sentence, or ours for its code in another language. */
  byCode(code: string, message: string): string {
    const codes: Record<string, string> = this.t.codes;
    return codes[code] ?? message;
  }

  number(value: number): string {
    return value.toLocaleString(document.documentElement.lang);
  }

  date(iso: string): string {
    return new Date(iso).toLocaleString(document.documentElement.lang, {
      dateStyle: "medium",
      timeStyle: "short",
    });
  }
}

export const i18n = new I18n();
