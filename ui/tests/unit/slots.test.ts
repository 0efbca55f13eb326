import { describe, expect, it } from 'vitest';
import { Slots } from '../../src/views/servers/slots';

describe('the elements of the tree', () => {
  it('are kept by rows that stay and taken over from rows that went', () => {
    const slots = new Slots();
    expect(slots.assign(['a', 'b', 'c'])).toEqual([0, 1, 2]);
    expect(slots.assign(['b', 'c', 'd'])).toEqual([1, 2, 0]);
    expect(slots.assign(['x', 'c', 'y'])).toEqual([1, 2, 0]);
    expect(slots.assign(['x'])).toEqual([1]);
    expect(slots.assign(['p', 'x', 'q'])).toEqual([3, 1, 4]);
  });

  it('are never shared, and no more than there were rows at once', () => {
    const slots = new Slots();
    for (let round = 0; round < 200; round += 1) {
      const rows = Array.from({ length: 30 }, (_, n) => `row ${(round * 7 + n * (1 + (round % 3))) % 400}`);
      const given = slots.assign([...new Set(rows)]);
      expect(new Set(given).size).toBe(given.length);
      expect(Math.max(...given)).toBeLessThan(60);
    }
  });
});
