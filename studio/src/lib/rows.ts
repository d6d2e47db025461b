/** Rows of images that fill a width, each at its own shape, in reading order. */
export interface Row<Item> {
  /** Names the row while the images before it stay the same. */
  key: string;
  height: number;
  cells: { item: Item; width: number }[];
}

const NARROWEST = 0.55;
const WIDEST = 2.4;
/** How much higher than the others the last row may be, so that it fills the width. */
const HIGHEST = 1.2;

interface Sizes {
  width: number;
  height: number;
  gap: number;
}

/**
 * Returns a function that lays out images in rows of about `height` pixels, `gap` between them.
 *
 * Rows that have not changed since its last call are the same objects, so that a page which is
 * added to thousands of images costs no more than the first.
 */
export function makeLayout<Item extends { id: string; width: number; height: number }>() {
  let before: readonly Row<Item>[] = [];
  let sizes = "";

  return (items: readonly Item[], { width, height, gap }: Sizes): readonly Row<Item>[] => {
    const now = `${width} ${height} ${gap}`;
    const rows = now === sizes ? keep(before.slice(0, -1), items) : [];
    const start = rows.reduce((count, row) => count + row.cells.length, 0);
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

    for (const item of items.slice(start)) {
      const ratio = Math.min(Math.max(item.width / item.height, NARROWEST), WIDEST);
      line.push({ item, ratio });
      ratios += ratio;
      const fitting = (width - gap * (line.length - 1)) / ratios;
      if (fitting <= height) finish(fitting);
    }
    if (line.length) {
      const fitting = (width - gap * (line.length - 1)) / ratios;
      finish(fitting <= height * HIGHEST ? fitting : height);
    }
    sizes = now;
    before = rows;
    return rows;
  };
}

/** The rows from the start that still hold exactly these items. */
function keep<Item>(rows: readonly Row<Item>[], items: readonly Item[]): Row<Item>[] {
  let start = 0;
  const changed = rows.findIndex(({ cells }) => {
    const same = cells.every(({ item }, index) => item === items[start + index]);
    start += cells.length;
    return !same;
  });
  return rows.slice(0, changed === -1 ? undefined : changed);
}
