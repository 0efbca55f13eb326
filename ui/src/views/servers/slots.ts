// Which row of the tree uses which element of the page. A row that stays keeps its own, and with it the focus; a new row takes one that
// another has left: to fill in other words is much faster than to make a row, and each letter in the search brings other rows.

export class Slots {
  private held = new Map<string, number>();
  private made = 0;

  /** A number for each row, in their order. No two rows have the same. */
  assign(rows: readonly string[]): number[] {
    const staying = new Set(rows);
    const free = [...this.held].filter(([row]) => !staying.has(row)).map(([, slot]) => slot);
    const next = new Map<string, number>();
    for (const row of rows) next.set(row, this.held.get(row) ?? free.shift() ?? this.made++);
    this.held = next;
    return rows.map((row) => next.get(row) ?? 0);
  }
}
