import { describe, expect, it } from 'vitest';
import { inSightOf, Slots, type Sight } from '../../src/views/servers/slots';

describe('the elements of the tree', () => {
  it('are kept by rows that stay and taken over from rows that went', () => {
    const slots = new Slots();
    expect(slots.assign(['a', 'b', 'c'])).toEqual([0, 1, 2]);
    expect(slots.assign(['b', 'c', 'd'])).toEqual([1, 2, 0]);
    expect(slots.assign(['x', 'c', 'y'])).toEqual([1, 2, 0]);
    expect(slots.spare).toEqual([]);
    expect(slots.assign(['x'])).toEqual([1]);
    expect(slots.spare).toEqual([2, 0]);
    // Those that are left over come first; one more is made.
    expect(slots.assign(['p', 'x', 'q', 'r'])).toEqual([2, 1, 0, 3]);
    expect(slots.spare).toEqual([]);
  });

  it('are never shared, and no more than there were rows at once', () => {
    const slots = new Slots();
    for (let round = 0; round < 200; round += 1) {
      const rows = Array.from({ length: 30 }, (_, n) => `row ${(round * 7 + n * (1 + (round % 3))) % 400}`);
      const given = slots.assign([...new Set(rows)]);
      expect(new Set(given).size).toBe(given.length);
      expect(Math.max(...given)).toBeLessThan(30);
      // Each element has a row or is spare, never both.
      const all = [...given, ...slots.spare].sort((a, b) => a - b);
      expect(all).toEqual(all.map((_, n) => n));
    }
  });
});

describe('the rows that exist', () => {
  const sight = (changes: Partial<Sight>) =>
    inSightOf({ rows: 10_000, scrolled: 0, fits: 10, overscan: 5, ...changes });

  it('are those in the window, with some beyond its edges while it is scrolled', () => {
    expect(sight({})).toEqual({ first: 0, end: 10 });
    expect(sight({ scrolled: 0.9 })).toEqual({ first: 0, end: 10 });
    expect(sight({ scrolled: 1 })).toEqual({ first: 0, end: 16 });
    expect(sight({ scrolled: 400.5 })).toEqual({ first: 395, end: 415 });
  });

  it('end with the list', () => {
    expect(sight({ rows: 0 })).toEqual({ first: 0, end: 0 });
    expect(sight({ rows: 3 })).toEqual({ first: 0, end: 3 });
    expect(sight({ rows: 3, scrolled: 7 })).toEqual({ first: 0, end: 3 });
    expect(sight({ scrolled: 9_999 })).toEqual({ first: 9_985, end: 10_000 });
    expect(sight({ scrolled: -3 })).toEqual({ first: 0, end: 10 });
  });

  it('cover the window wherever it is', () => {
    for (let scrolled = 0; scrolled <= 40; scrolled += 0.25) {
      const { first, end } = sight({ rows: 50, scrolled });
      expect(first).toBeLessThanOrEqual(Math.floor(scrolled));
      expect(end).toBeGreaterThanOrEqual(Math.min(50, Math.ceil(scrolled + 9)));
      expect(end - first).toBeLessThanOrEqual(20);
    }
  });
});
