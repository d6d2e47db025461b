/** The order of a list after some of its items have been moved. */

/** By a step, or to an end. */
export function moved<Item>(
  items: readonly Item[],
  chosen: ReadonlySet<Item>,
  where: "start" | "earlier" | "later" | "end",
): Item[] {
  const { those, others } = split(items, chosen);
  if (where === "start") return [...those, ...others];
  if (where === "end") return [...others, ...those];
  const first = items.findIndex((item) => chosen.has(item));
  const place = others.indexOf(items.slice(first).find((item) => !chosen.has(item)) as Item);
  const before = place < 0 ? others.length : place;
  const target = Math.min(Math.max(before + (where === "earlier" ? -1 : 1), 0), others.length);
  return [...others.slice(0, target), ...those, ...others.slice(target)];
}

/** To where another item is: before it, or after it. */
export function movedTo<Item>(
  items: readonly Item[],
  chosen: ReadonlySet<Item>,
  target: Item,
  side: "before" | "after",
): Item[] {
  const { those, others } = split(items, chosen);
  // A chosen target stays where it is: what lies in front of it, and is not chosen, stays in front.
  const start = items.slice(0, items.indexOf(target) + (side === "after" ? 1 : 0));
  const place = start.filter((item) => !chosen.has(item)).length;
  return [...others.slice(0, place), ...those, ...others.slice(place)];
}

function split<Item>(items: readonly Item[], chosen: ReadonlySet<Item>): { those: Item[]; others: Item[] } {
  return { those: items.filter((item) => chosen.has(item)), others: items.filter((item) => !chosen.has(item)) };
}
