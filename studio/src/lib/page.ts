/** What the server has told this page. */
export interface SignInFacts {
  issuer: string;
  clientId: string;
  scopes: string;
  /** What the token is to be for, where the issuer asks which. */
  audience: string | null;
}

function read(name: string): string {
  return document.querySelector<HTMLMetaElement>(`meta[name="darkroom-${name}"]`)?.content ?? "";
}

const signInText = read("sign-in");

export const page = {
  development: read("environment") === "development",
  /** Where people sign in; null where the page is opened with a token. */
  signIn: signInText ? (JSON.parse(signInText) as SignInFacts) : null,
};
