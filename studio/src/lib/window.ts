/** Which rows of a long list are on the screen, or near it. */
export interface Span {
  readonly start: number;
  readonly end: number;
}

/** The tops of rows that lie below one another, and behind them the height of all. */
export function stack(rows: readonly { readonly height: number }[], gap: number): number[] {
  const tops = [0];
  for (const { height } of rows) tops.push(tops.at(-1)! + height + gap);
  return tops;
}

/** The rows between two heights. */
export function rowsBetween(tops: readonly number[], top: number, bottom: number): Span {
  const start = Math.max(0, firstAfter(tops, top) - 1);
  return { start, end: Math.min(tops.length - 1, firstAfter(tops, bottom)) };
}

/** The first row that begins below this height. */
function firstAfter(tops: readonly number[], height: number): number {
  let low = 0;
  let high = tops.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (tops[middle]! > height) high = middle;
    else low = middle + 1;
  }
  return low;
}
