/** Rows of images that fill a width, each at its own shape, in reading order. */
export interface Row<Item> {
  /** Names the row while the images before it stay the same. */
  key: string;
  height: number;
  cells: { item: Item; width: number }[];
}

const NARROWEST = 0.55;
const WIDEST = 2.4;

/** Lay out images: rows of about `height` pixels, `gap` between their images. */
export function layOut<Item extends { id: string; width: number; height: number }>(
  items: readonly Item[],
  { width, height, gap }: { width: number; height: number; gap: number },
): Row<Item>[] {
  const rows: Row<Item>[] = [];
  let line: { item: Item; ratio: number }[] = [];
  let ratios = 0;

  const finish = (rowHeight: number): void => {
    rows.push({
      key: line[0]!.item.id,
      height: rowHeight,
      cells: line.map(({ item, ratio }) => ({ item, width: ratio * rowHeight })),
    });
    line = [];
    ratios = 0;
  };

  for (const item of items) {
    const ratio = Math.min(Math.max(item.width / item.height, NARROWEST), WIDEST);
    line.push({ item, ratio });
    ratios += ratio;
    const fitting = (width - gap * (line.length - 1)) / ratios;
    if (fitting <= height) finish(fitting);
  }
  // The last row is as high as the others, unless a single image is wider than the page.
  if (line.length) finish(Math.min(height, (width - gap * (line.length - 1)) / ratios));
  return rows;
}
