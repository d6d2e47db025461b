/** A key by which the server knows what it has been asked before. Not `randomUUID`, which a page without TLS does not have. */
export function makeKey(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
