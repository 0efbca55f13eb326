// Which row of the tree uses which element of the page. A row that stays keeps its own, and with it the focus; a new row takes one that
// another has left: to fill in other words is much faster than to make a row, and each letter in the search brings other rows. So rows
// that are left over for now stay in the page, out of sight.

export class Slots {
  private held = new Map<string, number>();
  private made = 0;
  private left: number[] = [];

  /** A number for each row, in their order. No two rows have the same. */
  assign(rows: readonly string[]): number[] {
    const staying = new Set(rows);
    const leaving = [...this.held].filter(([row]) => !staying.has(row)).map(([, slot]) => slot);
    // Those that were in sight stand where the new rows will.
    const free = [...leaving, ...this.left];
    const next = new Map<string, number>();
    for (const row of rows) next.set(row, this.held.get(row) ?? free.shift() ?? this.made++);
    this.held = next;
    this.left = free;
    return rows.map((row) => next.get(row) ?? 0);
  }

  /** The numbers that no row has now. */
  get spare(): readonly number[] {
    return this.left;
  }
}

/** A list that is looked at through a window. */
export interface Sight {
  /** How many rows there are. */
  rows: number;
  /** How many rows are above the window; with a fraction. */
  scrolled: number;
  /** How many rows the window can show at once. */
  fits: number;
  /** How many rows beyond each edge are there already while somebody scrolls. */
  overscan: number;
}

/** The first row that must exist, and the one after the last. */
export function inSightOf({ rows, scrolled, fits, overscan }: Sight): { first: number; end: number } {
  const top = Math.max(0, Math.min(rows - fits, Math.floor(scrolled)));
  // Nobody scrolls at the top, where each search begins: rows that nobody sees are not made for every letter.
  const beyond = top === 0 ? 0 : overscan;
  return { first: Math.max(0, top - overscan), end: Math.max(0, Math.min(rows, top + fits + beyond)) };
}
