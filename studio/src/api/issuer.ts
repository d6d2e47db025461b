/**
 * Signing in at the issuer: OpenID Connect, the authorization code flow with PKCE.
 *
 * Tokens are in memory only. After a reload the issuer's own session gives new ones.
 */
import * as oauth from "oauth4webapi";
import { page } from "../lib/page";
import { tabStore } from "../lib/storage";

const KEY = "darkroom.signing-in";
const HOME = "/studio/";
/** The issuer has no session, or wants to ask the person something. */
const ASKS = ["login_required", "interaction_required", "consent_required", "account_selection_required"];

const facts = page.signIn!;
const issuer = new URL(facts.issuer);
const client: oauth.Client = { client_id: facts.clientId };
// Only where the server has accepted an issuer on this machine.
const options = issuer.protocol === "http:" ? { [oauth.allowInsecureRequests]: true } : {};

/** What was begun before the page was left. */
interface Departure {
  verifier: string;
  state: string;
  nonce: string;
  path: string;
}

export interface Tokens {
  /** What the API is asked with. */
  token: string;
  /** Whom to show as signed in. */
  name: string;
  idToken: string | undefined;
  refreshToken: string | undefined;
}

let known: Promise<oauth.AuthorizationServer> | undefined;

async function discover(): Promise<oauth.AuthorizationServer> {
  known ??= oauth
    .discoveryRequest(issuer, options)
    .then((response) => oauth.processDiscoveryResponse(issuer, response));
  try {
    return await known;
  } catch (error) {
    known = undefined;
    throw error;
  }
}

/** Leave for the issuer, and come back to this view. `silently`: only if nobody has to be asked. */
export async function depart(silently: boolean): Promise<void> {
  const server = await discover();
  const departure: Departure = {
    verifier: oauth.generateRandomCodeVerifier(),
    state: oauth.generateRandomState(),
    nonce: oauth.generateRandomNonce(),
    path: location.pathname,
  };
  const url = new URL(server.authorization_endpoint!);
  const parameters = {
    response_type: "code",
    client_id: facts.clientId,
    redirect_uri: redirectUri(),
    scope: facts.scopes,
    state: departure.state,
    nonce: departure.nonce,
    code_challenge: await oauth.calculatePKCECodeChallenge(departure.verifier),
    code_challenge_method: "S256",
    ...(facts.audience ? { audience: facts.audience } : {}),
    ...(silently ? { prompt: "none" } : {}),
  };
  for (const [name, value] of Object.entries(parameters)) url.searchParams.set(name, value);
  tabStore.set(KEY, JSON.stringify(departure));
  location.assign(url);
}

/** Whether this page was opened by the issuer, with an answer. */
export function isArrival(): boolean {
  const given = new URLSearchParams(location.search);
  return given.has("state") && (given.has("code") || given.has("error"));
}

/** Take the issuer's answer out of the address. Null where the issuer would have to ask the person. */
export async function arrive(): Promise<{ tokens: Tokens; path: string } | null> {
  const answer = new URL(location.href);
  const text = tabStore.get(KEY);
  tabStore.remove(KEY);
  // Before anything else reads the address: a code must not end up in history.
  history.replaceState(null, "", HOME);
  if (text === null) return null;
  const { verifier, state, nonce, path } = JSON.parse(text) as Departure;
  const server = await discover();
  try {
    const parameters = oauth.validateAuthResponse(server, client, answer, state);
    const response = await oauth.authorizationCodeGrantRequest(
      server,
      client,
      oauth.None(),
      parameters,
      redirectUri(),
      verifier,
      options,
    );
    const given = await oauth.processAuthorizationCodeResponse(server, client, response, {
      expectedNonce: nonce,
      requireIdToken: true,
    });
    return { tokens: tokensOf(given), path };
  } catch (error) {
    if (error instanceof oauth.AuthorizationResponseError && ASKS.includes(error.error)) {
      history.replaceState(null, "", path);
      return null;
    }
    throw error;
  }
}

/** New tokens for a refresh token. Null where the issuer has ended the session. */
export async function refresh(refreshToken: string): Promise<Tokens | null> {
  const server = await discover();
  const response = await oauth.refreshTokenGrantRequest(server, client, oauth.None(), refreshToken, options);
  try {
    const given = await oauth.processRefreshTokenResponse(server, client, response);
    const tokens = tokensOf(given);
    // An issuer that does not rotate them gives none.
    return { ...tokens, refreshToken: tokens.refreshToken ?? refreshToken };
  } catch (error) {
    if (error instanceof oauth.ResponseBodyError && error.error === "invalid_grant") return null;
    throw error;
  }
}

/** End the issuer's session too, and come back. Where it cannot be ended, only stay here. */
export async function leave(idToken: string | undefined): Promise<void> {
  const server = await discover();
  if (!server.end_session_endpoint) return;
  const url = new URL(server.end_session_endpoint);
  url.searchParams.set("client_id", facts.clientId);
  url.searchParams.set("post_logout_redirect_uri", redirectUri());
  if (idToken) url.searchParams.set("id_token_hint", idToken);
  location.assign(url);
}

function redirectUri(): string {
  return new URL(HOME, location.origin).href;
}

/** The access token where the API can read it, otherwise the ID token. */
function tokensOf(given: oauth.TokenEndpointResponse): Tokens {
  const { access_token: access, id_token: idToken, refresh_token: refreshToken } = given;
  const claims = idToken ? oauth.getValidatedIdTokenClaims(given) : undefined;
  const named = [claims?.name, claims?.preferred_username, claims?.email, claims?.sub];
  const name = named.find((value) => typeof value === "string" && value !== "");
  const isReadable = access.split(".").length === 3;
  return {
    token: isReadable || !idToken ? access : idToken,
    name: (name as string | undefined) ?? "",
    idToken,
    refreshToken,
  };
}
