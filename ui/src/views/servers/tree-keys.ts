// The keys of the tree, after the ARIA practices for tree views. Pure: says what a key means for the rows as they are.
import { fold } from './fold';
import type { Row } from './places';

export type TreeWish =
  | { wish: 'go'; index: number }
  | { wish: 'open' | 'close'; index: number }
  | { wish: 'open_siblings' | 'connect' | 'favourite' | 'select'; index: number };

/** Letters typed in a row are one search until the user pauses. */
export const pause_ms = 700;

export class Typeahead {
  #typed = '';
  #last = Number.NEGATIVE_INFINITY;

  active(now: number): boolean {
    return this.#typed !== '' && now - this.#last < pause_ms;
  }

  /** The row to go to after one more letter; -1 when none begins so. */
  next(letter: string, rows: readonly Row[], at: number, now: number): number {
    this.#typed = this.active(now) ? this.#typed + letter : letter;
    this.#last = now;
    const wanted = fold(this.#typed);
    if (wanted === '') return -1;
    // The same letter again goes on to the next; a longer search may stay where it is.
    const from = wanted.length === 1 ? at + 1 : at;
    for (let step = 0; step < rows.length; step += 1) {
      const index = (from + step) % rows.length;
      const row = rows[index];
      if (row && fold(row.node.name).startsWith(wanted)) return index;
    }
    return -1;
  }
}

/** What a key means at row `at`; null when it means nothing to the tree. */
export function treeWish(
  event: Pick<KeyboardEvent, 'key' | 'ctrlKey' | 'metaKey' | 'altKey'>,
  rows: readonly Row[],
  at: number,
  page: number,
  rightToLeft: boolean,
  typeahead: Typeahead,
  now: number
): TreeWish | null {
  const row = rows[at];
  if (!row || event.ctrlKey || event.metaKey || event.altKey) return null;
  const last = rows.length - 1;
  const forwards = rightToLeft ? 'ArrowLeft' : 'ArrowRight';
  const backwards = rightToLeft ? 'ArrowRight' : 'ArrowLeft';
  const go = (index: number): TreeWish => ({ wish: 'go', index: Math.min(last, Math.max(0, index)) });

  switch (event.key) {
    case 'ArrowDown':
      return go(at + 1);
    case 'ArrowUp':
      return go(at - 1);
    case 'PageDown':
      return go(at + page);
    case 'PageUp':
      return go(at - page);
    case 'Home':
      return go(0);
    case 'End':
      return go(last);
    case 'Enter':
      return { wish: 'connect', index: at };
    case ' ':
      return { wish: 'select', index: at };
    case '*':
      return { wish: 'open_siblings', index: at };
    case forwards:
      if (row.expanded === null) return null;
      return row.expanded ? go(at + 1) : { wish: 'open', index: at };
    case backwards:
      if (row.expanded) return { wish: 'close', index: at };
      return row.parent >= 0 ? go(row.parent) : null;
  }
  if (event.key.length !== 1) return null;
  // "f" alone marks a favourite; inside a word it is a letter.
  if (event.key === 'f' && !typeahead.active(now)) return { wish: 'favourite', index: at };
  const index = typeahead.next(event.key, rows, at, now);
  return index >= 0 ? { wish: 'go', index } : null;
}
